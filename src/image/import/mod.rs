//! An archive's images enter the store: found, unpacked in children, made durable, then named.
//!
//! What fails leaves nothing behind: not a layer, not a name. One image that cannot be taken does not keep the others
//! of its archive out.

mod tests;

use super::archive::{Archive, ArchiveError, Opened};
use super::catalogue::{self, Catalogue, CatalogueError, FoundImage};
use super::digest::{Digest, chain_ids};
use super::platform::Platform;
use super::store::{Store, StoreError, io_error};
use super::unpack::{self, LayerRequest, Request, UnpackFailure};
use crate::error::chain;
use crate::sys::child::SelfImage;
use crate::sys::file::Lock;
use std::fs::File;
use std::path::Path;
use thiserror::Error;

/// What archives' file names end in; the rest names an image that has only a tag.
const ENDINGS: &[&str] = &[".tar", ".tgz", ".gz", ".zst", ".oci", ".img"];

/// What an import brought, all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// Normalised, sorted.
    pub names: Vec<String>,
}

#[derive(Debug, Error)]
pub enum ImportError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Decompress(UnpackFailure),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The archive could be read, but not every image of it could be taken.
    #[error("{}", describe(refused, imported))]
    Refused { refused: Vec<RefusedImage>, imported: Vec<String> },
}

#[derive(Debug)]
pub struct RefusedImage {
    /// Its names, or what stands for them.
    pub name: String,
    pub why: ImageError,
}

#[derive(Debug, Error)]
pub enum ImageError {
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("layer {number} of {count} ({digest}): {failure}")]
    Layer { number: usize, count: usize, digest: Digest, failure: UnpackFailure },
    #[error("layer {number} of {count} ({digest}): the archive has {there} bytes of it, its manifest says {size}")]
    LayerSize { number: usize, count: usize, digest: Digest, there: u64, size: u64 },
}

impl ImportError {
    /// Whether another try on the same archive would end the same way.
    pub fn is_final(&self) -> bool {
        match self {
            ImportError::Archive(error) => error.is_final(),
            ImportError::Catalogue(error) => error.is_final(),
            ImportError::Decompress(failure) => failure.is_final(),
            ImportError::Store(_) => false,
            ImportError::Refused { refused, .. } => refused.iter().all(|image| image.why.is_final()),
        }
    }

    /// Names that were imported all the same.
    pub fn imported(&self) -> &[String] {
        match self {
            ImportError::Refused { imported, .. } => imported,
            ImportError::Archive(_)
            | ImportError::Catalogue(_)
            | ImportError::Decompress(_)
            | ImportError::Store(_) => &[],
        }
    }
}

impl ImageError {
    fn is_final(&self) -> bool {
        match self {
            ImageError::Catalogue(error) => error.is_final(),
            ImageError::Layer { failure, .. } => failure.is_final(),
            ImageError::LayerSize { .. } => true,
            ImageError::Store(_) => false,
        }
    }
}

fn describe(refused: &[RefusedImage], imported: &[String]) -> String {
    let mut parts: Vec<String> =
        refused.iter().map(|image| format!("image {}: {}", image.name, chain(&image.why))).collect();
    if !imported.is_empty() {
        parts.push(format!("imported all the same: {}", imported.join(", ")));
    }
    parts.join("; ")
}

/// How a layer or a compressed archive is unpacked: in a child, except in tests of what surrounds that.
pub(super) type Unpack<'a> = dyn Fn(File, &Request) -> Result<(), UnpackFailure> + 'a;

impl Store {
    /// Takes every image of the archive or layout at `path`. Blocks, possibly for minutes: workers only.
    pub fn import(&self, path: &Path, me: &SelfImage) -> Result<Imported, ImportError> {
        self.import_by(path, &|input, request| unpack::in_child(me, input, request))
    }

