//! Kubeconfigs as people, kubeadm and cloud providers write them, and what is said of wrong ones.

use super::*;
use crate::damage::{Dice, damaged_text};
use crate::model::time::{Mono, Now, Wall};
use base64::Engine as _;

/// Made for tests; see `tests/data/tls/make.sh`.
const CA: &[u8] = include_bytes!("../../../tests/data/tls/ca.pem");
const CLIENT: &[u8] = include_bytes!("../../../tests/data/tls/client-p256.pem");
const CLIENT_KEY: &[u8] = include_bytes!("../../../tests/data/tls/p256.pkcs8.key");
const OTHER_KEY: &[u8] = include_bytes!("../../../tests/data/tls/p384.pkcs8.key");

const DAMAGES: u64 = 3000;

fn base64(bytes: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn parse(text: &str) -> Result<Kubeconfig, Vec<String>> {
    Kubeconfig::parse(text, Path::new("/etc/kubernetes"))
        .map_err(|problems| problems.iter().map(yaml::Problem::one_line).collect())
}

/// One context, with these fields of its cluster and its user, as flow mappings.
fn config(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\n\
         clusters:\n- name: k\n  cluster: {cluster}\nusers:\n- name: u\n  user: {user}\n"
    )
}

/// As kubeadm writes it for a kubelet, with all that kubectl may add.
fn kubeadm() -> String {
    format!(
        "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {}
    server: https://10.0.0.1:6443/
    extensions:
    - name: cluster_info
      extension: {{provider: minikube.sigs.k8s.io, version: v1.33.1, list: [1, 2.5, ~, yes]}}
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    namespace: default
    user: system:node:n1
  name: system:node:n1@kubernetes
current-context: system:node:n1@kubernetes
kind: Config
preferences: {{}}
users:
- name: system:node:n1
  user:
    client-certificate: /var/lib/kubelet/pki/kubelet-client-current.pem
    client-key: pki/key.pem
    something-new: 1
",
        base64(CA)
    )
}

fn exec_user(fields: &str) -> String {
    config(
        "{server: 'https://a'}",
        &format!("{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, {fields}}}}}"),
    )
}

#[test]
fn a_kubelets_own_file_is_understood() {
    let found = parse(&kubeadm()).expect("valid");
    assert_eq!(found.server, "https://10.0.0.1:6443");
    assert!(matches!(&found.trust, ServerTrust::Authority(source) if source.read().is_ok_and(|pem| pem == CA)));
    let pair = found.user.certificate.expect("a certificate");
    assert_eq!(pair.certificate.path(), Some(Path::new("/var/lib/kubelet/pki/kubelet-client-current.pem")));
    assert_eq!(pair.key.path(), Some(Path::new("/etc/kubernetes/pki/key.pem")));
    assert!(found.user.token.is_none() && found.user.exec.is_none() && found.proxy.is_none());
}

#[test]
fn every_way_to_name_a_server_and_to_trust_it() {
    let server = |cluster: &str| parse(&config(cluster, "{}")).expect("valid");
    assert_eq!(server("{server: '10.0.0.1:6443'}").server, "http://10.0.0.1:6443");
    let skipped = server("{server: '10.0.0.1:6443', insecure-skip-tls-verify: true, tls-server-name: api}");
    assert_eq!((skipped.server.as_str(), skipped.tls_server_name.as_deref()), ("https://10.0.0.1:6443", Some("api")));
    assert!(matches!(skipped.trust, ServerTrust::Anybody));
    let prefixed = server("{server: 'https://rancher/k8s/clusters/c-1/', proxy-url: 'http://u:p@proxy:3128'}");
    assert_eq!(prefixed.server, "https://rancher/k8s/clusters/c-1");
    assert!(matches!(prefixed.trust, ServerTrust::Host));
    assert_eq!(prefixed.proxy.expect("a proxy").to_string(), "proxy:3128");
    let file = server("{server: 'https://a', certificate-authority: pki/ca.crt}");
    let ServerTrust::Authority(source) = file.trust else { panic!("an authority") };
    assert_eq!(source.path(), Some(Path::new("/etc/kubernetes/pki/ca.crt")));
}

