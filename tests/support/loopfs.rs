//! A small ext4 of its own on a loop device: for full disks, frozen disks, and devices that must not open.

use super::verb::{tool, tool_quiet};
use std::path::{Path, PathBuf};

/// Unmounted when dropped, thawed first; the node's purge does the same for one that was forgotten.
pub struct LoopFs {
    pub mount: PathBuf,
}

impl LoopFs {
    /// `mib` MiB of ext4 without reserved blocks, mounted at `dir/name`.
    pub fn new(dir: &Path, name: &str, mib: u32) -> LoopFs {
        let image = dir.join(format!("{name}.img"));
        let mount = dir.join(name);
        let file = std::fs::File::create(&image).expect("a fresh directory");
        file.set_len(u64::from(mib) << 20).expect("a sparse file");
        std::fs::create_dir_all(&mount).expect("a fresh directory");
        let (image, at) = (image.to_string_lossy(), mount.to_string_lossy());
        tool(&["mkfs.ext4", "-q", "-m", "0", "-F", &image]);
        tool(&["mount", "-o", "loop", &image, &at]);
        LoopFs { mount }
    }

    pub fn freeze(&self) {
        tool(&["fsfreeze", "--freeze", &self.mount.to_string_lossy()]);
    }

    pub fn thaw(&self) {
        tool_quiet(&["fsfreeze", "--unfreeze", &self.mount.to_string_lossy()]);
    }

    /// `major:minor` of its device.
    pub fn device(&self) -> (u64, u64) {
        use std::os::linux::fs::MetadataExt;
        let device = std::fs::metadata(&self.mount).expect("mounted").st_dev();
        (nix::sys::stat::major(device), nix::sys::stat::minor(device))
    }
}

impl Drop for LoopFs {
    fn drop(&mut self) {
        self.thaw();
        let _ = nix::mount::umount2(&self.mount, nix::mount::MntFlags::MNT_DETACH);
    }
}
