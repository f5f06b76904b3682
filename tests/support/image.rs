//! Image archives made on the spot from the machine's static busybox: nothing is downloaded.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::OnceLock;

/// What the containers' web server answers.
pub const PAGE: &str = "hello from the pod\n";

/// One image of busybox with all its applets, `/www/index.html`, and the users root and app (1000, also in group 50).
#[derive(Clone, Debug)]
pub struct Image {
    tags: Vec<String>,
    config: Value,
    layers: Vec<Layer>,
}

/// A layer in the making: a tar archive.
#[derive(Clone, Debug)]
pub struct Layer(Vec<Entry>);

#[derive(Clone, Debug)]
struct Entry {
    path: String,
    kind: Kind,
    mode: u32,
    owner: u32,
}

#[derive(Clone, Debug)]
enum Kind {
    Dir,
    File(Vec<u8>),
    Symlink(String),
}

impl Image {
    pub fn new(tag: &str) -> Image {
        let config = json!({"Env": ["PATH=/usr/local/bin:/bin", "FROM_IMAGE=yes"], "Cmd": ["/bin/sh"]});
        Image { tags: vec![tag.to_owned()], config, layers: Vec::new() }
    }

    pub fn tag(mut self, tag: &str) -> Image {
        self.tags.push(tag.to_owned());
        self
    }

    /// Sets a field of the image config, in its own spelling (`User`, `Entrypoint`, `StopSignal`...).
    pub fn config(mut self, field: &str, value: Value) -> Image {
        self.config[field] = value;
        self
    }

    /// Puts a layer above the base.
    pub fn layer(mut self, layer: Layer) -> Image {
        self.layers.push(layer);
        self
    }

    fn tars(&self) -> Vec<Vec<u8>> {
        std::iter::once(base_layer().to_vec()).chain(self.layers.iter().map(Layer::tar)).collect()
    }

    fn config_json(&self, tars: &[Vec<u8>]) -> Vec<u8> {
        let diff_ids: Vec<String> = tars.iter().map(|tar| format!("sha256:{}", sha256(tar))).collect();
        let document = json!({
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
            "history": tars.iter().map(|_| json!({"created_by": "tests"})).collect::<Vec<_>>(),
        });
        document.to_string().into_bytes()
    }

    /// `sha256:<config digest>`, the imageID that a status shows.
    pub fn id(&self) -> String {
        format!("sha256:{}", sha256(&self.config_json(&self.tars())))
    }

    /// As `docker save` writes it.
    pub fn write_docker_archive(&self, path: &Path) {
        let tars = self.tars();
        let config = self.config_json(&tars);
        let config_name = format!("{}.json", sha256(&config));
        let mut archive = Tar::new();
        let mut names = Vec::new();
        for tar in &tars {
            let name = format!("{}/layer.tar", sha256(tar));
            archive.file(&name, tar);
            names.push(name);
        }
        archive.file(&config_name, &config);
        let manifest = json!([{"Config": config_name, "RepoTags": self.tags, "Layers": names}]);
        archive.file("manifest.json", manifest.to_string().as_bytes());
        archive.write(path);
    }

    /// As `skopeo copy ... oci-archive:` writes it, every tag with its full name.
    pub fn write_oci_archive(&self, path: &Path) {
        let tars = self.tars();
        let config = self.config_json(&tars);
        let layer_type = "application/vnd.oci.image.layer.v1.tar";
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
            "layers": tars.iter().map(|tar| descriptor(layer_type, tar)).collect::<Vec<_>>(),
        })
        .to_string()
        .into_bytes();
        let named = |tag: &String| {
            let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
            entry["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
            entry
        };
        let index = json!({"schemaVersion": 2, "manifests": self.tags.iter().map(named).collect::<Vec<_>>()});
        let mut archive = Tar::new();
        archive.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        archive.file("index.json", index.to_string().as_bytes());
        for blob in tars.iter().chain([&config, &manifest]) {
            archive.file(&format!("blobs/sha256/{}", sha256(blob)), blob);
        }
        archive.write(path);
    }
}

impl Layer {
    pub fn new() -> Layer {
        Layer(Vec::new())
    }

    pub fn dir(mut self, path: &str, mode: u32, owner: u32) -> Layer {
        self.0.push(Entry { path: path.to_owned(), kind: Kind::Dir, mode, owner });
        self
    }

    pub fn file(mut self, path: &str, content: &[u8], mode: u32) -> Layer {
        self.0.push(Entry { path: path.to_owned(), kind: Kind::File(content.to_vec()), mode, owner: 0 });
        self
    }

    pub fn symlink(mut self, path: &str, target: &str) -> Layer {
        self.0.push(Entry { path: path.to_owned(), kind: Kind::Symlink(target.to_owned()), mode: 0o777, owner: 0 });
        self
    }

    fn tar(&self) -> Vec<u8> {
        let mut archive = Tar::new();
        for entry in &self.0 {
            archive.entry(entry);
        }
        archive.bytes()
    }
}

fn base_layer() -> &'static [u8] {
    static BASE: OnceLock<Vec<u8>> = OnceLock::new();
    BASE.get_or_init(|| {
        let busybox = std::fs::read("/bin/busybox").expect("Debian's busybox-static");
        let applets = super::verb::tool(&["/bin/busybox", "--list"]);
        let mut layer = Layer::new()
            .dir("bin", 0o755, 0)
            .dir("etc", 0o755, 0)
            .dir("tmp", 0o1777, 0)
            .dir("root", 0o700, 0)
            .dir("home", 0o755, 0)
            .dir("home/app", 0o755, 1000)
            .dir("www", 0o755, 0)
            .file("www/index.html", PAGE.as_bytes(), 0o644)
            .file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:App:/home/app:/bin/sh\n", 0o644)
            .file("etc/group", b"root:x:0:\napp:x:1000:\nstaff:x:50:app\n", 0o644)
            .file("bin/busybox", &busybox, 0o755);
        for applet in applets.lines().filter(|a| *a != "busybox") {
            layer = layer.symlink(&format!("bin/{applet}"), "busybox");
        }
        layer.tar()
    })
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": format!("sha256:{}", sha256(blob)), "size": blob.len()})
}

struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Tar {
        Tar(tar::Builder::new(Vec::new()))
    }

    fn file(&mut self, path: &str, content: &[u8]) {
        self.entry(&Entry { path: path.to_owned(), kind: Kind::File(content.to_vec()), mode: 0o644, owner: 0 });
    }

    fn entry(&mut self, entry: &Entry) {
        let mut header = tar::Header::new_gnu();
        header.set_mode(entry.mode);
        header.set_uid(entry.owner.into());
        header.set_gid(entry.owner.into());
        header.set_mtime(1_600_000_000);
        let written = match &entry.kind {
            Kind::Dir => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                self.0.append_data(&mut header, format!("{}/", entry.path), std::io::empty())
            }
            Kind::File(content) => {
                header.set_entry_type(tar::EntryType::Regular);
                header.set_size(content.len() as u64);
                self.0.append_data(&mut header, &entry.path, content.as_slice())
            }
            Kind::Symlink(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                self.0.append_link(&mut header, &entry.path, target)
            }
        };
        written.expect("writing to memory");
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("writing to memory")
    }

    /// Under another name first, so that no agent sees half an archive.
    fn write(self, path: &Path) {
        let aside = path.with_extension("tmp");
        std::fs::write(&aside, self.bytes()).expect("room for an image");
        std::fs::rename(&aside, path).expect("the same directory");
    }
}
