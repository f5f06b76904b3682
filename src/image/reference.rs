//! Image references as docker writes them, and their one normalised form.
//!
//! Pure. The rules and the wording of the errors are distribution/reference's (what a kubelet with containerd
//! applies), so that `kalise/x`, `docker.io/kalise/x` and `index.docker.io/kalise/x:latest` are one image here too.
//! It never looks at what is present: that is the store's.

use std::fmt;
use std::str::FromStr;
use thiserror::Error;

const DEFAULT_DOMAIN: &str = "docker.io";
/// What docker.io was called before; still found in manifests.
const LEGACY_DOMAIN: &str = "index.docker.io";
/// Where names of one component live on docker.io.
const OFFICIAL_PREFIX: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// distribution/reference: RepositoryNameTotalLengthMax, in bytes.
const MAX_PATH_LEN: usize = 255;
/// distribution/reference: TagRegexp, in bytes.
const MAX_TAG_LEN: usize = 128;

/// A normalised reference: `docker.io/library/busybox:latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<String>,
}

/// `text` is no reference; reads as the kubelet's error does.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("couldn't parse image name {text:?}: {fault}")]
pub struct ReferenceError {
    text: String,
    fault: Fault,
}

impl ReferenceError {
    /// The message of the waiting reason `InvalidImageName`.
    pub fn status_message(&self) -> String {
        format!("Failed to apply default image tag {:?}: {self}", self.text)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Fault {
    #[error("invalid reference format")]
    Format,
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    #[error("repository name must not be more than {MAX_PATH_LEN} characters")]
    TooLong,
    #[error("unsupported digest algorithm")]
    DigestAlgorithm,
    #[error("invalid checksum digest length")]
    DigestLength,
    #[error("invalid checksum digest format")]
    DigestFormat,
}

impl Reference {
    /// Normalises `text`: docker.io and library/ are filled in, and `latest` where there is neither tag nor digest.
    pub fn parse(text: &str) -> Result<Reference, ReferenceError> {
        parse(text).map_err(|fault| ReferenceError { text: text.to_owned(), fault })
    }

    /// The registry's host, with its port if there is one.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository within the registry.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the reference names without tag and digest: `docker.io/library/busybox`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// `sha256:...`; where it is given it decides, and the tag is only shown.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(text)
    }
}

fn parse(text: &str) -> Result<Reference, Fault> {
    if text.len() == 64 && text.bytes().all(is_lower_hex) {
        return Err(Fault::Identifier(text.to_owned()));
    }
    let (domain, remainder) = split_domain(text);
    let before_tag = remainder.split(':').next().unwrap_or_default();
    if before_tag.to_lowercase() != before_tag {
        return Err(Fault::Uppercase(before_tag.to_owned()));
    }
    let (named, digest) = match remainder.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (remainder.as_str(), None),
    };
    let (path, tag) = match named.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (named, None),
    };
    if !is_domain(&domain) || !path.split('/').all(is_path_component) || !tag.is_none_or(is_tag) {
        return Err(Fault::Format);
    }
    if path.len() > MAX_PATH_LEN {
        return Err(Fault::TooLong);
    }
    if let Some(digest) = digest {
        check_digest(digest)?;
    }
    let tag = match (tag, digest) {
        (None, None) => Some(DEFAULT_TAG.to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(Reference { domain, path: path.to_owned(), tag, digest: digest.map(str::to_owned) })
}

/// distribution/reference: splitDockerDomain. The first component is a host if it looks like one.
fn split_domain(text: &str) -> (String, String) {
    let (domain, remainder) = match text.split_once('/') {
        Some((LEGACY_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest)) if first == "localhost" || first.contains(['.', ':']) || first.to_lowercase() != first => {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, text),
    };
    if domain == DEFAULT_DOMAIN && !remainder.contains('/') {
        (domain.to_owned(), format!("{OFFICIAL_PREFIX}{remainder}"))
    } else {
        (domain.to_owned(), remainder.to_owned())
    }
}

/// `host[:port]` or `[ipv6][:port]`.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rfind(']') {
        Some(end) => domain.split_at(end + 1),
        None => domain.split_at(domain.find(':').unwrap_or(domain.len())),
    };
    let port_ok = port.is_empty()
        || port.strip_prefix(':').is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    let host_ok = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(ip) => !ip.is_empty() && ip.bytes().all(|b| b.is_ascii_hexdigit() || b == b':'),
        None => host.split('.').all(is_domain_component),
    };
    port_ok && host_ok
}

