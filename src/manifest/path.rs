//! Where a manifest lies, as the key of everything that is remembered of it.
//!
//! The standard library compares paths component by component, which on a node with many manifests was a good part of
//! what the loop did; these are absolute and cleaned, so that their bytes say the same. Clones are cheap.

use std::borrow::Borrow;
use std::ffi::OsStr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An absolute path, cleaned by `scan::clean`; ordered by its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ManifestPath(Arc<OsStr>);

impl Deref for ManifestPath {
    type Target = Path;

    fn deref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl Borrow<OsStr> for ManifestPath {
    fn borrow(&self) -> &OsStr {
        &self.0
    }
}

impl From<PathBuf> for ManifestPath {
    fn from(path: PathBuf) -> ManifestPath {
        ManifestPath(path.into_os_string().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_that_of_the_bytes() {
        let mut paths = ["/m/b.yaml", "/m/a/x", "/m/a.yaml"].map(|path| ManifestPath::from(PathBuf::from(path)));
        paths.sort();
        assert_eq!(paths.each_ref().map(|path| path.to_str().expect("UTF-8")), ["/m/a.yaml", "/m/a/x", "/m/b.yaml"]);
    }
}
