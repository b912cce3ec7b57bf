//! Where the built components are, and what they are compiled to.

use std::path::{Path, PathBuf};
use std::process::Command;

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

/// The component as machine code in `directory`, by the `compile` of `program`, which is the dev-host itself. Its options have to
/// go with those of the host.
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