fn is_domain_component(part: &str) -> bool {
    !part.is_empty()
        && !part.starts_with('-')
        && !part.ends_with('-')
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Runs of `[a-z0-9]` joined by `.`, `_`, `__` or any number of `-`.
fn is_path_component(part: &str) -> bool {
    let is_alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut rest = part.as_bytes();
    loop {
        let run = rest.iter().take_while(|b| is_alnum(b)).count();
        if run == 0 {
            return false;
        }
        rest = &rest[run..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|b| !is_alnum(b)).count();
        let ok = matches!(&rest[..separator], b"." | b"_" | b"__") || rest[..separator].iter().all(|b| *b == b'-');
        if !ok {
            return false;
        }
        rest = &rest[separator..];
    }
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= MAX_TAG_LEN
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// The grammar of distribution/reference first, then go-digest's checks, in their order.
fn check_digest(digest: &str) -> Result<(), Fault> {
    let (algorithm, hex) = digest.split_once(':').ok_or(Fault::Format)?;
    let algorithm_ok = algorithm
        .split(['-', '_', '+', '.'])
        .all(|a| a.starts_with(|c: char| c.is_ascii_alphabetic()) && a.bytes().all(|b| b.is_ascii_alphanumeric()));
    if !algorithm_ok || hex.len() < 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Fault::Format);
    }
    if algorithm.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(Fault::DigestFormat);
    }
    let len = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return Err(Fault::DigestAlgorithm),
    };
    if hex.len() != len {
        return Err(Fault::DigestLength);
    }
    if hex.bytes().all(is_lower_hex) { Ok(()) } else { Err(Fault::DigestFormat) }
}

