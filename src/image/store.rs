//! `<root-dir>/images`: unpacked layers by chain id, documents by digest, and which name is which image.
//!
//! ```text
//! lock                    held by whoever writes
//! index.json              name -> image
//! preload.json            archives of the preload directory that need not be read again
//! blobs/sha256/<digest>   manifests and configs as they came
//! l/<12 digits>/          unpacked layers; short names, because overlayfs wants 127 of them within one page
//! layers/<chain id>       symlink to a layer of l/ that is whole and on the disk: its marker
//! tmp/                    what an import needs while it runs
//! ```
//! INVARIANT: a marker is made after its layer was synced, and a name enters the index after all markers. What has no
//! marker is a leaving of a dead import and counts for nothing. The store keeps no state in memory: what is on the disk
//! is true, and readers need no lock, because every change is one rename.

use super::catalogue::FoundImage;
use super::digest::{Digest, chain_ids};
use super::preload::Retries;
use super::reference::{Reference, ReferenceError};
use super::wire::Config;
use crate::model::image::ImageFacts;
use crate::sys::file::{sync_dir, write_durable};
use crate::sys::openat::Dir;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use thiserror::Error;

const INDEX_VERSION: u32 = 1;
/// Digits of a chain id that name its directory; more, where two share them.
const SHORT_LEN: usize = 12;
/// The one layer of an image that has none: overlayfs needs a lower directory.
const EMPTY_LAYER: &str = "empty";

/// The images of this node. All methods take `&self` and may be called from any worker.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    pub(super) retries: Retries,
}

/// An image of the store under all its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    pub names: Vec<String>,
    /// What the names point to.
    pub digest: Option<String>,
    /// `sha256:...`: the image's id.
    pub config_digest: String,
    /// Bytes of manifest, config and layers as they were stored in the archive.
    pub size: u64,
    pub pinned: bool,
}

#[derive(Debug, Error)]
pub enum StoreError {
    #[error(transparent)]
    Name(#[from] ReferenceError),
    #[error("cannot {step} {path}")]
    Io {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path} is damaged")]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path} is of version {version}, written by a newer pinlet")]
    Newer { path: PathBuf, version: u32 },
    #[error("image {name} is not whole: {what} is missing; import it again")]
    NotWhole { name: String, what: String },
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    version: u32,
    images: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    digest: Digest,
    manifest: Digest,
    config: Digest,
    size: u64,
}

