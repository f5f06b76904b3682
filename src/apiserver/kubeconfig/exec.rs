//! Exec credential plugins: a program of the admin's that prints a credential, client.authentication.k8s.io/v1 or
//! v1beta1. It gets a time, its output a bound, and it has no terminal.

use super::resolve::is_header_text;
use super::secret::Secret;
use super::source::{Source, SourceError};
use crate::sys::process::wait_readable;
use base64::Engine as _;
use k8s_openapi::jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use thiserror::Error;

/// A plugin asks a server of its own, over a network that may be slow.
const TIME_MAX: Duration = Duration::from_secs(60);
/// Far above any credential, in bytes.
const OUTPUT_BYTES_MAX: usize = 1024 * 1024;
/// What is shown of a plugin's complaints, in bytes.
const LAST_WORDS_BYTES_MAX: usize = 1024;
/// Between two looks at a plugin that has closed its output and not ended.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ApiVersion {
    V1,
    V1Beta1,
}

impl ApiVersion {
    pub fn parse(text: &str) -> Option<ApiVersion> {
        [ApiVersion::V1, ApiVersion::V1Beta1].into_iter().find(|version| version.name() == text)
    }

    fn name(self) -> &'static str {
        match self {
            ApiVersion::V1 => "client.authentication.k8s.io/v1",
            ApiVersion::V1Beta1 => "client.authentication.k8s.io/v1beta1",
        }
    }
}

/// How to run a plugin; checked when the kubeconfig was read.
pub struct ExecPlugin {
    /// `users[0].user.exec`, for errors.
    pub(super) field: String,
    pub(super) version: ApiVersion,
    pub(super) command: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) env: Vec<(String, Secret)>,
    pub(super) install_hint: Option<String>,
    pub(super) provide_cluster_info: bool,
    pub(super) cluster: Option<ClusterInfo>,
}

/// `spec.cluster` of what a plugin is told.
pub(super) struct ClusterInfo {
    pub fields: serde_json::Map<String, serde_json::Value>,
    /// Told as data, as it is when the plugin runs.
    pub authority: Option<Source>,
}

/// Without arguments, variables and the cluster, any of which may hold a secret.
impl fmt::Debug for ExecPlugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecPlugin").field("command", &self.command).field("version", &self.version).finish()
    }
}

/// What a plugin printed.
#[derive(Debug)]
pub(super) struct Printed {
    pub token: Option<Secret>,
    /// Certificate and key, as PEM.
    pub certificate: Option<(String, Secret)>,
    /// In seconds since the epoch.
    pub expires: Option<i64>,
}

#[derive(Debug, Error)]
#[error("{field} {}: {fault}", command.display())]
pub struct ExecError {
    field: String,
    command: PathBuf,
    fault: ExecFault,
}

#[derive(Debug, Error)]
pub(super) enum ExecFault {
    #[error(transparent)]
    Authority(#[from] SourceError),
    #[error("cannot be run: {source}{}", hint.as_ref().map(|hint| format!("; hint: {hint}")).unwrap_or_default())]
    Start { source: io::Error, hint: Option<String> },
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("not done within {} s", TIME_MAX.as_secs())]
    Time,
    #[error("prints more than {OUTPUT_BYTES_MAX} bytes")]
    Output,
    #[error("{status}{}", if last_words.is_empty() { String::new() } else { format!(": {last_words}") })]
    Failed { status: ExitStatus, last_words: String },
    #[error("prints no ExecCredential: {0}")]
    Answer(String),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    kind: &'static str,
    api_version: &'static str,
    spec: ToldSpec,
}

#[derive(Serialize)]
struct ToldSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<serde_json::Map<String, serde_json::Value>>,
    interactive: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecCredential {
    kind: Option<String>,
    api_version: Option<String>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<Secret>,
    client_certificate_data: Option<String>,
    client_key_data: Option<Secret>,
    expiration_timestamp: Option<String>,
}

impl ExecPlugin {
    /// Runs it once. Blocks for as long as it takes, within its time.
    pub(super) fn run(&self) -> Result<Printed, ExecError> {
        let fault = |fault| ExecError { field: self.field.clone(), command: self.command.clone(), fault };
        let mut child = self.start().map_err(fault)?;
        let outcome = attend(&mut child);
        if outcome.is_err() {
            let _ = child.kill();
        }
        let waited = child.wait();
        let (output, last_words) = outcome.map_err(fault)?;
        let status = waited.map_err(|error| fault(error.into()))?;
        if !status.success() {
            return Err(fault(ExecFault::Failed { status, last_words }));
        }
        self.understand(&output).map_err(|why| fault(ExecFault::Answer(why)))
    }

