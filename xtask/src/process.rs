//! Child processes, and their directories.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

pub(crate) type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Prepares a Cargo command in the root of this repository.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).env("CARGO_TARGET_DIR", target());
    // A configured target would move the programs that we start to another directory.
    command.env_remove("CARGO_BUILD_TARGET");
    // Build scripts that read these variables of `cargo run` would run again.
    let prefixes = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_PACKAGE"];
    for name in env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// Runs rustc and returns its output.
pub(crate) fn rustc<const N: usize>(arguments: [&str; N]) -> Result<String> {
    let output =
        Command::new("rustc").args(arguments).current_dir(root()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("`rustc {}` failed ({})", arguments.join(" "), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Runs `command` until it ends.
pub(crate) fn run(command: &mut Command) -> Result {
    let status = command.status().map_err(|error| format!("cannot run {}: {error}", display(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", display(command)).into()) }
}

/// Replaces this process by `command` on Unix, so that signals and the exit code are those of `command`.
pub(crate) fn exec(command: &mut Command) -> Result<ExitCode> {
    #[cfg(unix)]
    Err(std::os::unix::process::CommandExt::exec(command))?;
    run(command).map(|()| ExitCode::SUCCESS)
}

/// Builds the program of `package` and returns its path.
pub(crate) fn build_program(package: &str, profile: &str) -> Result<PathBuf> {
    run(&mut cargo(["build", "-p", package, "--profile", profile]))?;
    let folder = target().join(if profile == "dev" { "debug" } else { profile });
    Ok(folder.join(package).with_extension(env::consts::EXE_EXTENSION))
}

/// Formats a command as in a shell.
pub(crate) fn display(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Returns Cargo's home directory, with its downloads.
pub(crate) fn cargo_home() -> Result<PathBuf> {
    let chosen = env::var_os("CARGO_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = chosen.or_else(|| Some(env::home_dir()?.join(".cargo")));
    Ok(std::path::absolute(folder.ok_or("there is no home directory")?)?)
}

/// The root directory of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a directory of the repository")
}

/// Returns Cargo's target directory as an absolute path, because Cargo starts in the root directory.
pub(crate) fn target() -> PathBuf {
    let chosen = env::var_os("CARGO_TARGET_DIR").filter(|value| !value.is_empty());
    chosen.and_then(|path| std::path::absolute(path).ok()).unwrap_or_else(|| root().join("target"))
}
