//! The container's root: image layers and a writable directory as one overlay mount.
//!
//! mount(2) cuts its options at one page without an error, so names are relative to where most of them lie and the
//! length is checked; what is too long goes layer by layer through the new mount API, where the kernel has it.

use crate::sys::mount_tree::{OPTIONS_BYTES_MAX, overlay, overlay_by_layer};
use crate::sys::process::EINVAL;
use std::ffi::CString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

/// The writable layer is new at each start and thrown away after it: `volatile` spares the disk the syncing of it,
/// which would hold up the container's end.
const FIXED_OPTIONS: &str = "index=off,volatile";

#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    #[error("directory {0} cannot be made")]
    Directory(PathBuf, #[source] io::Error),
    #[error("directory {0} cannot be entered")]
    Enter(PathBuf, #[source] io::Error),
    #[error(
        "the {count} layers of the image need {bytes} bytes of mount options, and this kernel takes only {OPTIONS_BYTES_MAX}"
    )]
    TooManyLayers { count: usize, bytes: usize },
    #[error("the root file system cannot be mounted from {0} layers")]
    Mount(usize, #[source] io::Error),
}

/// What is put together.
pub struct Parts<'a> {
    /// Top layer first.
    pub layers: &'a [PathBuf],
    pub upper: &'a Path,
    pub work: &'a Path,
    pub nodev: bool,
}

/// Mounts at `target` (made if missing). Leaves the process in `/`.
pub fn mount(target: &Path, parts: &Parts<'_>) -> Result<(), OverlayError> {
    for dir in [target, parts.upper, parts.work] {
        make_dir(dir)?;
    }
    if let Some(Ok(image_root)) = parts.layers.first().map(fs::metadata) {
        // The container's `/` is the upper directory: it belongs to whom the image says.
        let given = chown(parts.upper, Some(image_root.uid()), Some(image_root.gid()));
        given.map_err(|e| OverlayError::Directory(parts.upper.to_owned(), e))?;
    }
    let outcome = mount_parts(target, parts);
    std::env::set_current_dir("/").map_err(|e| OverlayError::Enter("/".into(), e))?;
    outcome
}

fn mount_parts(target: &Path, parts: &Parts<'_>) -> Result<(), OverlayError> {
    let count = parts.layers.len();
    let empty = target.with_file_name("empty");
    let layers: Vec<&Path> = match parts.layers {
        // An image without layers still has a root.
        [] => {
            make_dir(&empty)?;
            vec![&empty]
        }
        layers => layers.iter().map(PathBuf::as_path).collect(),
    };
    let all: Vec<&Path> = layers.iter().copied().chain([parts.upper, parts.work]).collect();
    let mut shortest = usize::MAX;
    for base in [common_parent(&all), common_parent(&layers)] {
        let options = options(&base, &layers, parts);
        shortest = shortest.min(options.len());
        if options.len() <= OPTIONS_BYTES_MAX {
            std::env::set_current_dir(&base).map_err(|e| OverlayError::Enter(base.clone(), e))?;
            return overlay(target, &options, parts.nodev).map_err(|e| OverlayError::Mount(count, e));
        }
    }
    by_layer(target, &layers, parts).map_err(|error| match error.raw_os_error() {
        Some(EINVAL) => OverlayError::TooManyLayers { count, bytes: shortest },
        _ => OverlayError::Mount(count, error),
    })
}

fn by_layer(target: &Path, layers: &[&Path], parts: &Parts<'_>) -> io::Result<()> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
    let (upper, work) = (text(parts.upper)?, text(parts.work)?);
    let options = [(c"upperdir", upper.as_c_str()), (c"workdir", work.as_c_str()), (c"index", c"off")];
    overlay_by_layer(target, layers, &options, &[c"volatile"], parts.nodev)
}

fn options(base: &Path, layers: &[&Path], parts: &Parts<'_>) -> String {
    let name = |path: &Path| escape(path.strip_prefix(base).unwrap_or(path));
    let lower: Vec<String> = layers.iter().map(|layer| name(layer)).collect();
    let (upper, work) = (name(parts.upper), name(parts.work));
    format!("lowerdir={},upperdir={upper},workdir={work},{FIXED_OPTIONS}", lower.join(":"))
}

/// overlayfs splits at commas and, between layers, at colons; a backslash takes the next character as it is.
fn escape(path: &Path) -> String {
    let text = path.to_string_lossy();
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, ',' | ':' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    if escaped.is_empty() { ".".to_owned() } else { escaped }
}

fn common_parent(paths: &[&Path]) -> PathBuf {
    let Some((first, rest)) = paths.split_first() else { return "/".into() };
    let shared = first.ancestors().skip(1).find(|a| rest.iter().all(|p| p.starts_with(a) && p != a));
    shared.unwrap_or(Path::new("/")).to_owned()
}

fn make_dir(dir: &Path) -> Result<(), OverlayError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(dir);
    made.map_err(|e| OverlayError::Directory(dir.to_owned(), e))?;
    // Whatever our umask is: the container sees the upper directory as its root.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(dir, mode).map_err(|e| OverlayError::Directory(dir.to_owned(), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_relative_to_what_all_have_in_common() {
        let layers = [Path::new("/r/images/l/1"), Path::new("/r/images/l/2")];
        let (upper, work) = (Path::new("/r/pods/u/c/0/upper"), Path::new("/r/pods/u/c/0/work"));
        let all = [layers[0], layers[1], upper, work];
        assert_eq!(common_parent(&all), Path::new("/r"));
        assert_eq!(common_parent(&layers), Path::new("/r/images/l"));
        assert_eq!(common_parent(&layers[..1]), Path::new("/r/images/l"));
        let parts = Parts { layers: &[], upper, work, nodev: false };
        assert_eq!(
            options(Path::new("/r"), &layers, &parts),
            "lowerdir=images/l/1:images/l/2,upperdir=pods/u/c/0/upper,workdir=pods/u/c/0/work,index=off,volatile"
        );
    }

    #[test]
    fn separators_in_names_are_escaped() {
        assert_eq!(escape(Path::new("/a:b,c\\d")), "/a\\:b\\,c\\\\d");
    }
}
