//! Where the built components are.

use std::path::PathBuf;

/// The file of the component `name` (`proxy`, `service`, `proxy-spin` or `service-spin`), or a sentence that says how to
/// build it.
pub fn component(name: &str) -> Result<PathBuf, String> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let chosen = std::env::var_os("CARGO_TARGET_DIR").filter(|it| !it.is_empty());
    let target = root.join(chosen.unwrap_or_else(|| "target".into()));
    let file = target.join("components").join(name).with_extension("wasm");
    if file.exists() {
        Ok(file)
    } else {
        Err(format!("{} is not there: run `cargo xtask build`", file.display()))
    }
}
