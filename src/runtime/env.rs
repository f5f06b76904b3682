//! The environment and the command line that a container is given: image and Pod put together, `$(NAME)` expanded.
//!
//! Pure. The kubelet's rules (`third_party/forked/golang/expansion`, `makeEnvironmentVariables`) and then
//! containerd's (`WithProcessArgs`, `WithEnv`), since a program sees the outcome of both.

use crate::model::image::ImageConfig;
use crate::model::pod::{Container, EnvVar};

/// What containerd sets where the image has no PATH; libcontainer refuses a process without one.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process's environment, `NAME=value`: the image's, then HOSTNAME, then the Pod's; a later entry of a name takes
/// the place of the earlier one.
pub fn environment(image: &[String], hostname: &str, pod: &[EnvVar]) -> Vec<String> {
    let mut entries: Vec<String> = Vec::with_capacity(image.len() + pod.len() + 2);
    if !image.iter().any(|entry| name_of(entry) == "PATH") {
        entries.push(DEFAULT_PATH.to_owned());
    }
    let hostname = format!("HOSTNAME={hostname}");
    let of_pod = resolve(pod).into_iter().map(|(name, value)| format!("{name}={value}"));
    for entry in image.iter().cloned().chain([hostname]).chain(of_pod) {
        match entries.iter_mut().find(|known| name_of(known) == name_of(&entry)) {
            Some(known) => *known = entry,
            None => entries.push(entry),
        }
    }
    entries
}

/// The command line: `command` and `args` of the Pod over entrypoint and cmd of the image. Empty if neither says
/// anything. `$(NAME)` is expanded from the Pod's variables alone, as the kubelet does; the image's stay as they are.
pub fn command_line(container: &Container, image: &ImageConfig) -> Vec<String> {
    let variables = resolve(&container.env);
    let expanded = |words: &[String]| -> Vec<String> { words.iter().map(|word| expand(word, &variables)).collect() };
    if !container.command.is_empty() {
        return [expanded(&container.command), expanded(&container.args)].concat();
    }
    let rest = if container.args.is_empty() { image.cmd.clone() } else { expanded(&container.args) };
    [image.entrypoint.clone(), rest].concat()
}

/// The Pod's variables with their values, each name once, in order of first appearance. A value sees the entries
/// before it.
fn resolve(pod: &[EnvVar]) -> Vec<(String, String)> {
    let mut known: Vec<(String, String)> = Vec::with_capacity(pod.len());
    for var in pod {
        let value = expand(&var.value, &known);
        match known.iter_mut().find(|(name, _)| *name == var.name) {
            Some((_, old)) => *old = value,
            None => known.push((var.name.clone(), value)),
        }
    }
    known
}

/// `$(NAME)` becomes the value, or stays if the name is unknown; `$$` becomes `$`; an unclosed `$(` and any other
/// `$` stay.
fn expand(text: &str, variables: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
            continue;
        }
        let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
        let Some((name, tail)) = reference else {
            out.push('$');
            rest = after;
            continue;
        };
        match variables.iter().find(|(known, _)| known == name) {
            Some((_, value)) => out.push_str(value),
            None => out.push_str(&format!("$({name})")),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn name_of(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Vec<EnvVar> {
        pairs.iter().map(|(name, value)| EnvVar { name: (*name).into(), value: (*value).into() }).collect()
    }

    #[test]
    fn references_expand_as_the_kubelet_expands_them() {
        let known = vec![("A".to_owned(), "1".to_owned()), ("EMPTY".to_owned(), String::new())];
        for (text, expected) in [
            ("plain", "plain"),
            ("x$(A)y", "x1y"),
            ("$(A)$(A)", "11"),
            ("[$(EMPTY)]", "[]"),
            ("$(NONE)", "$(NONE)"),
            ("$$", "$"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$(A", "$(A"),
            ("$(A$(A)", "$(A$(A)"),
            ("$A ${A} $é", "$A ${A} $é"),
            ("ends in $", "ends in $"),
            ("$()", "$()"),
            ("\u{e9}$(A)\u{e9}", "\u{e9}1\u{e9}"),
        ] {
            assert_eq!(expand(text, &known), expected, "{text}");
        }
    }

    #[test]
    fn a_value_sees_only_the_entries_before_it_and_the_last_duplicate_wins() {
        let env = environment(
            &["PATH=/bin".into(), "LANG=C".into()],
            "host",
            &vars(&[("B", "$(A)"), ("A", "1"), ("C", "$(A)$(B)"), ("A", "2"), ("LANG", "$(LANG)")]),
        );
        assert_eq!(env, ["PATH=/bin", "LANG=$(LANG)", "HOSTNAME=host", "B=$(A)", "A=2", "C=1$(A)"]);
    }

    #[test]
    fn an_image_without_path_gets_the_default_one_and_the_pod_may_set_hostname() {
        let env = environment(&["A=b=c".into()], "host", &vars(&[("HOSTNAME", "mine"), ("PATH", "")]));
        assert_eq!(env, ["PATH=", "A=b=c", "HOSTNAME=mine"]);
    }

    #[test]
    fn command_and_args_override_entrypoint_and_cmd_as_in_the_api() {
        let image = ImageConfig {
            entrypoint: vec!["entry".into(), "$(A)".into()],
            cmd: vec!["cmd".into()],
            ..ImageConfig::default()
        };
        for (command, args, expected) in [
            (vec![], vec![], vec!["entry", "$(A)", "cmd"]),
            (vec![], vec!["$(A)"], vec!["entry", "$(A)", "1"]),
            (vec!["c", "$(A)"], vec![], vec!["c", "1"]),
            (vec!["c"], vec!["$(PATH)"], vec!["c", "$(PATH)"]),
        ] {
            let mut container = super::super::testing::container("c");
            container.env = vars(&[("A", "1")]);
            container.command = command.into_iter().map(str::to_owned).collect();
            container.args = args.into_iter().map(str::to_owned).collect();
            assert_eq!(command_line(&container, &image), expected);
        }
    }
}