#[test]
fn tokens_files_and_data_are_taken_and_never_shown() {
    let user = |user: &str| parse(&config("{server: 'https://a'}", user)).expect("valid").user;
    assert!(matches!(user("{token: sesame}").token, Some(TokenSource::Inline(secret)) if secret.reveal() == "sesame"));
    let both = user("{token: sesame, tokenFile: /run/token}").token;
    assert!(matches!(&both, Some(TokenSource::File { fallback: Some(_), .. })));
    assert!(!format!("{both:?}").contains("sesame"));
    let data = format!("{{client-certificate-data: {}, client-key-data: {}}}", base64(CLIENT), base64(CLIENT_KEY));
    let found = user(&data);
    assert_eq!(found.certificate.as_ref().expect("a pair").key.read().expect("inline"), CLIENT_KEY);
    assert!(!format!("{found:?}").contains("PRIVATE"));
    assert!(user("{}").token.is_none());
    let folded = config(
        "{server: 'https://a'}",
        "\n    client-certificate: a\n    client-key-data: |\n      aGVs\n      bG8=\n",
    );
    let key = parse(&folded).expect("valid").user.certificate.expect("a pair").key;
    assert_eq!(key.read().expect("inline"), b"hello");
}

#[test]
fn plugins_are_taken_in_both_versions() {
    let found = parse(&exec_user("command: ./login, args: [get-token, --id, 0x10], env: [{name: A, value: b}]"));
    let plugin = found.expect("valid").user.exec.expect("a plugin");
    assert_eq!(plugin.command, Path::new("/etc/kubernetes/./login"));
    assert_eq!(plugin.args, ["get-token", "--id", "0x10"]);
    assert_eq!((plugin.env[0].0.as_str(), plugin.env[0].1.reveal()), ("A", "b"));
    let eks = "{exec: {apiVersion: client.authentication.k8s.io/v1beta1, command: aws, args: ~, env: ~}}";
    let plugin = parse(&config("{server: 'https://a'}", eks)).expect("valid").user.exec.expect("a plugin");
    assert_eq!(plugin.command, Path::new("aws"));
    let told = "{server: 'https://a', tls-server-name: n, insecure-skip-tls-verify: true, extensions: \
                [{name: client.authentication.k8s.io/exec, extension: {audience: x, n: 3}}]}";
    let eks = eks.replace("args: ~", "provideClusterInfo: true");
    let text = parse(&config(told, &eks)).expect("valid").user.exec.expect("a plugin").told().expect("JSON");
    for part in ["\"config\":{\"audience\":\"x\",\"n\":3}", "\"server\":\"https://a\"", "\"tls-server-name\":\"n\""] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_in_its_place() {
    let cluster = "{server: 'https://a'}";
    let mismatch = format!("{{client-certificate-data: {}, client-key-data: {}}}", base64(CLIENT), base64(OTHER_KEY));
    for (text, problems) in [
        (String::new(), vec!["1:1: current-context: Required value"]),
        ("[]".to_owned(), vec!["1:1: expected a mapping, found a list"]),
        (
            "kind: Pod\ncurrent-context: x\ncontexts: ~\n".to_owned(),
            vec!["1:7: kind: not a kubeconfig: its kind is Config", "2:18: current-context: no context has this name"],
        ),
        (
            "current-context: x\ncontexts: [{name: x, context: {cluster: k}}]\n".to_owned(),
            vec![
                "2:41: contexts[0].context.cluster: no cluster has this name",
                "2:22: contexts[0].context.user: Required value",
            ],
        ),
        (config("{}", "{}"), vec!["9:3: clusters[0].cluster.server: Required value"]),
        (
            config("{server: 'ftp://a'}", "{}"),
            vec!["9:21: clusters[0].cluster.server: not the URL of a server: https://host:port"],
        ),
        (
            config("{server: 'https://u@a'}", "{}"),
            vec!["9:21: clusters[0].cluster.server: not the URL of a server: https://host:port"],
        ),
        (
            config("{server: a, proxy-url: 'socks5://u:secret@x'}", "{}"),
            vec!["9:35: clusters[0].cluster.proxy-url: socks5 proxies are not supported; an http:// one is"],
        ),
        (
            config("{server: a, certificate-authority: f, certificate-authority-data: YQ==}", "{}"),
            vec![
                "9:47: clusters[0].cluster.certificate-authority: \
                 clusters[0].cluster.certificate-authority-data is given too; only one of them can be used",
            ],
        ),
        (
            config("{server: a, certificate-authority-data: YQ==}", "{}"),
            vec!["9:52: clusters[0].cluster.certificate-authority-data: no PEM certificate in it"],
        ),
        (
            config("{server: a, certificate-authority: f, insecure-skip-tls-verify: yes}", "{}"),
            vec!["9:76: clusters[0].cluster.insecure-skip-tls-verify: the cluster names an authority to verify by"],
        ),
        (config(cluster, "{client-certificate: a}"), vec!["12:3: users[0].user.client-key: Required value"]),
        (
            config(cluster, "{client-certificate: a, client-key-data: '?'}"),
            vec!["12:50: users[0].user.client-key-data: not base64", "12:3: users[0].user.client-key: Required value"],
        ),
        (
            config(cluster, &mismatch),
            vec!["users[0].user.client-key-data: the private key belongs to another certificate"],
        ),
        (
            config(cluster, "{username: admin, password: secret}"),
            vec![
                "12:10: users[0].user.username: basic authentication is not supported",
                "12:27: users[0].user.password: basic authentication is not supported",
            ],
        ),
        (
            config(cluster, "{auth-provider: {name: gcp, config: {access-token: secret}}}"),
            vec!["12:10: users[0].user.auth-provider: not supported; an exec plugin is"],
        ),
        (
            config(cluster, "{as: root, as-groups: [g]}"),
            vec![
                "12:10: users[0].user.as: impersonation is not supported",
                "12:20: users[0].user.as-groups: impersonation is not supported",
            ],
        ),
        (
            config(cluster, "{token: \"sec ret\"}"),
            vec!["12:17: users[0].user.token: holds characters that no HTTP header may hold"],
        ),
        (
            config(cluster, "{exec: {apiVersion: client.authentication.k8s.io/v1alpha1}}"),
            vec![
                "12:29: users[0].user.exec.apiVersion: only client.authentication.k8s.io/v1 and \
                 client.authentication.k8s.io/v1beta1 are known",
                "12:10: users[0].user.exec.command: Required value",
            ],
        ),
        (
            config(cluster, "{exec: {apiVersion: client.authentication.k8s.io/v1, command: x}}"),
            vec!["12:10: users[0].user.exec.interactiveMode: Required value"],
        ),
        (
            exec_user("command: x, interactiveMode: Always"),
            vec!["users[0].user.exec.interactiveMode: nobody is there to answer a plugin"],
        ),
    ] {
        let found = parse(&text).expect_err("wrong");
        assert_eq!(found.len(), problems.len(), "{text}\n{found:?}");
        for (found, wanted) in found.iter().zip(&problems) {
            assert!(found == wanted || found.ends_with(&format!(": {wanted}")), "{text}\n{found}\n{wanted}");
        }
        assert!(!found.concat().contains("secret"), "{found:?}");
    }
}

#[test]
fn a_line_that_is_quoted_would_show_a_secret() {
    let text = config("{server: a}", "\n    token:sesame\n    x: y\n");
    let found = parse(&text).expect_err("wrong");
    assert_eq!(found, ["13:5: a space is missing after the colon"]);
}

#[test]
fn no_damage_makes_the_parser_panic_or_show_a_secret() {
    let secret = "sesame-open-thyself";
    let exec = exec_user(&format!("command: /bin/x, provideClusterInfo: true, env: [{{name: A, value: {secret}}}]"));
    let token = config("{server: 'https://a:1', proxy-url: 'http://p:1'}", &format!("{{token: {secret}}}"));
    for whole in [kubeadm(), exec, token] {
        for seed in 0..DAMAGES / 3 {
            let text = damaged_text(&whole, &mut Dice::new(seed));
            match Kubeconfig::parse(&text, Path::new("/etc/kubernetes")) {
                Ok(found) => {
                    let host = found.server.split("://").nth(1).unwrap_or_default();
                    assert!(!host.is_empty() && !found.server.contains(char::is_whitespace), "{seed}: {found:?}");
                    assert!(!format!("{found:?}").contains(secret), "{seed}: {found:?}");
                }
                Err(problems) => assert!(!problems.is_empty(), "{seed}"),
            }
        }
    }
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("pinlet-kubeconfig-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let aside = self.0.join("aside");
        std::fs::write(&aside, bytes).expect("written");
        std::fs::rename(aside, self.0.join(name)).expect("renamed");
    }

    fn credentials(&self, user: &str) -> Credentials {
        let text = config("{server: 'https://a'}", user);
        Credentials::new(Kubeconfig::parse(&text, &self.0).expect("valid").user)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn at(seconds: u64) -> Now {
    Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(1_800_000_000_000_000_000) }
}

#[test]
fn a_token_file_is_looked_at_once_a_minute_and_on_a_refusal() {
    let scratch = Scratch::new("token");
    let mut credentials = scratch.credentials("{tokenFile: token, token: inline}");
    let bearer = |credential: Credential| credential.bearer.expect("a token").reveal().to_owned();
    assert_eq!(bearer(credentials.current(at(1)).expect("the inline one")), "inline");
    scratch.write("token", b" one \n");
    assert_eq!(bearer(credentials.current(at(30)).expect("not looked at")), "inline");
    let first = credentials.current(at(61)).expect("looked at");
    assert_eq!(bearer(first.clone()), "one");
    scratch.write("token", b"two");
    assert_eq!(bearer(credentials.current(at(120)).expect("not looked at")), "one");
    let second = credentials.refresh(first.number, at(120)).expect("read").expect("a newer one");
    assert_eq!(bearer(second.clone()), "two");
    // Another thread was refused with the first: it only needs to be told.
    assert_eq!(credentials.refresh(first.number, at(120)).expect("known").expect("newer").number, second.number);
    assert!(credentials.refresh(second.number, at(121)).expect("read").is_none());
    std::fs::remove_file(scratch.0.join("token")).expect("removed");
    assert_eq!(bearer(credentials.current(at(300)).expect("the last good one")), "two");
}

#[test]
fn a_certificate_is_replaced_when_both_its_files_are() {
    let scratch = Scratch::new("certificate");
    let mut credentials = scratch.credentials("{client-certificate: cert, client-key: key}");
    let error = credentials.current(at(1)).expect_err("not there").to_string();
    assert!(error.starts_with("users[0].user.client-certificate /") && error.contains("No such file"), "{error}");
    scratch.write("cert", CLIENT);
    scratch.write("key", OTHER_KEY);
    let error = credentials.current(at(2)).expect_err("not one pair").to_string();
    assert!(error.starts_with("users[0].user.client-key /") && error.contains("another certificate"), "{error}");
    scratch.write("key", CLIENT_KEY);
    let first = credentials.current(at(3)).expect("a pair").identity_number;
    assert_eq!(credentials.current(at(9)).expect("the same").identity_number, first);
    scratch.write("key", OTHER_KEY);
    assert_eq!(credentials.current(at(11)).expect("the one before").identity_number, first);
    scratch.write("cert", include_bytes!("../../../tests/data/tls/client-p384.pem"));
    assert_eq!(credentials.current(at(13)).expect("the new one").identity_number, first + 1);
}
