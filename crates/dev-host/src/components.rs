//! Where the built components are.

use std::path::PathBuf;

/// The file of the component `name` (`proxy`, `service`, `proxy-spin` or `service-spin`), or a sentence that says how to
/// build it.
pub fn component(name: &str) -> Result<PathBuf, String> {
    let program =
        std::env::current_exe().map_err(|problem| format!("cannot find this program: {problem}"))?;
    // Cargo builds both below one folder, whatever that is called and from where.
    let mut files =
        program.ancestors().map(|folder| folder.join("components").join(name).with_extension("wasm"));
    let file = files.find(|file| file.exists());
    file.ok_or_else(|| format!("the component {name} is not there: run `cargo xtask build`"))
}
