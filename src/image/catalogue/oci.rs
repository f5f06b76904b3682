//! OCI layouts: `index.json` leads to manifests by digest, sometimes over further indexes of platforms.

use super::{
    Catalogue, CatalogueError, FoundImage, FoundLayer, blob_document, blob_name, check_layers, normalised, parse,
    parse_config,
};
use crate::image::archive::Archive;
use crate::image::digest::Digest;
use crate::image::platform::Platform;
use crate::image::reference::Reference;
use crate::image::wire::{Descriptor, Index, Manifest, PlatformField};
use std::collections::{BTreeMap, BTreeSet};

/// The whole name, as containerd and newer dockers write it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// A whole name or only a tag: the image-spec allows both.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Indexes within indexes. Real ones have one level below index.json.
const MAX_DEPTH: usize = 4;

pub fn read(archive: &Archive, bytes: &[u8], stem: &str, platform: &Platform) -> Result<Catalogue, CatalogueError> {
    let index: Index = parse("index.json", bytes)?;
    let mut catalogue = Catalogue::default();
    // Several descriptors of one name are the platforms of one image; several names of one descriptor are its tags.
    let mut by_name: BTreeMap<String, Vec<&Descriptor>> = BTreeMap::new();
    let mut unnamed = Vec::new();
    for descriptor in &index.manifests {
        match name_of(descriptor, stem) {
            Some(Ok(name)) => by_name.entry(name).or_default().push(descriptor),
            Some(Err((text, error))) => catalogue.refused.push((text, error)),
            None => unnamed.push(descriptor),
        }
    }
    let mut by_digests: BTreeMap<Vec<&Digest>, (BTreeSet<String>, Vec<&Descriptor>)> = BTreeMap::new();
    for (name, descriptors) in by_name {
        let digests = descriptors.iter().map(|d| &d.digest).collect();
        by_digests.entry(digests).or_insert((BTreeSet::new(), descriptors)).0.insert(name);
    }
    for (names, descriptors) in by_digests.into_values() {
        match find(archive, &descriptors, platform) {
            Ok(image) => catalogue.images.push(FoundImage { names, ..image }),
            Err(error) => {
                let names: Vec<String> = names.into_iter().collect();
                catalogue.refused.push((names.join(", "), error));
            }
        }
    }
    // One without a name may get one from manifest.json. What else lies there (attestations) is nobody's image.
    let found = unnamed.into_iter().filter_map(|descriptor| find(archive, &[descriptor], platform).ok());
    catalogue.images.extend(found);
    Ok(catalogue)
}

fn name_of(descriptor: &Descriptor, stem: &str) -> Option<Result<String, (String, CatalogueError)>> {
    let annotations = &descriptor.annotations;
    let text = [CONTAINERD_NAME, REF_NAME].iter().find_map(|key| annotations.get(*key)).filter(|t| !t.is_empty())?;
    let whole = if is_only_a_tag(text) { format!("{stem}:{text}") } else { text.clone() };
    let name = normalised(&whole).and_then(|name| check_digest(name, &descriptor.digest));
    Some(name.map_err(|error| (text.clone(), error)))
}

/// A bare word could be a repository as well as a tag. These are never meant as repositories.
fn is_only_a_tag(text: &str) -> bool {
    let is_version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    !text.contains(['/', ':', '@'])
        && (text == "latest" || is_version(text) || text.strip_prefix('v').is_some_and(is_version))
}

/// A name with a digest must name what it stands beside.
fn check_digest(name: String, digest: &Digest) -> Result<String, CatalogueError> {
    let reference = Reference::parse(&name)?;
    match reference.digest() {
        Some(named) if named != digest.to_string() => {
            Err(CatalogueError::Digest { name: name.clone(), actual: digest.clone() })
        }
        _ => Ok(name),
    }
}

/// The image among `descriptors` that is for this machine; its names are left empty.
fn find(archive: &Archive, descriptors: &[&Descriptor], platform: &Platform) -> Result<FoundImage, CatalogueError> {
    let (top, manifest) = choose(archive, descriptors, platform, MAX_DEPTH)?;
    let document = blob_document(archive, &manifest)?;
    let parsed: Manifest = parse("the image manifest", &document.bytes)?;
    let config_document = blob_document(archive, &parsed.config.digest)?;
    let config = parse_config(&config_document, platform)?;
    check_layers(parsed.layers.len(), &config)?;
    let mut layers = Vec::with_capacity(parsed.layers.len());
    for (n, (descriptor, diff_id)) in parsed.layers.iter().zip(&config.rootfs.diff_ids).enumerate() {
        check_layer_type(n + 1, &descriptor.media_type)?;
        layers.push(FoundLayer {
            member: blob_name(&descriptor.digest),
            size: descriptor.size,
            digest: descriptor.digest.clone(),
            diff_id: diff_id.clone(),
        });
    }
    Ok(FoundImage { names: BTreeSet::new(), digest: top, manifest: document, config: config_document, layers })
}

/// Gives the digest of the top-level descriptor that leads to the best manifest, and of that manifest.
fn choose(
    archive: &Archive,
    descriptors: &[&Descriptor],
    platform: &Platform,
    depth: usize,
) -> Result<(Digest, Digest), CatalogueError> {
    let nothing = PlatformField::default();
    let mut fitting: Vec<(u32, &Descriptor)> =
        descriptors.iter().filter_map(|d| Some((platform.fit(d.platform.as_ref().unwrap_or(&nothing))?, *d))).collect();
    // The best first; among equals, the order of the index.
    fitting.sort_by_key(|(fit, _)| std::cmp::Reverse(*fit));
    let mut failure = None;
    for (_, descriptor) in fitting {
        let chosen = match is_index(descriptor) {
            false => blob_document(archive, &descriptor.digest).map(|document| document.digest),
            true => choose_within(archive, descriptor, platform, depth),
        };
        match chosen {
            Ok(manifest) => return Ok((descriptor.digest.clone(), manifest)),
            // An archive may hold only some of the platforms that its index lists.
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    Err(failure.unwrap_or_else(|| CatalogueError::Platform {
        there: descriptors
            .iter()
            .filter_map(|d| d.platform.as_ref())
            .map(|p| p.to_string())
            .collect::<Vec<_>>()
            .join(", "),
        host: platform.to_string(),
    }))
}

fn choose_within(
    archive: &Archive,
    descriptor: &Descriptor,
    platform: &Platform,
    depth: usize,
) -> Result<Digest, CatalogueError> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(CatalogueError::Nested(descriptor.digest.to_string()));
    };
    let document = blob_document(archive, &descriptor.digest)?;
    let index: Index = parse("an image index", &document.bytes)?;
    let inner: Vec<&Descriptor> = index.manifests.iter().collect();
    choose(archive, &inner, platform, depth).map(|(_, manifest)| manifest)
}

fn is_index(descriptor: &Descriptor) -> bool {
    matches!(
        descriptor.media_type.as_str(),
        "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

/// How a layer is packed is seen from its bytes; its type tells what else it may be.
fn check_layer_type(number: usize, media_type: &str) -> Result<(), CatalogueError> {
    let media_type = media_type.to_owned();
    if media_type.contains(".nondistributable.") || media_type.contains(".rootfs.foreign.") {
        return Err(CatalogueError::ForeignLayer { number, media_type });
    }
    let known = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];
    let packing = known.iter().find_map(|prefix| media_type.strip_prefix(prefix));
    match packing {
        Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd") => Ok(()),
        _ => Err(CatalogueError::LayerType { number, media_type }),
    }
}
