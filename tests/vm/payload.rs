//! What a machine is given: a read-only disk with the Debian package, the image archives and the manifests.

use std::path::{Path, PathBuf};
use std::process::Command;

pub const IMAGE: &str = "payload.img";

/// Room for the archives and the package.
const BYTES: u64 = 256 << 20;

/// Writes the disk's image into the machine's folder.
pub fn make(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let content = folder.join("payload");
    std::fs::create_dir_all(&content).expect("a folder");
    for (from, to) in [
        (package(root), "pinlet.deb"),
        (root.join(".cache/images/nodejs-web-app.tar"), "nodejs-web-app.tar"),
        (root.join(".cache/images/busybox.tar"), "busybox.tar"),
    ] {
        std::fs::copy(&from, content.join(to))
            .unwrap_or_else(|e| panic!("{}: {e}; make vm-test makes it", from.display()));
    }
    for (name, text) in super::manifests::ALL {
        std::fs::write(content.join(name), text).expect("a manifest");
    }
    let image = folder.join(IMAGE);
    std::fs::File::create(&image).and_then(|file| file.set_len(BYTES)).expect("an image");
    let made = Command::new("/sbin/mkfs.ext4").args(["-q", "-F", "-d"]).args([&content, &image]).output();
    let made = made.expect("mkfs.ext4 runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::remove_dir_all(&content).expect("the content is copied");
}

/// The newest package that `make package` left.
fn package(root: &Path) -> PathBuf {
    let packages = std::fs::read_dir(root.join("target")).expect("target/").flatten().map(|entry| entry.path());
    let packages = packages.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let newest = packages.max_by_key(|path| path.metadata().and_then(|m| m.modified()).expect("a file"));
    newest.expect("target/*.deb: make package makes it")
}
