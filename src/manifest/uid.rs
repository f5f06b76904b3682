//! The pod's UID where the manifest gives none, and the hash that tells an edit.
//!
//! INVARIANT: what [`hash`] returns for a document, node and path never changes between releases; it hashes the
//! document as written, before any default. The golden vectors under `tests/data/manifest/uid` are never edited.

use sha2::{Digest, Sha256};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Of the hash's input. A second version would be a second function beside this one, for new pods only.
const VERSION: &str = "pinlet-uid-v1";
/// 32 hex digits.
const UID_BYTES: usize = 16;

/// `canonical` is `yaml::Document::canonical`; `path` is absolute and lexically cleaned.
pub(super) fn hash(canonical: &str, node_name: &str, path: &Path) -> String {
    let mut hash = Sha256::new();
    for part in [VERSION.as_bytes(), canonical.as_bytes(), node_name.as_bytes(), path.as_os_str().as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(UID_BYTES).map(|byte| format!("{byte:02x}")).collect()
}
