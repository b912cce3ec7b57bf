//! Takes the white space out of `src/openapi.json`, which would be a part of the component.

use std::env;
use std::fs;
use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=src/openapi.json");
    let document: serde_json::Value = serde_json::from_str(&fs::read_to_string("src/openapi.json")?)?;
    fs::write(
        PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("openapi.json"),
        document.to_string(),
    )
}
