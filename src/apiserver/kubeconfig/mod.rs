//! A kubeconfig: which server, whom to trust, and who we are. Parsed once into what cannot be wrong any more.
//!
//! The files that it names are read later, when they are needed, and again when they are replaced: a certificate that
//! somebody else still has to write is no reason not to start. Secrets are never printed.

mod credentials;
mod exec;
mod file;
mod resolve;
mod secret;
mod source;

pub use credentials::{Credential, CredentialError, Credentials};
pub use exec::{ExecError, ExecPlugin};
pub use secret::Secret;
pub use source::{Source, SourceError};

use crate::http::Proxy;
use crate::yaml;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Far above any kubeconfig, in bytes: what is larger is the wrong file.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One cluster and one user: those of the current context.
#[derive(Debug)]
pub struct Kubeconfig {
    /// `https://host:port/prefix`, without a slash at the end.
    pub server: String,
    pub trust: ServerTrust,
    /// What the server must prove to be, instead of the URL's host.
    pub tls_server_name: Option<String>,
    pub proxy: Option<Proxy>,
    pub user: User,
}

#[derive(Debug)]
pub enum ServerTrust {
    /// Whoever this host's own roots vouch for.
    Host,
    /// Whoever the authorities in it vouch for.
    Authority(Source),
    /// `insecure-skip-tls-verify`.
    Anybody,
}

/// How the user proves itself; nothing at all is anonymous.
#[derive(Debug, Default)]
pub struct User {
    pub certificate: Option<CertificateSource>,
    pub token: Option<TokenSource>,
    pub exec: Option<ExecPlugin>,
}

#[derive(Debug)]
pub struct CertificateSource {
    pub certificate: Source,
    pub key: Source,
}

#[derive(Debug)]
pub enum TokenSource {
    Inline(Secret),
    File {
        file: Source,
        /// As long as the file cannot be read.
        fallback: Option<Secret>,
    },
}

#[derive(Debug, Error)]
pub enum KubeconfigError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}", yaml::render(&path.display().to_string(), problems, 0).trim_end())]
    Invalid { path: PathBuf, problems: Vec<yaml::Problem> },
}

impl Kubeconfig {
    pub fn load(path: &Path) -> Result<Kubeconfig, KubeconfigError> {
        let text = read(path).map_err(|source| KubeconfigError::Read { path: path.to_owned(), source })?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        Kubeconfig::parse(&text, directory)
            .map_err(|problems| KubeconfigError::Invalid { path: path.to_owned(), problems })
    }

    /// Relative paths in it are below `directory`.
    pub fn parse(text: &str, directory: &Path) -> Result<Kubeconfig, Vec<yaml::Problem>> {
        resolve::resolve(text, directory)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
