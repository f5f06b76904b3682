//! From the file as written to the one cluster and the one user that its current context names, with every problem in
//! its place. The rules are client-go's; what is refused on purpose is refused by name.

use super::exec::{ApiVersion, ClusterInfo, ExecPlugin};
use super::file::{self, by_name};
use super::secret::Secret;
use super::source::Source;
use super::{CertificateSource, Kubeconfig, ServerTrust, TokenSource, User};
use crate::http::{Certificates, Identity, Proxy};
use crate::yaml::{self, Document, Kind, Part, Problem};
use base64::Engine as _;
use std::path::Path;

pub(super) fn resolve(text: &str, directory: &Path) -> Result<Kubeconfig, Vec<Problem>> {
    let document = Document::parse(text).map_err(|problem| vec![without_quotes(problem)])?;
    let (value, problems) = document.decode::<file::File>();
    // Unknown fields are other people's; of equal keys the last counts.
    let mut fatal: Vec<Problem> = problems
        .into_iter()
        .filter(|problem| !matches!(problem.kind, Kind::UnknownField | Kind::DuplicateKey))
        .map(without_quotes)
        .collect();
    let Some(file) = value.filter(|_| fatal.is_empty()) else {
        if fatal.is_empty() {
            fatal.push(Problem::of_file("not a kubeconfig"));
        }
        return Err(fatal);
    };
    let mut reader = Reader { document: &document, directory, problems: Vec::new() };
    match reader.whole(&file) {
        Some(kubeconfig) if reader.problems.is_empty() => Ok(kubeconfig),
        _ => Err(reader.problems),
    }
}

/// The complaint about a missing space quotes its line, which may hold a secret.
fn without_quotes(mut problem: Problem) -> Problem {
    if let Some((before, _)) = problem.message.split_once(" in \"") {
        problem.message = before.to_owned();
        problem.hint = None;
    }
    problem
}

struct Reader<'a> {
    document: &'a Document<'a>,
    directory: &'a Path,
    problems: Vec<Problem>,
}

/// What is set: an empty text is none, as for client-go.
fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

