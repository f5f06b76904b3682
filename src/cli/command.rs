//! The verbs as clap knows them: names, flags and help.

use crate::model::duration;
use clap::{Arg, ArgAction, Command};
use std::path::PathBuf;
use std::time::Duration;

fn value(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value_name).help(help)
}

fn flag(name: &'static str, short: char, help: &'static str) -> Arg {
    Arg::new(name).long(name).short(short).action(ArgAction::SetTrue).help(help)
}

fn dir(name: &'static str, default: &'static str, help: &'static str) -> Arg {
    value(name, "DIR", help).default_value(default).value_parser(clap::value_parser!(PathBuf))
}

fn namespace() -> Arg {
    value("namespace", "NS", "Only in this namespace; otherwise in all").short('n')
}

fn container() -> Arg {
    value("container", "C", "Container; otherwise the pod's first").short('c')
}

fn pod() -> Arg {
    Arg::new("pod").value_name("POD").required(true).help("Name as in the manifest, or with the node's name behind it")
}

fn files(required: bool) -> Arg {
    let parser = clap::value_parser!(PathBuf);
    Arg::new("file").value_name("FILE").value_parser(parser).num_args(1..).required(required)
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    duration::parse(text)
}

/// All verbs.
pub fn command() -> Command {
    Command::new("pinlet")
        .bin_name("pinlet")
        .no_binary_name(true)
        .about("Runs the static pods of a directory; `pinlet run --help` for the agent's flags")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .args_override_self(true)
        .arg(dir("run-dir", "/run/pinlet", "The agent's run directory").global(true))
        .subcommands(reading_verbs())
        .subcommands(acting_verbs())
        // Only for the help: `main` takes it before it comes here.
        .subcommand(Command::new("run").about("Run the agent (also what no verb means)"))
}

fn reading_verbs() -> [Command; 5] {
    let noun = |names: &'static str| Arg::new("noun").value_name(names).required(true);
    let name = || Arg::new("name").value_name("NAME");
    let output = value("output", "FORMAT", "wide, json, yaml or name")
        .short('o')
        .value_parser(clap::builder::PossibleValuesParser::new(["wide", "json", "yaml", "name"]));
    [
        Command::new("get")
            .about("Show pods, images, the node or events")
            .args([
                noun("pods|images|node|events"),
                name(),
                namespace(),
                output,
                flag("watch", 'w', "Go on showing changes").hide(true),
            ])
            .arg(flag("all-namespaces", 'A', "In all namespaces, as without -n").conflicts_with("namespace")),
        Command::new("describe").about("Show all of a pod, or of all pods").args([noun("pod"), name(), namespace()]),
        Command::new("explain")
            .about("Say why a pod is as it is")
            .arg(Arg::new("target").value_name("POD|FILE").help("A path, a file of the manifest directory, or a pod"))
            .arg(Arg::new("node").long("node").action(ArgAction::SetTrue).hide(true))
            .arg(dir("pod-manifest-path", "/etc/kubernetes/manifests", "Where the manifests are, if no agent answers"))
            .args(decoding_flags()),
        Command::new("logs").about("Print a container's log").args([pod(), container(), namespace()]).args([
            flag("follow", 'f', "Go on until the container ends"),
            flag("previous", 'p', "Of the run before the present one"),
            Arg::new("timestamps").long("timestamps").action(ArgAction::SetTrue).help("The time before each line"),
            value("tail", "N", "Only the last N lines")
                .value_parser(clap::value_parser!(i64))
                .allow_hyphen_values(true),
            value("since", "D", "Only what is younger, such as 5m").value_parser(parse_duration),
        ]),
        Command::new("version").about("Print the versions of this binary and of the agent"),
    ]
}

fn acting_verbs() -> [Command; 4] {
    let command = Arg::new("command").value_name("CMD").num_args(1..).last(true).required(true);
    [
        Command::new("exec").about("Run a command in a container").args([
            pod(),
            container(),
            namespace(),
            flag("stdin", 'i', "Pass standard input on"),
            flag("tty", 't', "Give the command a terminal"),
            command,
        ]),
        Command::new("stop-pods")
            .about("Stop all pods, each within its grace period, and start none until the agent starts anew")
            .arg(
                value("timeout", "D", "Give up after this time; otherwise the largest grace period and 5s")
                    .value_parser(parse_duration),
            ),
        Command::new("import").about("Take image archives or layouts into the store").arg(files(true)),
        Command::new("check")
            .about("Check manifests as the agent would, without it")
            .arg(files(false).value_name("FILE|DIR").required_unless_present("node"))
            .arg(Arg::new("node").long("node").action(ArgAction::SetTrue).help("Say what this host lacks instead"))
            .args(decoding_flags().map(|flag| flag.conflicts_with("node")))
            .args([
                node_flag("cgroup-root", "PATH", "The agent's cgroup root"),
                node_flag("config", "FILE", "The agent's configuration file"),
            ]),
    ]
}

/// What `check --node` depends on: flags of the agent's that have no default here.
fn node_flag(name: &'static str, value_name: &'static str, help: &'static str) -> Arg {
    value(name, value_name, help).value_parser(clap::value_parser!(PathBuf)).requires("node")
}

/// What decoding depends on, where no agent can be asked.
fn decoding_flags() -> [Arg; 3] {
    [
        dir("root-dir", "/var/lib/pinlet", "The agent's root directory"),
        value("hostname-override", "NAME", "The node's name"),
        value("field-validation", "MODE", "strict or warn")
            .default_value("strict")
            .value_parser(clap::builder::PossibleValuesParser::new(["strict", "warn"])),
    ]
}