fn is_lower_hex(b: u8) -> bool {
    b.is_ascii_digit() || (b'a'..=b'f').contains(&b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::damage::{Dice, damaged_text};

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_normalised_as_docker_does() {
        let hex_tag = format!("sha256:{HEX}");
        let table = [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("kalise/nodejs-web-app", "docker.io/kalise/nodejs-web-app:latest"),
            ("kalise/nodejs-web-app:latest", "docker.io/kalise/nodejs-web-app:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("index.docker.io/kalise/x:1", "docker.io/kalise/x:1"),
            ("docker.io/library/busybox:latest", "docker.io/library/busybox:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x", "localhost:5000/x:latest"),
            ("localhost:5000/x:2", "localhost:5000/x:2"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            ("Registry/x", "Registry/x:latest"),
            ("192.168.0.1:5000/a/b", "192.168.0.1:5000/a/b:latest"),
            ("[::1]:5000/x", "[::1]:5000/x:latest"),
            ("a/b/c/d", "docker.io/a/b/c/d:latest"),
            ("a__b.c_d---e", "docker.io/library/a__b.c_d---e:latest"),
            ("x:Upper_Tag.1-2", "docker.io/library/x:Upper_Tag.1-2"),
            ("localhost", "docker.io/library/localhost:latest"),
            (hex_tag.as_str(), &format!("docker.io/library/sha256:{HEX}")),
        ];
        for (text, normalised) in table {
            assert_eq!(Reference::parse(text).map(|r| r.to_string()).as_deref(), Ok(normalised), "{text}");
            assert_eq!(Reference::parse(normalised).map(|r| r.to_string()).as_deref(), Ok(normalised), "{text} again");
        }
    }

    #[test]
    fn a_digest_gets_no_default_tag_and_both_are_kept() {
        let only = Reference::parse(&format!("quay.io/a/b@sha256:{HEX}")).unwrap();
        assert_eq!((only.tag(), only.digest()), (None, Some(format!("sha256:{HEX}").as_str())));
        assert_eq!(only.repository(), "quay.io/a/b");
        let both = Reference::parse(&format!("b:1@sha256:{HEX}")).unwrap();
        assert_eq!(both.to_string(), format!("docker.io/library/b:1@sha256:{HEX}"));
        assert_eq!((both.domain(), both.path(), both.tag()), ("docker.io", "library/b", Some("1")));
    }

    #[test]
    fn what_is_no_reference_reads_as_the_kubelet_says_it() {
        let format = "invalid reference format";
        let long = "a".repeat(256);
        let sha = |hex: &str| format!("x@sha256:{hex}");
        let table: Vec<(String, String)> = vec![
            ("".into(), format.into()),
            (" x".into(), format.into()),
            ("x y".into(), format.into()),
            (":tag".into(), format.into()),
            ("x:".into(), format.into()),
            ("x:-tag".into(), format.into()),
            ("x:a/b".into(), format.into()),
            (format!("x:{}", "t".repeat(129)), format.into()),
            ("a//b".into(), format.into()),
            ("/a".into(), format.into()),
            ("a/".into(), format.into()),
            ("-a".into(), format.into()),
            ("a..b".into(), format.into()),
            ("a___b".into(), format.into()),
            ("http://x/y".into(), format.into()),
            ("localhost:port/x".into(), format.into()),
            ("x@".into(), format.into()),
            ("x@sha256".into(), format.into()),
            (sha("abc"), format.into()),
            (sha(&HEX[..40]), "invalid checksum digest length".into()),
            (sha(&HEX.to_uppercase()), "invalid checksum digest format".into()),
            (format!("x@md6:{HEX}"), "unsupported digest algorithm".into()),
            ("Busybox".into(), "invalid reference format: repository name (library/Busybox) must be lowercase".into()),
            ("a/Bc:1".into(), "invalid reference format: repository name (a/Bc) must be lowercase".into()),
            (long, "repository name must not be more than 255 characters".into()),
            (HEX.into(), format!("invalid repository name ({HEX}), cannot specify 64-byte hexadecimal strings")),
        ];
        for (text, fault) in table {
            let error = Reference::parse(&text).expect_err(&text);
            assert_eq!(error.to_string(), format!("couldn't parse image name {text:?}: {fault}"));
        }
    }

    #[test]
    fn the_status_message_is_the_kubelets() {
        let error = Reference::parse("a b").unwrap_err();
        assert_eq!(
            error.status_message(),
            "Failed to apply default image tag \"a b\": couldn't parse image name \"a b\": invalid reference format"
        );
    }

    #[test]
    fn no_byte_string_makes_the_parser_panic_and_what_it_accepts_is_a_fixed_point() {
        let alphabet: Vec<char> = "aZ0./:@-_[]é ".chars().collect();
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..(state >> 60) + 1 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push(alphabet[(state >> 33) as usize % alphabet.len()]);
            }
            if let Ok(reference) = Reference::parse(&text) {
                assert_eq!(Reference::parse(&reference.to_string()), Ok(reference), "{text:?}");
            }
        }
    }

    #[test]
    fn what_is_accepted_of_damaged_references_has_one_form_and_says_what_it_is_made_of() {
        let whole = [
            "busybox".to_owned(),
            "index.docker.io/kalise/nodejs-web-app:latest".to_owned(),
            format!("Registry.example:5000/a/b__c.d---e:Tag_1.2-3@sha256:{HEX}"),
            format!("[2001:db8::1]:443/x@sha512:{HEX}{HEX}"),
            format!("docker.io/library/{}:{}", "a".repeat(240), "t".repeat(128)),
            HEX.to_owned(),
        ];
        let (mut accepted, mut refused) = (0, 0);
        for seed in 0..20_000 {
            let mut dice = Dice::new(seed);
            let text = damaged_text(&whole[dice.roll(whole.len())], &mut dice);
            match Reference::parse(&text) {
                Ok(reference) => {
                    accepted += 1;
                    let shown = reference.to_string();
                    assert_eq!(Reference::parse(&shown), Ok(reference.clone()), "{text:?} became {shown:?}");
                    let tag = reference.tag().map(|tag| format!(":{tag}")).unwrap_or_default();
                    let digest = reference.digest().map(|digest| format!("@{digest}")).unwrap_or_default();
                    assert_eq!(shown, format!("{}/{}{tag}{digest}", reference.domain(), reference.path()));
                    // It becomes a path of a registry's and a line of a list.
                    assert!(shown.bytes().all(|b| b.is_ascii_graphic()), "{shown:?}");
                    assert!(reference.path().split('/').all(|part| !part.starts_with('.') && !part.is_empty()));
                    assert!(reference.path().len() <= MAX_PATH_LEN, "{shown}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().starts_with(&format!("couldn't parse image name {text:?}: ")));
                }
            }
        }
        assert!(accepted > 2000 && refused > 2000, "{accepted} accepted, {refused} refused");
    }
}
