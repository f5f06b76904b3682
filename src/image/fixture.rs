//! Tars, layers and whole images made on the spot for tests, honest ones and hostile ones.
//!
//! Uses nothing of the crate: what is tested must not also be what makes the test's input.

#![cfg(test)]
#![allow(dead_code)]

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

/// One member of a tar, exactly as it is to be written.
#[derive(Clone, Debug)]
pub struct Member {
    pub flag: u8,
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub device: (u32, u32),
    pub data: Vec<u8>,
    /// Written in a pax header of its own before the member.
    pub pax: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Member {
    fn new(flag: u8, name: &str, mode: u32) -> Member {
        Member {
            flag,
            name: name.into(),
            link: Vec::new(),
            mode,
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            device: (0, 0),
            data: Vec::new(),
            pax: Vec::new(),
        }
    }

    pub fn file(name: &str, data: &[u8]) -> Member {
        Member { data: data.to_vec(), ..Member::new(b'0', name, 0o644) }
    }

    pub fn dir(name: &str) -> Member {
        Member::new(b'5', name, 0o755)
    }

    pub fn symlink(name: &str, target: &str) -> Member {
        Member { link: target.into(), ..Member::new(b'2', name, 0o777) }
    }

    pub fn hard_link(name: &str, target: &str) -> Member {
        Member { link: target.into(), ..Member::new(b'1', name, 0o644) }
    }

    pub fn char_device(name: &str, major: u32, minor: u32) -> Member {
        Member { device: (major, minor), ..Member::new(b'3', name, 0o666) }
    }

    pub fn fifo(name: &str) -> Member {
        Member::new(b'6', name, 0o600)
    }

    pub fn of_type(name: &str, flag: u8) -> Member {
        Member::new(flag, name, 0o644)
    }

    pub fn mode(mut self, mode: u32) -> Member {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Member {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub fn mtime(mut self, mtime: u64) -> Member {
        self.mtime = mtime;
        self
    }

    pub fn pax(mut self, key: &str, value: &[u8]) -> Member {
        self.pax.push((key.into(), value.to_vec()));
        self
    }

    pub fn xattr(self, key: &str, value: &[u8]) -> Member {
        self.pax(&format!("SCHILY.xattr.{key}"), value)
    }
}

/// The members as a tar, with the two blocks of zeros at its end.
pub fn tar(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members {
        if !member.pax.is_empty() {
            let records: Vec<u8> = member.pax.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
            push(&mut out, &Member { data: records, ..Member::new(b'x', "PaxHeaders/x", 0o644) });
        }
        push(&mut out, member);
    }
    out.extend([0; 1024]);
    out
}

fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while rest + len.to_string().len() != len {
        len = rest + len.to_string().len();
    }
    [len.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

fn push(out: &mut Vec<u8>, member: &Member) {
    for (flag, text) in [(b'L', &member.name), (b'K', &member.link)] {
        if text.len() > 100 {
            let data = [text, &b"\0"[..]].concat();
            push(out, &Member { data, ..Member::new(flag, "././@LongLink", 0) });
        }
    }
    let mut header = tar::Header::new_gnu();
    let fits = |text: &[u8]| text[..text.len().min(100)].to_vec();
    let (name, link) = (fits(&member.name), fits(&member.link));
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(&name);
    old.linkname[..link.len()].copy_from_slice(&link);
    old.linkflag = [member.flag];
    header.set_mode(member.mode);
    header.set_uid(member.uid);
    header.set_gid(member.gid);
    header.set_mtime(member.mtime);
    header.set_size(member.data.len() as u64);
    header.set_device_major(member.device.0).unwrap();
    header.set_device_minor(member.device.1).unwrap();
    header.set_cksum();
    out.extend(header.as_bytes());
    out.extend(&member.data);
    out.resize(out.len().next_multiple_of(512), 0);
}

pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(bytes))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    Plain,
    Gzip,
    Zstd,
}

pub fn pack(packing: Packing, bytes: &[u8]) -> Vec<u8> {
    match packing {
        Packing::Plain => bytes.to_vec(),
        Packing::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }
        Packing::Zstd => ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest),
    }
}

/// An image to be put into archives.
#[derive(Clone, Debug)]
pub struct Image {
    pub names: Vec<String>,
    /// Plain tars, the lowest first.
    pub layers: Vec<Vec<u8>>,
    pub packing: Packing,
    pub config: Value,
    pub os: String,
    pub architecture: String,
    pub variant: String,
    /// Media type of the layers, if it is to be an odd one.
    pub layer_type: Option<String>,
}