    pub(super) fn import_by(&self, path: &Path, unpack: &Unpack) -> Result<Imported, ImportError> {
        let lock = self.path("lock");
        let _lock = Lock::wait(&lock).map_err(io_error("lock", &lock))?;
        self.sweep()?;
        let archive = match Archive::open(path)? {
            Opened::Archive(archive) => archive,
            Opened::Compressed(file) => self.decompress(file, unpack)?,
        };
        let Catalogue { images, refused } = catalogue::read(&archive, &stem_of(path), &Platform::host())?;
        let mut refused: Vec<RefusedImage> =
            refused.into_iter().map(|(name, why)| RefusedImage { name, why: why.into() }).collect();
        let mut names = Vec::new();
        for image in &images {
            let of_image: Vec<String> = image.names.iter().cloned().collect();
            match self.add(&archive, image, unpack) {
                Ok(()) => names.extend(of_image),
                Err(why) => refused.push(RefusedImage { name: of_image.join(", "), why }),
            }
        }
        names.sort();
        match refused.is_empty() {
            true => Ok(Imported { names }),
            false => Err(ImportError::Refused { refused, imported: names }),
        }
    }

    /// A compressed archive can be read only from its beginning, and its parts are wanted in another order.
    fn decompress(&self, file: File, unpack: &Unpack) -> Result<Archive, ImportError> {
        let output = self.path("tmp").join("archive");
        let result = unpack(file, &Request::Decompress { output: output.clone() });
        let plain = result.map_err(ImportError::Decompress).and_then(|()| {
            let plain = File::open(&output).map_err(io_error("open", &output))?;
            Ok(plain)
        });
        // Open or not, it needs no name any more.
        self.remove(&output)?;
        Ok(Archive::of_file(plain?)?)
    }

    fn add(&self, archive: &Archive, image: &FoundImage, unpack: &Unpack) -> Result<(), ImageError> {
        let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        let mut lower: Vec<String> = Vec::new();
        let mut new = NewLayers { store: self, layers: Vec::new() };
        for (n, chain_id) in chain_ids(&diff_ids).into_iter().enumerate() {
            let name = match self.layer(&chain_id)? {
                Some(name) => name,
                None => {
                    let name = self.make_layer(&chain_id)?;
                    new.layers.push((chain_id, name.clone()));
                    self.unpack_layer(archive, image, n, &name, &lower, unpack)?;
                    name
                }
            };
            lower.insert(0, name);
        }
        self.commit(image, &new.layers)?;
        new.layers.clear();
        Ok(())
    }

    fn unpack_layer(
        &self,
        archive: &Archive,
        image: &FoundImage,
        n: usize,
        name: &str,
        lower: &[String],
        unpack: &Unpack,
    ) -> Result<(), ImageError> {
        let layer = &image.layers[n];
        let (number, count, digest) = (n + 1, image.layers.len(), layer.digest.clone());
        let blob = archive.blob(&layer.member).map_err(CatalogueError::Archive)?;
        let blob = blob.ok_or_else(|| CatalogueError::Missing(layer.member.clone()))?;
        if blob.size != layer.size {
            return Err(ImageError::LayerSize { number, count, digest, there: blob.size, size: layer.size });
        }
        let request = Request::Layer(LayerRequest {
            layers_dir: self.layers_dir(),
            name: name.to_owned(),
            lower: lower.to_vec(),
            size: layer.size,
            digest: layer.digest.clone(),
            diff_id: layer.diff_id.clone(),
        });
        unpack(blob.file, &request).map_err(|failure| ImageError::Layer { number, count, digest, failure })
    }
}

/// Layers that are not committed: gone with this value.
struct NewLayers<'a> {
    store: &'a Store,
    layers: Vec<(Digest, String)>,
}

impl Drop for NewLayers<'_> {
    fn drop(&mut self) {
        for (_, name) in &self.layers {
            // What cannot be removed now is removed by the next import's sweep.
            if let Err(error) = self.store.remove(&self.store.layers_dir().join(name)) {
                log::warn!("{}", chain(&error));
            }
        }
    }
}

fn stem_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut stem: &str = &name;
    while let Some(shorter) = ENDINGS.iter().find_map(|ending| stem.strip_suffix(ending)) {
        stem = shorter;
    }
    stem.to_owned()
}
