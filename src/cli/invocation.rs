//! What the binary was called for, told by its first argument alone.

use std::ffi::OsString;

#[derive(Debug, PartialEq, Eq)]
pub enum Invocation {
    /// The agent, with its flags: `pinlet run ...`, and as a kubelet is called, `pinlet --flag ...` or bare.
    Run(Vec<OsString>),
    /// A hidden role of the same binary, `internal-...`, with its arguments.
    Internal(String, Vec<OsString>),
    /// A client verb, itself included.
    Client(Vec<OsString>),
}

/// `args` without the program's name.
pub fn classify(args: Vec<OsString>) -> Invocation {
    let rest = || args.iter().skip(1).cloned().collect();
    match args.first().map(|first| first.to_string_lossy().into_owned()).as_deref() {
        None => Invocation::Run(args),
        Some("run") => Invocation::Run(rest()),
        Some("--help" | "-h" | "--version" | "-V") => Invocation::Client(args),
        Some("--run-dir") if is_verb(args.get(2)) => Invocation::Client(args),
        Some(flag) if flag.starts_with("--run-dir=") && is_verb(args.get(1)) => Invocation::Client(args),
        Some(flag) if flag.starts_with('-') => Invocation::Run(args),
        Some(role) if role.starts_with("internal-") => Invocation::Internal(role.to_owned(), rest()),
        Some(_) => Invocation::Client(args),
    }
}

/// No flag of the agent's has a word of its own behind it but its value.
fn is_verb(word: Option<&OsString>) -> bool {
    word.is_some_and(|word| word != "run" && !word.to_string_lossy().starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn the_first_argument_tells_the_role() {
        for (words, expected) in [
            (&[][..], Invocation::Run(args(&[]))),
            (&["run", "--v=2"], Invocation::Run(args(&["--v=2"]))),
            (&["--pod-manifest-path", "/x"], Invocation::Run(args(&["--pod-manifest-path", "/x"]))),
            (&["-v=2"], Invocation::Run(args(&["-v=2"]))),
            (&["internal-monitor", "id"], Invocation::Internal("internal-monitor".to_owned(), args(&["id"]))),
            (&["get", "pods"], Invocation::Client(args(&["get", "pods"]))),
            (&["--run-dir=/r", "get", "pods"], Invocation::Client(args(&["--run-dir=/r", "get", "pods"]))),
            (&["--run-dir", "/r", "get"], Invocation::Client(args(&["--run-dir", "/r", "get"]))),
            (&["--run-dir", "/r", "--v=2"], Invocation::Run(args(&["--run-dir", "/r", "--v=2"]))),
            (&["--run-dir=/r"], Invocation::Run(args(&["--run-dir=/r"]))),
            (&["--help"], Invocation::Client(args(&["--help"]))),
            (&["--version"], Invocation::Client(args(&["--version"]))),
            (&["nonsense"], Invocation::Client(args(&["nonsense"]))),
        ] {
            assert_eq!(classify(args(words)), expected, "{words:?}");
        }
    }
}