impl Image {
    pub fn new(name: &str, layers: &[Vec<u8>]) -> Image {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Image {
            names: if name.is_empty() { Vec::new() } else { vec![name.to_owned()] },
            layers: layers.to_vec(),
            packing: Packing::Plain,
            config: json!({ "Cmd": ["/bin/true"], "Env": ["A=b"] }),
            os: "linux".into(),
            architecture: architecture.into(),
            variant: String::new(),
            layer_type: None,
        }
    }

    pub fn packing(mut self, packing: Packing) -> Image {
        self.packing = packing;
        self
    }

    /// For another machine than this.
    pub fn foreign(mut self) -> Image {
        self.architecture = "s390x".into();
        self
    }

    pub fn config_bytes(&self) -> Vec<u8> {
        let diff_ids: Vec<String> = self.layers.iter().map(|layer| digest(layer)).collect();
        let config = json!({
            "os": self.os, "architecture": self.architecture, "variant": self.variant, "config": self.config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids }, "history": [],
        });
        serde_json::to_vec(&config).unwrap()
    }

    /// Puts config, layers and manifest among the blobs; the manifest's descriptor without annotations.
    pub fn add_to(&self, blobs: &mut Blobs) -> Value {
        let config = blobs.add(&self.config_bytes(), "application/vnd.oci.image.config.v1+json");
        let layer_type = self.layer_type.clone().unwrap_or_else(|| match self.packing {
            Packing::Plain => "application/vnd.oci.image.layer.v1.tar".into(),
            Packing::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip".into(),
            Packing::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd".into(),
        });
        let layers: Vec<Value> =
            self.layers.iter().map(|layer| blobs.add(&pack(self.packing, layer), &layer_type)).collect();
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        let mut descriptor = blobs.add(&serde_json::to_vec(&manifest).unwrap(), MANIFEST);
        descriptor["platform"] = json!({ "os": self.os, "architecture": self.architecture, "variant": self.variant });
        descriptor
    }
}

pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Files of a layout or archive, by path.
#[derive(Clone, Debug, Default)]
pub struct Blobs(pub BTreeMap<String, Vec<u8>>);

impl Blobs {
    pub fn add(&mut self, bytes: &[u8], media_type: &str) -> Value {
        self.0.insert(format!("blobs/sha256/{}", hex(bytes)), bytes.to_vec());
        json!({ "mediaType": media_type, "size": bytes.len(), "digest": digest(bytes) })
    }

    /// An index of these descriptors, as a blob.
    pub fn add_index(&mut self, manifests: &[Value]) -> Value {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        self.add(&serde_json::to_vec(&index).unwrap(), INDEX)
    }

    pub fn layout(mut self, manifests: &[Value]) -> Blobs {
        self.0.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        self.0.insert("index.json".into(), serde_json::to_vec(&index).unwrap());
        self
    }

    pub fn to_tar(&self) -> Vec<u8> {
        tar(&self.0.iter().map(|(name, bytes)| Member::file(name, bytes)).collect::<Vec<_>>())
    }

    pub fn write_to(&self, dir: &Path) {
        for (name, bytes) in &self.0 {
            let path = dir.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }
}

pub fn named(mut descriptor: Value, key: &str, name: &str) -> Value {
    descriptor["annotations"] = json!({ key: name });
    descriptor
}

/// An OCI layout of the images, each under all its names.
pub fn oci(images: &[Image]) -> Blobs {
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    for image in images {
        let descriptor = image.add_to(&mut blobs);
        if image.names.is_empty() {
            manifests.push(descriptor.clone());
        }
        manifests.extend(image.names.iter().map(|name| named(descriptor.clone(), REF_NAME, name)));
    }
    blobs.layout(&manifests)
}

/// What `docker save` wrote before version 25; layers are packed as the image says, as other tools do.
pub fn docker(images: &[Image]) -> Blobs {
    let mut blobs = Blobs::default();
    let mut entries = Vec::new();
    for image in images {
        let config = image.config_bytes();
        let config_name = format!("{}.json", hex(&config));
        blobs.0.insert(config_name.clone(), config);
        let mut layers = Vec::new();
        for layer in &image.layers {
            let name = format!("{}/layer.tar", hex(layer));
            blobs.0.insert(name.clone(), pack(image.packing, layer));
            layers.push(name);
        }
        let tags = if image.names.is_empty() { Value::Null } else { json!(image.names) };
        entries.push(json!({ "Config": config_name, "RepoTags": tags, "Layers": layers }));
    }
    blobs.0.insert("manifest.json".into(), serde_json::to_vec(&entries).unwrap());
    blobs
}

/// A directory of its own, gone when the test ends, however it ends.
#[derive(Debug)]
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pinlet-image-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