    /// The value of KUBERNETES_EXEC_INFO.
    pub(super) fn told(&self) -> Result<String, ExecFault> {
        let cluster = self.cluster.as_ref().map(|info| {
            let mut fields = info.fields.clone();
            if let Some(source) = &info.authority {
                let data = base64::engine::general_purpose::STANDARD.encode(source.read()?);
                fields.insert("certificate-authority-data".to_owned(), data.into());
            }
            Ok::<_, SourceError>(fields)
        });
        let spec = ToldSpec { cluster: cluster.transpose()?, interactive: false };
        let told = Told { kind: "ExecCredential", api_version: self.version.name(), spec };
        serde_json::to_string(&told).map_err(|error| ExecFault::Start { source: error.into(), hint: None })
    }

    fn start(&self) -> Result<Child, ExecFault> {
        let told = self.told()?;
        let mut command = Command::new(&self.command);
        command.args(&self.args).envs(self.env.iter().map(|(name, value)| (name, value.reveal())));
        command.env("KUBERNETES_EXEC_INFO", told);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|source| {
            let hint = self.install_hint.clone().filter(|_| source.kind() == io::ErrorKind::NotFound);
            ExecFault::Start { source, hint }
        })
    }

    fn understand(&self, output: &[u8]) -> Result<Printed, String> {
        // serde_json's text names a place and a type, never a value of ours: all are texts.
        let answer: ExecCredential = serde_json::from_slice(output).map_err(|error| error.to_string())?;
        if answer.kind.as_deref() != Some("ExecCredential") {
            return Err("its kind is another".to_owned());
        }
        if answer.api_version.as_deref() != Some(self.version.name()) {
            return Err(format!("its apiVersion is not {}", self.version.name()));
        }
        let status = answer.status.ok_or("it has no status")?;
        let token = status.token.filter(|token| !token.is_empty());
        if token.as_ref().is_some_and(|token| !is_header_text(token.reveal())) {
            return Err("its token holds characters that no HTTP header may hold".to_owned());
        }
        let certificate = status.client_certificate_data.filter(|text| !text.is_empty());
        let key = status.client_key_data.filter(|text| !text.is_empty());
        let certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => return Err("clientCertificateData and clientKeyData go together".to_owned()),
        };
        if token.is_none() && certificate.is_none() {
            return Err("it holds neither a token nor a certificate".to_owned());
        }
        let expires = status.expiration_timestamp.filter(|text| !text.is_empty());
        let expires = expires.map(|text| text.parse::<Timestamp>().map(Timestamp::as_second));
        let expires = expires.transpose().map_err(|_| "its expirationTimestamp is no time".to_owned())?;
        Ok(Printed { token, certificate, expires })
    }
}

/// Its output and its last words, once it has ended or closed both.
fn attend(child: &mut Child) -> Result<(Vec<u8>, String), ExecFault> {
    let end = Instant::now() + TIME_MAX;
    let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
    let (mut output, mut words) = (Vec::new(), Vec::new());
    while stdout.is_some() || stderr.is_some() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ExecFault::Time);
        }
        // A descendant of it may hold the pipes for ever: the plugin's own end is looked for too.
        let ended = child.try_wait()?.is_some();
        let fds = [stdout.as_ref().map(AsFd::as_fd), stderr.as_ref().map(AsFd::as_fd)];
        let [more_output, more_words] =
            wait_readable(fds, Some(if ended { Duration::ZERO } else { left.min(LOOK * 10) }))?;
        if more_output && !read_some(&mut stdout, &mut output)? {
            stdout = None;
        }
        if more_words && !read_some(&mut stderr, &mut words)? {
            stderr = None;
        }
        if output.len() > OUTPUT_BYTES_MAX {
            return Err(ExecFault::Output);
        }
        let surplus = words.len().saturating_sub(LAST_WORDS_BYTES_MAX);
        words.drain(..surplus);
        if ended && !more_output && !more_words {
            break;
        }
    }
    while child.try_wait()?.is_none() {
        if Instant::now() >= end {
            return Err(ExecFault::Time);
        }
        std::thread::sleep(LOOK);
    }
    Ok((output, String::from_utf8_lossy(&words).trim().to_owned()))
}

/// Whether there can be more.
fn read_some(pipe: &mut Option<impl Read>, into: &mut Vec<u8>) -> io::Result<bool> {
    let Some(pipe) = pipe else { return Ok(false) };
    let mut piece = [0; 4096];
    match pipe.read(&mut piece) {
        Ok(n) => {
            into.extend_from_slice(&piece[..n]);
            Ok(n > 0)
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
        Err(error) => Err(error),
    }
}
