//! A JSON value as YAML, in kubectl's layout: keys in order, lists flush with their key.
//!
//! What could be read as anything but the text that it is, is written in double quotes: a JSON string is one in YAML.

use serde_json::Value;

pub fn yaml_text(value: &Value) -> String {
    let mut text = String::new();
    block(value, 0, &mut text);
    text
}

/// Writes `value` at the start of a line, every line behind `indent` blanks.
fn block(value: &Value, indent: usize, text: &mut String) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (position, (key, value)) in map.iter().enumerate() {
                if position > 0 {
                    pad(indent, text);
                }
                entry(key, value, indent, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (position, item) in items.iter().enumerate() {
                if position > 0 {
                    pad(indent, text);
                }
                text.push_str("- ");
                block(item, indent + 2, text);
            }
        }
        leaf => {
            text.push_str(&scalar(leaf));
            text.push('\n');
        }
    }
}

fn entry(key: &str, value: &Value, indent: usize, text: &mut String) {
    text.push_str(&string(key));
    text.push(':');
    match value {
        Value::Object(map) if !map.is_empty() => {
            text.push('\n');
            pad(indent + 2, text);
            block(value, indent + 2, text);
        }
        Value::Array(items) if !items.is_empty() => {
            text.push('\n');
            pad(indent, text);
            block(value, indent, text);
        }
        leaf => {
            text.push(' ');
            text.push_str(&scalar(leaf));
            text.push('\n');
        }
    }
}

fn pad(indent: usize, text: &mut String) {
    text.extend(std::iter::repeat_n(' ', indent));
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => string(text),
        Value::Array(_) => "[]".to_owned(),
        Value::Object(_) => "{}".to_owned(),
    }
}

/// Plain where it cannot be taken for anything else, in any version of YAML.
fn string(text: &str) -> String {
    const WORDS: &[&str] = &["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "infinity"];
    let mut bytes = text.bytes();
    let begins = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'/');
    let goes_on = bytes.all(|b| b.is_ascii_alphanumeric() || b"_./@:+=-".contains(&b));
    let plain = begins && goes_on && !text.ends_with(':') && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    // JSON leaves these as they are, YAML demands an escape or takes them for line ends.
    let special = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    let quoted = Value::from(text).to_string();
    quoted.chars().map(|c| if special(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;
    use serde_json::json;

    #[test]
    fn the_layout_is_kubectls() {
        let value = json!({"b": [{"c": 1, "d": [true, null]}, [], "x"], "a": {"e": {}, "f": "2024-01-01T00:00:00Z"}});
        let text = "a:\n  e: {}\n  f: \"2024-01-01T00:00:00Z\"\nb:\n- c: 1\n  d:\n  - true\n  - null\n- []\n- x\n";
        assert_eq!(yaml_text(&value), text);
        assert_eq!(yaml_text(&json!([])), "[]\n");
        assert_eq!(yaml_text(&json!([[1, 2], [3]])), "- - 1\n  - 2\n- - 3\n");
    }

    #[test]
    fn every_text_comes_back_as_it_was() {
        let texts = [
            "",
            " ",
            "a b",
            "yes",
            "No",
            "null",
            "~",
            "0644",
            "1.5",
            "1e3",
            "a: b",
            "a:",
            "#x",
            "- x",
            "x #y",
            "\n",
            "a\nb\n",
            "\"q\"",
            "'",
            "\u{e9}",
            "\u{1f600}",
            "tab\t",
            "{}",
            "[",
            "*a",
            "&a",
            "!t",
            "%d",
            "@x",
            "`",
            "docker.io/x/y:1@sha256:0",
            "/dev/log",
            "1:30",
            "=",
            "\u{7f}\u{85}",
        ];
        for text in texts {
            let value = json!({"key": [text], text: text});
            let read = yaml::decode::<serde_json::Value>(&yaml_text(&value), yaml::Options { strict: true });
            let read = read.map(|(value, _)| value["key"][0].clone());
            assert_eq!(read.ok(), Some(json!(text)), "{}", yaml_text(&value));
        }
    }
}
