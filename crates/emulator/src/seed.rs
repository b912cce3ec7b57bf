//! A file of secrets: a JSON object with their names and values.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

use crate::store::{LONGEST_VALUE, is_name};

/// Reads the names and values of the secrets in a file, all of which a vault takes, each as a secret of its own. The
/// error is a sentence that names the file and the line, and shows no value.
pub fn read_secrets(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {file}: {error}"))?;
    parse(&text).map_err(|(line, rule)| format!("{file}, line {line}: {rule}"))
}

/// The error is a line and what is wrong there.
fn parse(text: &str) -> Result<BTreeMap<String, String>, (usize, String)> {
    let Pairs(pairs) = serde_json::from_str(text).map_err(|error| {
        // Its own message could repeat a value.
        (error.line(), "a JSON object of names and text values is expected".to_owned())
    })?;
    let quoted = |name: &str| serde_json::Value::from(name).to_string();
    let mut secrets = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (name, value) in pairs {
        let rule = match (is_name(&name), value.len() <= LONGEST_VALUE) {
            (false, _) => Some("a name is 1 to 127 letters, digits and hyphens"),
            (true, false) => Some("a value is at most 25,600 bytes"),
            (true, true) => None,
        };
        if let Some(rule) = rule {
            let name = quoted(&name);
            return Err((line_of(text, &name), format!("Key Vault does not take {name}: {rule}")));
        }
        if let Some(first) = names.insert(name.to_ascii_lowercase(), name.clone()) {
            let (first, name) = (quoted(&first), quoted(&name));
            return Err((line_of(text, &name), format!("to Key Vault {name} is the same name as {first}")));
        }
        secrets.insert(name, value);
    }
    Ok(secrets)
}

/// The members of an object as they stand there, also those of one name.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = members.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        from.deserialize_map(Members)
    }
}

/// The last line where this is a name and not a value; the first if it is written in another way.
fn line_of(text: &str, quoted: &str) -> usize {
    let is_name = |at: &usize| text[at + quoted.len()..].trim_start().starts_with(':');
    let at = text.rmatch_indices(quoted).map(|(at, _)| at).find(is_name).unwrap_or(0);
    text[..at].matches('\n').count() + 1
}
