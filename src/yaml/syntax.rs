//! What a YAML scanner complains of, in the words of whoever wrote the file.

use super::problem::{Kind, Problem};

/// How far above the scanner's complaint the missing space may be, in lines that are not blank.
const LINES_ABOVE_MAX: usize = 3;

/// `display` is serde_yaml's sentence, which ends with the place (from 1) that is given beside it.
pub(super) fn explain(text: &str, display: &str, line: u32, column: u32) -> Problem {
    let words = display.split(" at line ").next().unwrap_or(display);
    let words = words.split(" at position ").next().unwrap_or(words);
    let about_keys = words.contains("mapping values are not allowed") || words.contains("could not find expected ':'");
    if about_keys && let Some(problem) = missing_space_above(text, line) {
        return problem;
    }
    let (line, column) = within(text, line, column);
    let mut problem = Problem {
        kind: Kind::Syntax,
        line,
        column,
        path: String::new(),
        message: format!("not valid YAML: {words}"),
        hint: None,
    };
    let complained = text.lines().nth(line as usize - 1).unwrap_or("");
    if complained.trim_start_matches(' ').starts_with('\t') {
        problem.message = "not valid YAML: a tab indents this line".to_owned();
        problem.hint = Some("indent with spaces".to_owned());
    } else if words.contains("recursion limit") {
        problem.message = "nested too deeply".to_owned();
    }
    problem
}

/// The place if it is one of the text, else the text's end: the scanner ends lines at characters that no editor does
/// (U+0085, U+2028, a carriage return alone), and complains of what is missing beyond the last.
pub(super) fn within(text: &str, line: u32, column: u32) -> (u32, u32) {
    // After the last line feed there is one more, empty line.
    let lines: Vec<&str> = text.split('\n').collect();
    let count = u32::try_from(lines.len()).unwrap_or(u32::MAX);
    let shown = line.min(count);
    let width = lines.get(shown as usize - 1).map_or(0, |l| l.chars().count());
    let end = u32::try_from(width).unwrap_or(u32::MAX).saturating_add(1);
    (shown, if line > count { end } else { column.min(end) })
}

fn missing_space_above(text: &str, line: u32) -> Option<Problem> {
    let lines: Vec<&str> = text.lines().take(line as usize).collect();
    let written = lines.iter().enumerate().rev().filter(|(_, l)| {
        let l = l.trim();
        !l.is_empty() && !l.starts_with('#')
    });
    for (index, whole) in written.take(LINES_ABOVE_MAX) {
        let trimmed = whole.trim_start();
        let entry = trimmed.strip_prefix("- ").map_or(trimmed, str::trim_start);
        let found = key_without_space(entry).map(|(key, value)| missing_space(key, value));
        if let Some(mut problem) = found.or_else(|| missing_space_after_dash(entry)) {
            let column = whole[..whole.len() - entry.len()].chars().count() + 1;
            problem.line = u32::try_from(index + 1).unwrap_or(u32::MAX);
            problem.column = u32::try_from(column).unwrap_or(u32::MAX);
            return Some(problem);
        }
    }
    None
}

/// The problem of `key:value`, place and path left open.
pub(super) fn missing_space(key: &str, value: &str) -> Problem {
    Problem {
        kind: Kind::Syntax,
        line: 0,
        column: 0,
        path: String::new(),
        message: format!("a space is missing after the colon in \"{key}:{value}\""),
        hint: Some(format!("write \"{key}: {value}\"")),
    }
}

fn missing_space_after_dash(entry: &str) -> Option<Problem> {
    let rest = entry_without_space(entry)?.trim_end();
    Some(Problem {
        kind: Kind::Syntax,
        line: 0,
        column: 0,
        path: String::new(),
        message: format!("a space is missing after the dash in \"-{rest}\""),
        hint: Some(format!("write \"- {rest}\"")),
    })
}

/// `-containerPort: 8080` -> `containerPort: 8080`: an entry of a list whose dash has become part of a word. Not for
/// numbers and `---`.
pub(super) fn entry_without_space(text: &str) -> Option<&str> {
    text.strip_prefix('-').filter(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
}

/// `app:nodejs` -> (`app`, `nodejs`). Not for times, addresses or URLs, whose colons are no slip.
pub(super) fn key_without_space(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_end();
    let (key, value) = text.split_once(':')?;
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let looks_like_key = key.starts_with(|c: char| c.is_ascii_alphabetic()) && key.chars().all(named);
    let joined = !value.is_empty() && !value.starts_with([' ', '\t']) && !value.starts_with("//");
    (looks_like_key && joined).then_some((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_beyond_the_text_is_its_end() {
        assert_eq!(within("a: b\ncd\n", 2, 2), (2, 2));
        assert_eq!(within("a: b\ncd\n", 3, 1), (3, 1));
        assert_eq!(within("a: b\ncd", 3, 1), (2, 3));
        assert_eq!(within("a\u{2028}b: [", 2, 5), (1, 7));
        assert_eq!(within("a: b", 1, 80), (1, 5));
        assert_eq!(within("", 1, 1), (1, 1));
        assert_eq!(within("", 2, 1), (1, 1));
    }

    #[test]
    fn a_dash_with_a_word_at_it_was_to_be_an_entry() {
        assert_eq!(entry_without_space("-containerPort: 8080"), Some("containerPort: 8080"));
        for text in ["- a", "-1", "---", "a", "-", "--flag"] {
            assert_eq!(entry_without_space(text), None, "{text}");
        }
    }

    #[test]
    fn only_a_word_and_a_value_without_a_space_between_count() {
        assert_eq!(key_without_space("app:nodejs"), Some(("app", "nodejs")));
        assert_eq!(key_without_space("app.kubernetes.io/name:x"), Some(("app.kubernetes.io/name", "x")));
        for text in ["app: nodejs", "app:", "http://x", "8080:80", "\"a\":b", "plain", ":x", "a b:c"] {
            assert_eq!(key_without_space(text), None, "{text}");
        }
    }
}