impl Reader<'_> {
    fn whole(&mut self, file: &file::File) -> Option<Kubeconfig> {
        let root = yaml::Path::root();
        if given(file.kind.as_ref()).is_some_and(|kind| kind != "Config") {
            self.wrong(&root.field("kind"), "not a kubeconfig: its kind is Config");
        }
        if given(file.api_version.as_ref()).is_some_and(|version| version != "v1") {
            self.wrong(&root.field("apiVersion"), "only v1 is known");
        }
        let Some(current) = given(file.current_context.as_ref()) else {
            self.missing(&root.field("current-context"));
            return None;
        };
        let context = by_name(file.contexts.as_deref(), |c| c.name.as_deref(), current);
        let Some((index, context)) = context else {
            self.wrong(&root.field("current-context"), "no context has this name");
            return None;
        };
        let context_path = root.field("contexts").index(index).field("context");
        let context = context.context.as_ref();
        let (cluster_path, user_path) = (context_path.field("cluster"), context_path.field("user"));
        let cluster_name = given(context.and_then(|c| c.cluster.as_ref()));
        let user_name = given(context.and_then(|c| c.user.as_ref()));
        let cluster = cluster_name.and_then(|name| by_name(file.clusters.as_deref(), |c| c.name.as_deref(), name));
        let user = user_name.and_then(|name| by_name(file.users.as_deref(), |u| u.name.as_deref(), name));
        match (cluster_name, &cluster) {
            (None, _) => self.missing(&cluster_path),
            (Some(_), None) => self.wrong(&cluster_path, "no cluster has this name"),
            (Some(_), Some(_)) => {}
        }
        match (user_name, &user) {
            (None, _) => self.missing(&user_path),
            (Some(_), None) => self.wrong(&user_path, "no user has this name"),
            (Some(_), Some(_)) => {}
        }
        let ((cluster_at, cluster), (user_at, user)) = (cluster?, user?);
        let no_cluster = file::Cluster::default();
        let cluster = cluster.cluster.as_ref().unwrap_or(&no_cluster);
        let at = root.field("clusters").index(cluster_at).field("cluster");
        let (server, trust, proxy) = self.cluster(cluster, &at);
        let no_user = file::User::default();
        let at = root.field("users").index(user_at).field("user");
        let mut user = self.user(user.user.as_ref().unwrap_or(&no_user), &at);
        let server = server?;
        if let Some(exec) = user.exec.as_mut().filter(|exec| exec.provide_cluster_info) {
            exec.cluster = Some(cluster_info(cluster, &server, &trust));
        }
        let tls_server_name = given(cluster.tls_server_name.as_ref()).map(str::to_owned);
        Some(Kubeconfig { server, trust, tls_server_name, proxy, user })
    }

    fn cluster(&mut self, cluster: &file::Cluster, at: &yaml::Path) -> (Option<String>, ServerTrust, Option<Proxy>) {
        let authority = self.source(
            (cluster.certificate_authority.as_deref(), at.field("certificate-authority")),
            (cluster.certificate_authority_data.as_deref(), at.field("certificate-authority-data")),
        );
        if let Some(source) = authority.as_ref().filter(|source| source.path().is_none())
            && let Err(fault) = Certificates::from_pem(&source.read().unwrap_or_default())
        {
            self.wrong(&at.field("certificate-authority-data"), &fault.to_string());
        }
        let insecure = cluster.insecure_skip_tls_verify.unwrap_or(false);
        let trust = match authority {
            Some(_) if insecure => {
                self.wrong(&at.field("insecure-skip-tls-verify"), "the cluster names an authority to verify by");
                ServerTrust::Anybody
            }
            None if insecure => ServerTrust::Anybody,
            Some(source) => ServerTrust::Authority(source),
            None => ServerTrust::Host,
        };
        let proxy = cluster.proxy_url.as_ref().filter(|url| !url.is_empty());
        let proxy = proxy.and_then(|url| match Proxy::parse(url.reveal()) {
            Ok(proxy) => Some(proxy),
            Err(fault) => {
                self.wrong(&at.field("proxy-url"), &fault.to_string());
                None
            }
        });
        let server = match given(cluster.server.as_ref()) {
            Some(server) => self.server(server, !matches!(trust, ServerTrust::Host), &at.field("server")),
            None => {
                self.missing(&at.field("server"));
                None
            }
        };
        (server, trust, proxy)
    }

    /// Without a scheme it is https where TLS is spoken of, as for client-go.
    fn server(&mut self, server: &str, tls: bool, at: &yaml::Path) -> Option<String> {
        let whole = match server.contains("://") {
            true => server.to_owned(),
            false => format!("{}://{server}", if tls { "https" } else { "http" }),
        };
        let rest = whole.strip_prefix("https://").or_else(|| whole.strip_prefix("http://"));
        let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
        if host.is_empty() || whole.contains(|c: char| c.is_whitespace() || c.is_control() || "?#@".contains(c)) {
            self.wrong(at, "not the URL of a server: https://host:port");
            return None;
        }
        Some(whole.trim_end_matches('/').to_owned())
    }

    fn user(&mut self, user: &file::User, at: &yaml::Path) -> User {
        self.refuse(user, at);
        let certificate = self.source(
            (user.client_certificate.as_deref(), at.field("client-certificate")),
            (user.client_certificate_data.as_deref(), at.field("client-certificate-data")),
        );
        let key = self.source(
            (user.client_key.as_deref(), at.field("client-key")),
            (user.client_key_data.as_ref().map(Secret::reveal), at.field("client-key-data")),
        );
        let certificate = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(CertificateSource { certificate, key }),
            (Some(_), None) => {
                self.missing(&at.field("client-key"));
                None
            }
            (None, Some(_)) => {
                self.missing(&at.field("client-certificate"));
                None
            }
            (None, None) => None,
        };
        if let Some(pair) = certificate.as_ref().filter(|p| p.certificate.path().is_none() && p.key.path().is_none()) {
            let (certificate, key) = (pair.certificate.read(), pair.key.read());
            if let (Ok(certificate), Ok(key)) = (certificate, key)
                && let Err(fault) = Identity::from_pem(&certificate, &key)
            {
                self.wrong(&at.field("client-key-data"), &fault.to_string());
            }
        }
        let inline = user.token.clone().filter(|token| !token.is_empty());
        if inline.as_ref().is_some_and(|token| !is_header_text(token.reveal())) {
            self.wrong(&at.field("token"), "holds characters that no HTTP header may hold");
        }
        let token = match given(user.token_file.as_ref()) {
            Some(file) => {
                let file = Source::file(at.field("tokenFile").to_string(), self.directory.join(file));
                Some(TokenSource::File { file, fallback: inline })
            }
            None => inline.map(TokenSource::Inline),
        };
        let exec = user.exec.as_ref().and_then(|exec| self.exec(exec, &at.field("exec")));
        if exec.is_some() && (token.is_some() || certificate.is_some()) {
            self.wrong(&at.field("exec"), "the user has another credential beside it; only one of them can be used");
        }
        User { certificate, token, exec }
    }

    fn refuse(&mut self, user: &file::User, at: &yaml::Path) {
        let password = user.password.as_ref().is_some_and(|password| !password.is_empty());
        let refused = [
            ("username", given(user.username.as_ref()).is_some(), "basic authentication is not supported"),
            ("password", password, "basic authentication is not supported"),
            ("auth-provider", user.auth_provider.is_some(), "not supported; an exec plugin is"),
            ("as", given(user.impersonate.as_ref()).is_some(), "impersonation is not supported"),
            ("as-uid", given(user.as_uid.as_ref()).is_some(), "impersonation is not supported"),
            ("as-groups", user.as_groups.is_some(), "impersonation is not supported"),
            ("as-user-extra", user.as_user_extra.is_some(), "impersonation is not supported"),
        ];
        for (name, there, why) in refused {
            if there {
                let problem =
                    self.document.problem(Kind::Unsupported, &at.field(name), Part::Key, why.to_owned(), None);
                self.problems.push(problem);
            }
        }
    }

    fn exec(&mut self, exec: &file::Exec, at: &yaml::Path) -> Option<ExecPlugin> {
        let version = match given(exec.api_version.as_ref()).map(ApiVersion::parse) {
            Some(Some(version)) => Some(version),
            Some(None) => {
                let known = "only client.authentication.k8s.io/v1 and client.authentication.k8s.io/v1beta1 are known";
                self.wrong(&at.field("apiVersion"), known);
                None
            }
            None => {
                self.missing(&at.field("apiVersion"));
                None
            }
        };
        let command = given(exec.command.as_ref());
        if command.is_none() {
            self.missing(&at.field("command"));
        }
        match (given(exec.interactive_mode.as_ref()), version) {
            (Some("Never" | "IfAvailable"), _) | (None, Some(ApiVersion::V1Beta1) | None) => {}
            (None, Some(ApiVersion::V1)) => self.missing(&at.field("interactiveMode")),
            (Some("Always"), _) => self.wrong(&at.field("interactiveMode"), "nobody is there to answer a plugin"),
            (Some(_), _) => self.wrong(&at.field("interactiveMode"), "one of Never, IfAvailable and Always"),
        }
        let mut env = Vec::new();
        for (index, variable) in exec.env.iter().flatten().enumerate() {
            match given(variable.name.as_ref()) {
                Some(name) if !name.contains(['=', '\0']) => {
                    env.push((name.to_owned(), variable.value.clone().unwrap_or_else(|| Secret::new(""))));
                }
                Some(_) => self.wrong(&at.field("env").index(index).field("name"), "not the name of a variable"),
                None => self.missing(&at.field("env").index(index).field("name")),
            }
        }
        // Only a path is relative to the file: a bare name is looked up in PATH.
        let command = command?;
        let command = if command.contains('/') { self.directory.join(command) } else { command.into() };
        Some(ExecPlugin {
            field: at.to_string(),
            version: version?,
            command,
            args: exec.args.clone().unwrap_or_default(),
            env,
            install_hint: given(exec.install_hint.as_ref()).map(str::to_owned),
            provide_cluster_info: exec.provide_cluster_info.unwrap_or(false),
            cluster: None,
        })
    }

    /// A file or the data itself, not both.
    fn source(&mut self, file: (Option<&str>, yaml::Path), data: (Option<&str>, yaml::Path)) -> Option<Source> {
        let (path, data_text) = (file.0.filter(|t| !t.is_empty()), data.0.filter(|t| !t.is_empty()));
        match (path, data_text) {
            (Some(_), Some(_)) => {
                self.wrong(&file.1, &format!("{} is given too; only one of them can be used", data.1));
                None
            }
            (Some(path), None) => Some(Source::file(file.1.to_string(), self.directory.join(path))),
            (None, Some(text)) => {
                let base64: String = text.split_whitespace().collect();
                match base64::engine::general_purpose::STANDARD.decode(base64) {
                    Ok(bytes) => Some(Source::inline(data.1.to_string(), bytes)),
                    Err(_) => {
                        self.wrong(&data.1, "not base64");
                        None
                    }
                }
            }
            (None, None) => None,
        }
    }

    fn wrong(&mut self, at: &yaml::Path, why: &str) {
        self.problems.push(self.document.problem(Kind::Value, at, Part::Value, why.to_owned(), None));
    }

    fn missing(&mut self, at: &yaml::Path) {
        let why = "Required value".to_owned();
        self.problems.push(self.document.problem(Kind::Value, at, Part::Parent, why, None));
    }
}

/// Visible ASCII: what a bearer token may be made of.
pub(super) fn is_header_text(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn cluster_info(cluster: &file::Cluster, server: &str, trust: &ServerTrust) -> ClusterInfo {
    let mut info = serde_json::Map::new();
    info.insert("server".to_owned(), server.into());
    if let Some(name) = given(cluster.tls_server_name.as_ref()) {
        info.insert("tls-server-name".to_owned(), name.into());
    }
    if matches!(trust, ServerTrust::Anybody) {
        info.insert("insecure-skip-tls-verify".to_owned(), true.into());
    }
    if let Some(url) = cluster.proxy_url.as_ref().filter(|url| !url.is_empty()) {
        info.insert("proxy-url".to_owned(), url.reveal().into());
    }
    if cluster.disable_compression == Some(true) {
        info.insert("disable-compression".to_owned(), true.into());
    }
    if let Some(configuration) = cluster.exec_configuration() {
        info.insert("config".to_owned(), configuration.clone());
    }
    let authority = match trust {
        ServerTrust::Authority(source) => Some(source.clone()),
        ServerTrust::Host | ServerTrust::Anybody => None,
    };
    ClusterInfo { fields: info, authority }
}
