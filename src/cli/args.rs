//! The verbs' command lines, as typed and checked.

use super::command::command;
use crate::yaml::nearest;
use clap::ArgMatches;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Verbs of a later stage.
const LATER_VERBS: &[&str] = &["completion", "export", "images", "kubeconfig", "pull", "rmi"];
/// Nouns of `describe` of a later stage.
const LATER_NOUNS: &[&str] = &["ev", "event", "events", "no", "node", "nodes"];

/// kubectl's ways to choose pods, which nothing here understands.
const SELECTORS: &[&str] = &["-l", "--selector", "--field-selector"];

/// What was typed.
#[derive(Debug, PartialEq)]
pub struct Parsed {
    pub run_dir: PathBuf,
    pub verb: Verb,
}

#[derive(Debug, PartialEq)]
pub enum Verb {
    GetPods(Get),
    GetImages(Get),
    GetNodes(Get),
    GetEvents {
        options: Get,
        /// Show of which namespace each is.
        namespaces: bool,
    },
    DescribePod(PodName),
    /// Of one namespace, or of all.
    DescribePods {
        namespace: Option<String>,
    },
    /// The manifest directory and the rest are for where no agent answers.
    Explain {
        target: Option<String>,
        manifest_path: PathBuf,
        offline: Offline,
    },
    Logs(Logs),
    Exec(Exec),
    StopPods {
        timeout: Option<Duration>,
    },
    Import(Vec<PathBuf>),
    Check {
        paths: Vec<PathBuf>,
        offline: Offline,
    },
    CheckNode(NodeFlags),
    Version,
}

/// A pod as users name it: by manifest name or full name; in all namespaces unless one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    pub name: String,
    pub namespace: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    pub name: Option<String>,
    pub namespace: Option<String>,
    pub format: Format,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Logs {
    pub pod: PodName,
    pub container: Option<String>,
    pub follow: bool,
    pub previous: bool,
    pub timestamps: bool,
    pub tail: Option<u64>,
    pub since: Option<Duration>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    pub pod: PodName,
    pub container: Option<String>,
    pub stdin: bool,
    pub tty: bool,
    pub command: Vec<String>,
}

/// What the agent's own code needs to know when it works without the agent. Flags of the same names as the agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offline {
    pub root_dir: PathBuf,
    pub hostname_override: Option<String>,
    /// Unknown fields and duplicate keys are errors.
    pub strict: bool,
}

/// The agent's own flags, as far as they decide what this host must have; the agent's own code reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFlags {
    pub config: Option<PathBuf>,
    pub cgroup_root: Option<PathBuf>,
}

/// A command line that is no verb's: what to print, and the exit code (0 for help).
#[derive(Debug, PartialEq, Eq)]
pub struct Usage {
    pub text: String,
    pub exit_code: u8,
}

fn not_built(name: &str) -> Usage {
    Usage { text: format!("not built yet: {name}"), exit_code: 2 }
}

/// `args` without the program's name.
pub fn parse(args: Vec<OsString>) -> Result<Parsed, Usage> {
    if let Some(verb) = args.first().and_then(|first| LATER_VERBS.iter().find(|verb| first == *verb)) {
        let sub = args.get(1).filter(|_| *verb == "images").map(|sub| format!(" {}", sub.to_string_lossy()));
        return Err(not_built(&format!("{verb}{}", sub.unwrap_or_default())));
    }
    let matches = command().try_get_matches_from(args).map_err(usage)?;
    let run_dir = path(&matches, "run-dir");
    let verb = match matches.subcommand() {
        Some(("get", m)) => get(m)?,
        Some(("describe", m)) => describe(m)?,
        Some(("explain", m)) if m.get_flag("node") => return Err(not_built("--node")),
        Some(("explain", m)) => Verb::Explain {
            target: text(m, "target"),
            manifest_path: path(m, "pod-manifest-path"),
            offline: offline(m),
        },
        Some(("logs", m)) => Verb::Logs(logs(m)),
        Some(("exec", m)) => Verb::Exec(exec(m)),
        Some(("stop-pods", m)) => Verb::StopPods { timeout: m.get_one::<Duration>("timeout").copied() },
        Some(("import", m)) => Verb::Import(paths(m, "file")),
        Some(("check", m)) if m.get_flag("node") => Verb::CheckNode(NodeFlags {
            config: m.get_one::<PathBuf>("config").cloned(),
            cgroup_root: m.get_one::<PathBuf>("cgroup-root").cloned(),
        }),
        Some(("check", m)) => Verb::Check { paths: paths(m, "file"), offline: offline(m) },
        // `subcommand_required` leaves no other.
        _ => Verb::Version,
    };
    Ok(Parsed { run_dir, verb })
}