impl Store {
    /// Makes the directories that are missing. An index that cannot be read is put aside: the archives of the preload
    /// directory fill a new one.
    pub fn open(root_images: &Path) -> Result<Store, StoreError> {
        let store = Store { root: root_images.to_owned(), retries: Retries::default() };
        for name in ["", "blobs/sha256", "layers", "l", "tmp"] {
            let path = store.root.join(name);
            // Layers hold setuid programs: nobody but root may reach them.
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io_error("make", &path))?;
        }
        if let Err(error @ StoreError::Json { .. }) = store.read_index() {
            log::warn!("{}; it is put aside, and images are imported again", crate::error::chain(&error));
            let (from, to) = (store.path("index.json"), store.path("index.json.damaged"));
            fs::rename(&from, &to).map_err(io_error("put aside", &from))?;
            store.forget_preloads()?;
        }
        Ok(store)
    }

    /// What is needed to run `image`, a name as a manifest has it or `sha256:<config digest>`; `None` if it is not here.
    pub fn find(&self, image: &str) -> Result<Option<ImageFacts>, StoreError> {
        let index = self.read_index()?;
        if let Some(id) = Digest::parse(image)
            && let Some((name, entry)) = index.images.iter().find(|(_, entry)| entry.config == id)
        {
            return self.facts(name, entry).map(Some);
        }
        let reference = Reference::parse(image)?;
        match index.lookup(&reference) {
            Some(entry) => self.facts(&reference.to_string(), entry).map(Some),
            None => Ok(None),
        }
    }

    /// All images, ordered by their first names.
    pub fn list(&self) -> Result<Vec<StoredImage>, StoreError> {
        let mut by_id: BTreeMap<&Digest, StoredImage> = BTreeMap::new();
        let index = self.read_index()?;
        for (name, entry) in &index.images {
            let image = by_id.entry(&entry.config).or_insert_with(|| StoredImage {
                names: Vec::new(),
                digest: Some(entry.digest.to_string()),
                config_digest: entry.config.to_string(),
                size: entry.size,
                pinned: false,
            });
            image.names.push(name.clone());
        }
        let mut images: Vec<StoredImage> = by_id.into_values().collect();
        images.sort_by(|a, b| a.names.cmp(&b.names));
        Ok(images)
    }

    fn facts(&self, name: &str, entry: &Entry) -> Result<ImageFacts, StoreError> {
        let not_whole = |what: String| StoreError::NotWhole { name: name.to_owned(), what };
        let path = self.blob_path(&entry.config);
        let bytes = match fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == entry.config => bytes,
            Ok(_) => return Err(not_whole(format!("the right content of config {}", entry.config))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(not_whole(format!("config {}", entry.config)));
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let config: Config = serde_json::from_slice(&bytes).map_err(|source| StoreError::Json { path, source })?;
        let mut layers = Vec::with_capacity(config.rootfs.diff_ids.len().max(1));
        for id in chain_ids(&config.rootfs.diff_ids).iter().rev() {
            let layer = self.layer(id)?.ok_or_else(|| not_whole(format!("layer {id}")))?;
            layers.push(self.layers_dir().join(layer));
        }
        if layers.is_empty() {
            layers.push(self.layers_dir().join(EMPTY_LAYER));
        }
        Ok(ImageFacts {
            reference: name.to_owned(),
            image_id: entry.config.to_string(),
            layers,
            config: config.into_image_config(),
        })
    }

    /// The directory in `l/` that holds the layer, if it is whole.
    pub(super) fn layer(&self, chain_id: &Digest) -> Result<Option<String>, StoreError> {
        let marker = self.marker(chain_id);
        let target = match fs::read_link(&marker) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &marker)(error)),
        };
        let name = target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let there = fs::symlink_metadata(self.layers_dir().join(name)).is_ok_and(|meta| meta.is_dir());
        Ok((there && !name.is_empty()).then(|| name.to_owned()))
    }

    /// A new, empty directory in `l/` for the layer. INVARIANT: the lock is held.
    pub(super) fn make_layer(&self, chain_id: &Digest) -> Result<String, StoreError> {
        let mut len = SHORT_LEN;
        loop {
            let name = &chain_id.hex()[..len];
            let path = self.layers_dir().join(name);
            match DirBuilder::new().mode(0o755).create(&path) {
                Ok(()) => return Ok(name.to_owned()),
                // Another layer begins with the same digits.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && len < chain_id.hex().len() => len += 1,
                Err(error) => return Err(io_error("make", &path)(error)),
            }
        }
    }

    /// Makes what was unpacked durable, then visible. INVARIANT: the lock is held.
    pub(super) fn commit(&self, image: &FoundImage, new_layers: &[(Digest, String)]) -> Result<(), StoreError> {
        let layers_dir = self.layers_dir();
        let empty = layers_dir.join(EMPTY_LAYER);
        DirBuilder::new().recursive(true).mode(0o755).create(&empty).map_err(io_error("make", &empty))?;
        let dir = Dir::open(&layers_dir).map_err(io_error("open", &layers_dir))?;
        dir.sync_file_system().map_err(io_error("sync", &layers_dir))?;
        for (chain_id, name) in new_layers {
            let marker = self.marker(chain_id);
            symlink(Path::new("../l").join(name), &marker).map_err(io_error("make", &marker))?;
        }
        let markers = self.path("layers");
        sync_dir(&markers).map_err(io_error("sync", &markers))?;
        for document in [&image.manifest, &image.config] {
            let path = self.blob_path(&document.digest);
            write_durable(&path, &document.bytes, 0o600).map_err(io_error("write", &path))?;
        }
        let mut index = self.read_index()?;
        index.version = INDEX_VERSION;
        let entry = Entry {
            digest: image.digest.clone(),
            manifest: image.manifest.digest.clone(),
            config: image.config.digest.clone(),
            size: image.size(),
        };
        index.images.extend(image.names.iter().map(|name| (name.clone(), entry.clone())));
        self.write_json("index.json", &index)
    }

    /// Removes what a dead import left, and markers whose layer is gone. INVARIANT: the lock is held.
    pub(super) fn sweep(&self) -> Result<(), StoreError> {
        let markers = self.names("layers")?;
        let mut marked: BTreeSet<OsString> = BTreeSet::from([EMPTY_LAYER.into()]);
        for name in &markers {
            let layer = name.to_str().and_then(Digest::from_hex).map(|id| self.layer(&id)).transpose()?.flatten();
            match layer {
                Some(layer) => drop(marked.insert(layer.into())),
                None => {
                    let path = self.path("layers").join(name);
                    fs::remove_file(&path).map_err(io_error("remove", &path))?;
                }
            }
        }
        for name in self.names("l")?.into_iter().filter(|name| !marked.contains(name)) {
            self.remove(&self.layers_dir().join(name))?;
        }
        for name in self.names("tmp")? {
            self.remove(&self.path("tmp").join(name))?;
        }
        Ok(())
    }

    /// Removes a file or a tree.
    pub(super) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        let removed = match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
            Ok(_) => fs::remove_file(path),
            Err(error) => Err(error),
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(io_error("remove", path)),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn layers_dir(&self) -> PathBuf {
        self.path("l")
    }

    fn marker(&self, chain_id: &Digest) -> PathBuf {
        self.path("layers").join(chain_id.hex())
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path("blobs/sha256").join(digest.hex())
    }

    fn names(&self, dir: &str) -> Result<Vec<OsString>, StoreError> {
        let path = self.path(dir);
        Dir::open(&path).and_then(|dir| dir.names()).map_err(io_error("read", &path))
    }

    fn read_index(&self) -> Result<Index, StoreError> {
        let index: Index = self.read_json("index.json")?.unwrap_or_default();
        if index.version > INDEX_VERSION {
            return Err(StoreError::Newer { path: self.path("index.json"), version: index.version });
        }
        Ok(index)
    }

    pub(super) fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<Option<T>, StoreError> {
        let path = self.path(name);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|source| StoreError::Json { path, source }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    pub(super) fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StoreError> {
        let path = self.path(name);
        let bytes =
            serde_json::to_vec_pretty(value).map_err(|source| StoreError::Json { path: path.clone(), source })?;
        write_durable(&path, &bytes, 0o600).map_err(io_error("write", &path))
    }
}

impl Index {
    /// A digest decides alone; whichever tag it stands with was a hint to people.
    fn lookup(&self, reference: &Reference) -> Option<&Entry> {
        let Some(digest) = reference.digest() else { return self.images.get(&reference.to_string()) };
        let digest = Digest::parse(digest)?;
        let repository = reference.repository();
        self.images
            .iter()
            .filter(|(name, _)| Reference::parse(name).is_ok_and(|named| named.repository() == repository))
            .map(|(_, entry)| entry)
            .find(|entry| entry.digest == digest || entry.manifest == digest)
    }
}

pub(super) fn io_error<'a>(step: &'static str, path: &'a Path) -> impl Fn(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { step, path: path.to_owned(), source }
}
