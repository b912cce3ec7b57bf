//! A file of secrets: a JSON object with their names and values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::store::{LONGEST_VALUE, is_name};

/// Reads the names and values of the secrets in a file, all of which a vault takes, each as a secret of its own. The
/// error is a sentence that names the file and the place in it, and shows no value.
pub fn read_secrets(path: &Path) -> Result<BTreeMap<String, String>, String> {
    let file = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {file}: {error}"))?;
    let secrets: BTreeMap<String, String> = serde_json::from_str(&text).map_err(|error| {
        // Its own message could repeat a value.
        format!("{file}, line {}: a JSON object of names and text values is expected", error.line())
    })?;
    let mut names = BTreeSet::new();
    for (name, value) in &secrets {
        let rule = if !is_name(name) {
            "a name is 1 to 127 letters, digits and hyphens"
        } else if value.len() > LONGEST_VALUE {
            "a value is at most 25,600 bytes"
        } else if !names.insert(name.to_ascii_lowercase()) {
            "another secret has the same name in another case"
        } else {
            continue;
        };
        return Err(format!("{file}: Key Vault does not take {name:?}: {rule}"));
    }
    Ok(secrets)
}
