//! Which images an archive holds: OCI layouts, docker archives, and those that are both at once.
//!
//! Every document is compared with the digest that named it. One bad image does not keep the others of its archive
//! out: it is refused by name. Nothing is unpacked and nothing is stored here.

mod docker;
mod oci;
mod tests;

use super::archive::{Archive, ArchiveError};
use super::digest::Digest;
use super::platform::Platform;
use super::reference::{Reference, ReferenceError};
use super::wire::Config;
use std::collections::BTreeSet;
use thiserror::Error;

/// Overlayfs by mount(2) takes that many lower directories within one page of options; docker allows no more either.
pub const MAX_LAYERS: usize = 127;

/// An image that can be imported.
#[derive(Debug)]
pub struct FoundImage {
    /// Normalised; none if the archive gives it no name.
    pub names: BTreeSet<String>,
    /// What the names point to: an index, or the manifest itself.
    pub digest: Digest,
    pub manifest: Document,
    pub config: Document,
    /// The lowest first.
    pub layers: Vec<FoundLayer>,
}

#[derive(Clone, Debug)]
pub struct Document {
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug)]
pub struct FoundLayer {
    /// The member of the archive that holds it.
    pub member: String,
    pub size: u64,
    /// Of the bytes as they are stored.
    pub digest: Digest,
    /// Of the tar within.
    pub diff_id: Digest,
}

impl FoundImage {
    /// Bytes of manifest, config and layers as they are stored: what crictl calls an image's size.
    pub fn size(&self) -> u64 {
        let documents = self.manifest.bytes.len() + self.config.bytes.len();
        self.layers.iter().fold(documents as u64, |sum, layer| sum.saturating_add(layer.size))
    }
}

#[derive(Debug, Default)]
pub struct Catalogue {
    pub images: Vec<FoundImage>,
    /// Images that cannot be taken, with the names that they go by.
    pub refused: Vec<(String, CatalogueError)>,
}

#[derive(Debug, Error)]
pub enum CatalogueError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error("no image archive: neither index.json nor manifest.json is in it")]
    NoArchive,
    #[error("there is no image for this machine in it")]
    NoImages,
    #[error(
        "no image in it has a name (org.opencontainers.image.ref.name or RepoTags): save it by name, such as \
         docker.io/library/app:latest"
    )]
    Unnamed,
    #[error("{name} cannot be understood")]
    Json {
        name: String,
        #[source]
        source: serde_json::Error,
    },
    #[error("{0} is not in the archive")]
    Missing(String),
    #[error("{name} has the digest {actual}")]
    Digest { name: String, actual: Digest },
    #[error("{0}: indexes are nested too deep")]
    Nested(String),
    #[error("it is for {there}, and this machine is {host}")]
    Platform { there: String, host: String },
    #[error("it has {0} layers, and at most {MAX_LAYERS} are supported")]
    TooManyLayers(usize),
    #[error("its manifest has {layers} layers, its config {diff_ids}")]
    LayerCount { layers: usize, diff_ids: usize },
    #[error("layer {number} ({media_type}) is kept elsewhere and may not be distributed")]
    ForeignLayer { number: usize, media_type: String },
    #[error("layer {number} is of type {media_type}, which is no file system")]
    LayerType { number: usize, media_type: String },
    #[error(transparent)]
    Name(#[from] ReferenceError),
}

impl CatalogueError {
    /// Whether the same archive would fail again.
    pub fn is_final(&self) -> bool {
        match self {
            CatalogueError::Archive(error) => error.is_final(),
            CatalogueError::NoArchive
            | CatalogueError::NoImages
            | CatalogueError::Unnamed
            | CatalogueError::Json { .. }
            | CatalogueError::Missing(_)
            | CatalogueError::Digest { .. }
            | CatalogueError::Nested(_)
            | CatalogueError::Platform { .. }
            | CatalogueError::TooManyLayers(_)
            | CatalogueError::LayerCount { .. }
            | CatalogueError::ForeignLayer { .. }
            | CatalogueError::LayerType { .. }
            | CatalogueError::Name(_) => true,
        }
    }
}

/// Reads what is in `archive`. `stem` is its file name without endings: it names an image that has only a tag.
pub fn read(archive: &Archive, stem: &str, platform: &Platform) -> Result<Catalogue, CatalogueError> {
    let index = archive.document("index.json")?;
    let manifest = archive.document("manifest.json")?;
    if index.is_none() && manifest.is_none() {
        return Err(CatalogueError::NoArchive);
    }
    let mut catalogue = match &index {
        Some(bytes) => oci::read(archive, bytes, stem, platform)?,
        None => Catalogue::default(),
    };
    if let Some(bytes) = &manifest {
        // `docker save` writes both; its tags are complete only in manifest.json.
        let also = docker::read(archive, bytes, platform, index.is_some())?;
        merge(&mut catalogue, also);
    }
    let had_some = !catalogue.images.is_empty();
    catalogue.images.retain(|image| !image.names.is_empty());
    catalogue.images.sort_by(|a, b| a.names.cmp(&b.names));
    match catalogue.images.is_empty() && catalogue.refused.is_empty() {
        false => Ok(catalogue),
        true if had_some => Err(CatalogueError::Unnamed),
        true => Err(CatalogueError::NoImages),
    }
}

/// Two descriptions of one image are one image with the names of both; the OCI one has the digests that count.
fn merge(catalogue: &mut Catalogue, also: Catalogue) {
    for image in also.images {
        match catalogue.images.iter_mut().find(|known| known.config.digest == image.config.digest) {
            Some(known) => known.names.extend(image.names),
            None => catalogue.images.push(image),
        }
    }
    let named: BTreeSet<&String> = catalogue.images.iter().flat_map(|image| &image.names).collect();
    let known: BTreeSet<String> = catalogue.refused.iter().map(|(name, _)| name.clone()).collect();
    let new = also.refused.into_iter().filter(|(name, _)| !named.contains(name) && !known.contains(name));
    let new: Vec<_> = new.collect();
    catalogue.refused.extend(new);
}

/// A document that its digest names, as layouts keep it.
fn blob_document(archive: &Archive, digest: &Digest) -> Result<Document, CatalogueError> {
    let name = blob_name(digest);
    let bytes = archive.document(&name)?.ok_or_else(|| CatalogueError::Missing(name.clone()))?;
    let actual = Digest::of(&bytes);
    if actual != *digest {
        return Err(CatalogueError::Digest { name, actual });
    }
    Ok(Document { digest: actual, bytes })
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// Reads the config, if the image is for this machine.
fn parse_config(document: &Document, platform: &Platform) -> Result<Config, CatalogueError> {
    let config: Config = parse("the image config", &document.bytes)?;
    if platform.fit(&config.platform).is_none() {
        return Err(CatalogueError::Platform { there: config.platform.to_string(), host: platform.to_string() });
    }
    Ok(config)
}

fn check_layers(layers: usize, config: &Config) -> Result<(), CatalogueError> {
    let diff_ids = config.rootfs.diff_ids.len();
    if layers != diff_ids {
        return Err(CatalogueError::LayerCount { layers, diff_ids });
    }
    if layers > MAX_LAYERS {
        return Err(CatalogueError::TooManyLayers(layers));
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, CatalogueError> {
    serde_json::from_slice(bytes).map_err(|source| CatalogueError::Json { name: name.to_owned(), source })
}

fn normalised(name: &str) -> Result<String, CatalogueError> {
    Ok(Reference::parse(name)?.to_string())
}
