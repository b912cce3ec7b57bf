//! The files of `deploy/`, read.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// The one object of this kind.
pub(crate) fn object(objects: &[Value], kind: &str) -> Value {
    let [object] = objects.iter().filter(|it| it["kind"] == kind).collect::<Vec<_>>().try_into().unwrap();
    Value::clone(object)
}

pub(crate) fn json_file(file: &str) -> Value {
    serde_json::from_str(&read(file)).unwrap()
}

pub(crate) fn yaml_file(file: &str) -> Vec<Value> {
    yaml(&read(file))
}

pub(crate) fn yaml(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// Every file below a folder, in order.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found.iter().map(|it| it.to_str().unwrap().to_owned()).collect()
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

pub(crate) fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