fn usage(mut error: clap::Error) -> Usage {
    let typed = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let (verb, argument) = (typed(ContextKind::InvalidSubcommand), typed(ContextKind::InvalidArg));
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            // clap's own idea of likeness leads from `top` to `stop-pods`.
            error.remove(ContextKind::SuggestedSubcommand);
            error.remove(ContextKind::Suggested);
            let verbs = command();
            if let Some(near) = nearest(&verb, verbs.get_subcommands().map(clap::Command::get_name)) {
                error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![near.to_owned()]));
            }
        }
        ErrorKind::UnknownArgument if SELECTORS.contains(&argument.as_str()) => {
            let text = format!("{argument}: selectors are not supported: name the pod, or a namespace with -n\n");
            return Usage { text, exit_code: 2 };
        }
        // "To pass it as a value, use --": no value here looks like a flag.
        ErrorKind::UnknownArgument => drop(error.remove(ContextKind::Suggested)),
        _ => {}
    }
    let exit_code = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        _ => 2,
    };
    Usage { text: error.render().to_string().trim_end().to_owned() + "\n", exit_code }
}

fn get(m: &ArgMatches) -> Result<Verb, Usage> {
    let noun = text(m, "noun").unwrap_or_default();
    if m.get_flag("watch") {
        return Err(not_built("-w"));
    }
    // kubectl's `pod/NAME`.
    let (noun, name) = match noun.split_once('/') {
        Some((noun, name)) => (noun.to_owned(), Some(name.to_owned())),
        None => (noun, text(m, "name")),
    };
    let format = match text(m, "output").as_deref() {
        Some("wide") => Format::Wide,
        Some("json") => Format::Json,
        Some("yaml") => Format::Yaml,
        Some("name") => Format::Name,
        _ => Format::Table,
    };
    let get = Get { name, namespace: text(m, "namespace"), format };
    match noun.as_str() {
        "po" | "pod" | "pods" => Ok(Verb::GetPods(get)),
        "image" | "images" => Ok(Verb::GetImages(get)),
        "no" | "node" | "nodes" => Ok(Verb::GetNodes(get)),
        "ev" | "event" | "events" => Ok(Verb::GetEvents { options: get, namespaces: m.get_flag("all-namespaces") }),
        _ => Err(wrong_noun(&noun, "pods, images, node or events")),
    }
}

fn describe(m: &ArgMatches) -> Result<Verb, Usage> {
    let noun = text(m, "noun").unwrap_or_default();
    let (noun, name) = match noun.split_once('/') {
        Some((noun, name)) => (noun.to_owned(), Some(name.to_owned())),
        None => (noun, text(m, "name")),
    };
    match (noun.as_str(), name) {
        ("po" | "pod" | "pods", Some(name)) => Ok(Verb::DescribePod(PodName { name, namespace: text(m, "namespace") })),
        ("po" | "pod" | "pods", None) => Ok(Verb::DescribePods { namespace: text(m, "namespace") }),
        (later, _) if LATER_NOUNS.contains(&later) => Err(not_built(later)),
        (other, _) => Err(wrong_noun(other, "pod")),
    }
}

fn wrong_noun(noun: &str, known: &str) -> Usage {
    Usage { text: format!("unknown noun {noun:?}: it must be {known}\n"), exit_code: 2 }
}

fn pod_name(m: &ArgMatches) -> PodName {
    let name = text(m, "pod").unwrap_or_default();
    let name = name.strip_prefix("pod/").or(name.strip_prefix("pods/")).unwrap_or(&name).to_owned();
    PodName { name, namespace: text(m, "namespace") }
}

fn logs(m: &ArgMatches) -> Logs {
    Logs {
        pod: pod_name(m),
        container: text(m, "container"),
        follow: m.get_flag("follow"),
        previous: m.get_flag("previous"),
        timestamps: m.get_flag("timestamps"),
        // kubectl's default is -1, all.
        tail: m.get_one::<i64>("tail").and_then(|lines| u64::try_from(*lines).ok()),
        since: m.get_one::<Duration>("since").copied(),
    }
}

fn exec(m: &ArgMatches) -> Exec {
    Exec {
        pod: pod_name(m),
        container: text(m, "container"),
        stdin: m.get_flag("stdin"),
        tty: m.get_flag("tty"),
        command: m.get_many::<String>("command").into_iter().flatten().cloned().collect(),
    }
}

fn offline(m: &ArgMatches) -> Offline {
    Offline {
        root_dir: path(m, "root-dir"),
        hostname_override: text(m, "hostname-override"),
        strict: text(m, "field-validation").as_deref() != Some("warn"),
    }
}

