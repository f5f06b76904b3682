//! Docker archives: `manifest.json` names configs and layers by member, and tags by RepoTags.

use super::{
    Catalogue, CatalogueError, Document, FoundImage, FoundLayer, check_layers, normalised, parse, parse_config,
};
use crate::image::archive::{Archive, ArchiveError, Blob, MAX_DOCUMENT_LEN, compression_of};
use crate::image::compression::Compression;
use crate::image::digest::{Digest, HashingReader};
use crate::image::platform::Platform;
use crate::image::wire::{Descriptor, DockerEntry, MadeManifest};
use std::collections::{BTreeMap, BTreeSet};

const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's own word for no tag.
const NO_TAG: &str = "<none>:<none>";

/// `lenient`: an index.json describes the same images, so that what does not fit here is no fault of the archive.
pub fn read(archive: &Archive, bytes: &[u8], platform: &Platform, lenient: bool) -> Result<Catalogue, CatalogueError> {
    let entries: Vec<DockerEntry> = match parse("manifest.json", bytes) {
        Ok(entries) => entries,
        Err(_) if lenient => return Ok(Catalogue::default()),
        Err(error) => return Err(error),
    };
    let mut catalogue = Catalogue::default();
    for entry in entries {
        match image(archive, &entry, platform) {
            Ok(image) => catalogue.images.push(image),
            Err(error) => catalogue.refused.push((shown_name(&entry), error)),
        }
    }
    Ok(catalogue)
}

/// What the entry is called where it is refused: spelled as index.json's entry of the same image would be.
fn shown_name(entry: &DockerEntry) -> String {
    let names: BTreeSet<String> =
        entry.repo_tags.iter().map(|tag| normalised(tag).unwrap_or_else(|_| tag.clone())).collect();
    match names.is_empty() {
        true => entry.config.clone(),
        false => names.into_iter().collect::<Vec<_>>().join(", "),
    }
}

fn image(archive: &Archive, entry: &DockerEntry, platform: &Platform) -> Result<FoundImage, CatalogueError> {
    let tags = entry.repo_tags.iter().filter(|tag| *tag != NO_TAG);
    let names = tags.map(|tag| normalised(tag)).collect::<Result<BTreeSet<String>, CatalogueError>>()?;
    let config_document = config(archive, &entry.config)?;
    let config = parse_config(&config_document, platform)?;
    check_layers(entry.layers.len(), &config)?;
    let layers = entry.layers.iter().zip(&config.rootfs.diff_ids);
    let layers = layers.map(|(member, diff_id)| layer(archive, member, diff_id));
    let layers = layers.collect::<Result<Vec<FoundLayer>, CatalogueError>>()?;
    let manifest = make_manifest(&config_document, &layers)?;
    Ok(FoundImage { names, digest: manifest.digest.clone(), manifest, config: config_document, layers })
}

/// Docker names a config by its digest; others name it as they like.
fn config(archive: &Archive, name: &str) -> Result<Document, CatalogueError> {
    let bytes = archive.document(name)?.ok_or_else(|| CatalogueError::Missing(name.to_owned()))?;
    let digest = Digest::of(&bytes);
    match digest_in(name.strip_suffix(".json").unwrap_or(name)) {
        Some(named) if named != digest => Err(CatalogueError::Digest { name: name.to_owned(), actual: digest }),
        _ => Ok(Document { digest, bytes }),
    }
}

fn layer(archive: &Archive, member: &str, diff_id: &Digest) -> Result<FoundLayer, CatalogueError> {
    let blob = archive.blob(member)?.ok_or_else(|| CatalogueError::Missing(member.to_owned()))?;
    let failed = |source| CatalogueError::Archive(ArchiveError::Read { name: member.to_owned(), source });
    let size = blob.size;
    let named = digest_in(member).filter(|_| member.starts_with("blobs/"));
    let digest = match compression_of(&blob.file).map_err(failed)? {
        Compression::None => diff_id.clone(),
        // The archive says the digest of the plain layer only.
        _ => match named {
            Some(digest) => digest,
            None => digest_of(blob).map_err(failed)?,
        },
    };
    Ok(FoundLayer { member: member.to_owned(), size, digest, diff_id: diff_id.clone() })
}

fn digest_of(blob: Blob) -> std::io::Result<Digest> {
    use std::io::Read;
    Ok(HashingReader::new(blob.file.take(blob.size)).finish()?.0)
}

/// The digest that the last component of a member's name is, if it is one.
fn digest_in(member: &str) -> Option<Digest> {
    let last = member.rsplit('/').next()?;
    Digest::parse(last).or_else(|| Digest::from_hex(last))
}

fn make_manifest(config: &Document, layers: &[FoundLayer]) -> Result<Document, CatalogueError> {
    let descriptor = |media_type: &str, size: u64, digest: &Digest| Descriptor {
        media_type: media_type.to_owned(),
        size,
        digest: digest.clone(),
        platform: None,
        annotations: BTreeMap::new(),
    };
    let manifest = MadeManifest {
        schema_version: 2,
        media_type: MANIFEST,
        config: descriptor(CONFIG, config.bytes.len() as u64, &config.digest),
        layers: layers
            .iter()
            .map(|layer| {
                let packed = if layer.digest == layer.diff_id { LAYER.to_owned() } else { format!("{LAYER}.gzip") };
                descriptor(&packed, layer.size, &layer.digest)
            })
            .collect(),
    };
    let bytes = serde_json::to_vec(&manifest)
        .map_err(|source| CatalogueError::Json { name: "the manifest that is made".to_owned(), source })?;
    debug_assert!(bytes.len() as u64 <= MAX_DOCUMENT_LEN);
    Ok(Document { digest: Digest::of(&bytes), bytes })
}
