//! A file of secrets: a JSON object with their names and values.

use std::collections::BTreeMap;
use std::path::Path;

use crate::store::{LONGEST_VALUE, is_name};

/// Reads the names and values of the secrets in a file, all of which a vault takes. The error is a sentence that
/// names the file and the line, and shows no value.
pub fn read_secrets(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {file}: {error}"))?;
    parse(&text).map_err(|(line, rule)| format!("{file}, line {line}: {rule}"))
}

/// The error is a line and what is wrong there.
fn parse(text: &str) -> Result<BTreeMap<String, String>, (usize, String)> {
    let secrets: BTreeMap<String, String> = serde_json::from_str(text).map_err(|error| {
        // Its own message could repeat a value.
        (error.line(), "a JSON object of names and text values is expected".to_owned())
    })?;
    for (name, value) in &secrets {
        let rule = match (is_name(name), value.len() <= LONGEST_VALUE) {
            (false, _) => "a name is 1 to 127 letters, digits and hyphens",
            (true, false) => "a value is at most 25,600 bytes",
            (true, true) => continue,
        };
        let quoted = serde_json::Value::from(name.as_str()).to_string();
        return Err((line_of(text, &quoted), format!("Key Vault does not take {quoted}: {rule}")));
    }
    Ok(secrets)
}

/// The line where this is a name and not a value; the first if it is written in another way.
fn line_of(text: &str, quoted: &str) -> usize {
    let is_name = |at: &usize| text[at + quoted.len()..].trim_start().starts_with(':');
    let at = text.match_indices(quoted).map(|(at, _)| at).find(is_name).unwrap_or(0);
    text[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets() {
        let expected = [("a", "1"), ("b", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parse(r#"{"a": "1", "b": ""}"#), Ok(expected.into()));
        let longest = format!(r#"{{"a": "{}"}}"#, "v".repeat(25_600));
        assert_eq!(parse(&longest).map(|it| it.len()), Ok(1));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        let long = format!("{{\n\"a\": \"\",\n\"b\": \"{}\"\n}}", "hush".repeat(6_401));
        for (text, line, rule) in [
            ("", 1, "a JSON object of names and text values is expected"),
            ("{\n\"a\": \"1\",\n\"b\": 2\n}", 3, "a JSON object of names and text values is expected"),
            ("{\n\"a\": \"hush", 2, "a JSON object of names and text values is expected"),
            (
                "{\n\"a\": \"b_c\",\n\"b_c\" : \"hush\"}",
                3,
                "Key Vault does not take \"b_c\": a name is 1 to 127 letters, digits and hyphens",
            ),
            (
                "{\n\"\\u00fc\": \"hush\"}",
                1,
                "Key Vault does not take \"ü\": a name is 1 to 127 letters, digits and hyphens",
            ),
            (&long, 3, "Key Vault does not take \"b\": a value is at most 25,600 bytes"),
        ] {
            assert_eq!(parse(text), Err((line, rule.to_owned())), "{text:.40}");
        }
    }
}
