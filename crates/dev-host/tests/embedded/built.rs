//! Where the built components are.

use std::path::PathBuf;

/// The file of a component that `cargo xtask build` has built.
pub(crate) fn built(component: &str) -> PathBuf {
    let workspace = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or(workspace.join("target"), |it| workspace.join(it));
    let file = target.join("components").join(component).with_extension("wasm");
    assert!(file.exists(), "{} is not there: run `cargo xtask build` first", file.display());
    file
}