fn text(m: &ArgMatches, name: &str) -> Option<String> {
    m.get_one::<String>(name).cloned()
}

/// Every path argument of this kind has a default.
fn path(m: &ArgMatches, name: &str) -> PathBuf {
    m.get_one::<PathBuf>(name).cloned().unwrap_or_default()
}

fn paths(m: &ArgMatches, name: &str) -> Vec<PathBuf> {
    m.get_many::<PathBuf>(name).into_iter().flatten().cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Parsed, Usage> {
        parse(words.iter().map(OsString::from).collect())
    }

    fn verb(words: &[&str]) -> Verb {
        parsed(words).unwrap_or_else(|usage| panic!("{words:?}: {}", usage.text)).verb
    }

    fn get_options(name: Option<&str>, namespace: Option<&str>, format: Format) -> Get {
        Get { name: name.map(str::to_owned), namespace: namespace.map(str::to_owned), format }
    }

    #[test]
    fn get_takes_nouns_names_namespaces_and_formats() {
        for (words, expected) in [
            (&["get", "pods"][..], Verb::GetPods(get_options(None, None, Format::Table))),
            (
                &["get", "po", "web", "-n", "x", "-o", "wide"],
                Verb::GetPods(get_options(Some("web"), Some("x"), Format::Wide)),
            ),
            (&["get", "pods", "-ojson", "-A"], Verb::GetPods(get_options(None, None, Format::Json))),
            (&["get", "pod/web", "--output=yaml"], Verb::GetPods(get_options(Some("web"), None, Format::Yaml))),
            (&["get", "pods", "-o", "json", "-o", "name"], Verb::GetPods(get_options(None, None, Format::Name))),
            (&["get", "node", "-o", "yaml"], Verb::GetNodes(get_options(None, None, Format::Yaml))),
            (
                &["get", "events", "-A"],
                Verb::GetEvents { options: get_options(None, None, Format::Table), namespaces: true },
            ),
            (
                &["get", "ev", "web", "-n", "x", "-o", "name"],
                Verb::GetEvents { options: get_options(Some("web"), Some("x"), Format::Name), namespaces: false },
            ),
            (&["get", "images", "-o", "wide"], Verb::GetImages(get_options(None, None, Format::Wide))),
        ] {
            assert_eq!(verb(words), expected, "{words:?}");
        }
    }

    #[test]
    fn the_run_dir_may_stand_anywhere_behind_the_verb() {
        for words in
            [&["get", "--run-dir", "/r", "pods"][..], &["get", "pods", "--run-dir=/r"], &["version", "--run-dir=/r"]]
        {
            assert_eq!(parsed(words).expect("valid").run_dir, PathBuf::from("/r"), "{words:?}");
        }
        assert_eq!(parsed(&["version"]).expect("valid").run_dir, PathBuf::from("/run/pinlet"));
    }

    #[test]
    fn logs_and_exec_have_kubectls_flags() {
        let pod = PodName { name: "web".to_owned(), namespace: Some("x".to_owned()) };
        let logs = Logs {
            pod: pod.clone(),
            container: Some("c".to_owned()),
            follow: true,
            previous: true,
            timestamps: true,
            tail: Some(3),
            since: Some(Duration::from_secs(300)),
        };
        let words = ["logs", "web", "-n", "x", "-c", "c", "-fp", "--timestamps", "--tail", "3", "--since=5m"];
        assert_eq!(verb(&words), Verb::Logs(logs));
        assert!(matches!(verb(&["logs", "pod/web", "--tail=-1"]), Verb::Logs(Logs { tail: None, follow: false, .. })));
        let exec = Exec {
            pod,
            container: None,
            stdin: true,
            tty: true,
            command: ["sh", "-c", "exit 3"].map(str::to_owned).to_vec(),
        };
        assert_eq!(verb(&["exec", "-it", "web", "-n", "x", "--", "sh", "-c", "exit 3"]), Verb::Exec(exec));
    }

    #[test]
    fn the_other_verbs_are_read() {
        let offline = Offline { root_dir: "/var/lib/pinlet".into(), hostname_override: None, strict: true };
        let describe = Verb::DescribePod(PodName { name: "web".to_owned(), namespace: None });
        let stop = |timeout| Verb::StopPods { timeout };
        let explained = |target| Verb::Explain {
            target,
            manifest_path: "/etc/kubernetes/manifests".into(),
            offline: offline.clone(),
        };
        let node_flags = NodeFlags { config: Some("f".into()), cgroup_root: Some("/x".into()) };
        let lenient = Offline { strict: false, hostname_override: Some("n".to_owned()), ..offline.clone() };
        for (words, expected) in [
            (&["describe", "pod", "web"][..], describe),
            (&["describe", "pods"], Verb::DescribePods { namespace: None }),
            (&["describe", "pod", "-n", "x"], Verb::DescribePods { namespace: Some("x".to_owned()) }),
            (&["explain"], explained(None)),
            (&["explain", "./a.yaml"], explained(Some("./a.yaml".to_owned()))),
            (&["stop-pods"], stop(None)),
            (&["stop-pods", "--timeout", "1m30s"], stop(Some(Duration::from_secs(90)))),
            (&["import", "a.tar", "b"], Verb::Import(vec!["a.tar".into(), "b".into()])),
            (&["check", "--node"], Verb::CheckNode(NodeFlags::default())),
            (&["check", "--node", "--config=f", "--cgroup-root", "/x"], Verb::CheckNode(node_flags)),
            (
                &["check", "a.yaml", "--field-validation=warn", "--hostname-override=n"],
                Verb::Check { paths: vec!["a.yaml".into()], offline: lenient },
            ),
            (&["version"], Verb::Version),
        ] {
            assert_eq!(verb(words), expected, "{words:?}");
        }
    }

    #[test]
    fn what_a_later_stage_builds_is_refused_in_the_words_of_the_contract() {
        for (words, name) in [
            (&["get", "pods", "-w"][..], "-w"),
            (&["get", "events", "-w"], "-w"),
            (&["explain", "--node"], "--node"),
            (&["pull", "docker.io/x"], "pull"),
            (&["rmi", "x"], "rmi"),
            (&["export", "x", "f"], "export"),
            (&["images", "check"], "images check"),
            (&["completion", "bash"], "completion"),
            (&["kubeconfig"], "kubeconfig"),
        ] {
            let expected = Usage { text: format!("not built yet: {name}"), exit_code: 2 };
            assert_eq!(parsed(words), Err(expected), "{words:?}");
        }
    }

    #[test]
    fn wrong_usage_names_what_is_wrong() {
        for (words, name) in [
            (&["frobnicate"][..], "frobnicate"),
            (&["get"], "pods|images|node|events"),
            (&["get", "services"], "services"),
            (&["get", "pods", "-o", "xml"], "xml"),
            (&["get", "pods", "--nonsense"], "--nonsense"),
            (&["describe", "node1"], "node1"),
            (&["logs"], "POD"),
            (&["logs", "web", "--tail=x"], "--tail"),
            (&["logs", "web", "--since=5"], "--since"),
            (&["exec", "web"], "CMD"),
            (&["exec", "web", "sh"], "sh"),
            (&["stop-pods", "--timeout=soon"], "--timeout"),
            (&["import"], "FILE"),
            (&["check"], "FILE"),
            (&["check", "a.yaml", "--cgroup-root=/x"], "--node"),
            (&["version", "extra"], "extra"),
        ] {
            let usage = parsed(words).expect_err("must be refused");
            assert_eq!(usage.exit_code, 2, "{words:?}");
            assert!(usage.text.contains(name), "{words:?}: {}", usage.text);
        }
    }

    #[test]
    fn a_tip_is_given_only_where_it_helps() {
        for (words, tip) in [
            (&["log", "web"][..], Some("'logs'")),
            (&["gett", "pods"], Some("'get'")),
            (&["stop-pod"], Some("'stop-pods'")),
            (&["logs", "web", "--folow"], Some("'--follow'")),
            (&["top"], None),
            (&["stop"], None),
            (&["get", "pods", "--no-headers"], None),
        ] {
            let text = parsed(words).expect_err("must be refused").text;
            assert_eq!(text.contains("tip:"), tip.is_some(), "{words:?}: {text}");
            assert!(text.contains(tip.unwrap_or_default()), "{words:?}: {text}");
        }
    }

    #[test]
    fn selectors_get_a_plain_answer() {
        for (words, flag) in [
            (&["get", "pods", "-l", "app=x"][..], "-l"),
            (&["get", "pods", "-lapp=x"], "-l"),
            (&["logs", "--selector=app=x"], "--selector"),
            (&["exec", "-l", "app=x", "--", "ls"], "-l"),
            (&["get", "pods", "--field-selector", "status.phase=Running"], "--field-selector"),
        ] {
            let text = format!("{flag}: selectors are not supported: name the pod, or a namespace with -n\n");
            assert_eq!(parsed(words), Err(Usage { text, exit_code: 2 }), "{words:?}");
        }
    }

    #[test]
    fn help_and_version_are_no_failures() {
        for words in [&["--help"][..], &["-h"], &["help"], &["get", "--help"], &["--version"]] {
            let usage = parsed(words).expect_err("shown");
            assert_eq!(usage.exit_code, 0, "{words:?}: {}", usage.text);
        }
        command().debug_assert();
    }
}
