//! Finds the built components and compiles them to machine code.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the file of a component, for example `proxy`. The error says how to build it.
pub fn component(name: &str) -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    // Cargo puts the programs and the components below one target directory, whatever its name is.
    let mut files =
        program.ancestors().map(|folder| folder.join("components").join(name).with_extension("wasm"));
    let file = files.find(|file| file.exists());
    file.ok_or_else(|| format!("there is no component {name}: run `cargo xtask build`"))
}

/// Compiles a component to machine code in `directory`, with the `compile` command of the dev-host `program`.
/// The options must match those of the host that runs the code.
pub fn compile(
    program: impl AsRef<Path>,
    options: &[&str],
    component: &Path,
    directory: impl AsRef<Path>,
) -> Result<PathBuf, String> {
    let compiled = directory.as_ref().join(component.with_extension("cwasm").file_name().unwrap_or_default());
    let mut command = Command::new(program.as_ref());
    let status = command.arg("compile").args(options).arg(component).arg("-o").arg(&compiled).status();
    match status {
        Ok(status) if status.success() => Ok(compiled),
        Ok(_) | Err(_) => Err(format!("{} cannot be compiled", component.display())),
    }
}
