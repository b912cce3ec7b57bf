//! Secrets files: a JSON object of names and values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::store::{MAX_VALUE_BYTES, is_secret_name};

/// Reads a secrets file and checks its names and values. The error names the place, and contains no value.
pub fn read_secrets(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {file}: {error}"))?;
    let secrets: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|error| {
        // serde's message could contain a value.
        format!("{file}, line {}: expected a JSON object of names and text values", error.line())
    })?;
    let mut names = BTreeSet::new();
    for (name, value) in &secrets {
        let rule = if !is_secret_name(name) {
            "a name is 1 to 127 letters, digits and hyphens"
        } else if value.len() > MAX_VALUE_BYTES {
            "a value is at most 25,600 bytes"
        } else if !names.insert(name.to_ascii_lowercase()) {
            "another secret has the same name in another case"
        } else {
            continue;
        };
        return Err(format!("{file}: Key Vault does not accept {name:?}: {rule}"));
    }
    Ok(secrets)
}
