//! Child processes, and where they work.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::LazyLock;

/// Cargo in this repository, as if the user had called it.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    cargo_in(root(), arguments)
}

/// The same in another checkout.
pub(crate) fn cargo_in<const N: usize>(folder: &Path, arguments: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", target());
    // A target set for all builds would move the programs we start.
    command.env_remove("CARGO_BUILD_TARGET");
    without_leftovers(&mut command);
    command
}

/// The compiler, as Cargo would choose it.
pub(crate) fn rustc() -> Command {
    let chosen = env::var_os("RUSTC").filter(|it| !it.is_empty());
    let mut command = Command::new(chosen.unwrap_or_else(|| "rustc".into()));
    command.current_dir(root());
    command
}

/// What `command` prints, if it ends well.
pub(crate) fn words_of(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|problem| format!("cannot run {}: {problem}", line(command)))?;
    if !output.status.success() {
        let problem = String::from_utf8_lossy(&output.stderr);
        return Err(format!("`{}` failed: {}", line(command), problem.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|problem| format!("cannot run {}: {problem}", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", line(command))) }
}

/// Becomes `command`, so that signals and the exit code are its own.
#[cfg(unix)]
pub(crate) fn become_process(command: &mut Command) -> Result<ExitCode, String> {
    use std::os::unix::process::CommandExt;
    let problem = command.exec();
    Err(format!("cannot run {}: {problem}", line(command)))
}

/// Runs `command` to its end and hands on its exit code.
#[cfg(not(unix))]
pub(crate) fn become_process(command: &mut Command) -> Result<ExitCode, String> {
    let status = command.status().map_err(|problem| format!("cannot run {}: {problem}", line(command)))?;
    let code = status.code().and_then(|it| u8::try_from(it).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Takes away what `cargo run` told us about ourselves: build scripts that look at it would run again, and a
/// component that inherits the environment has no use for it.
pub(crate) fn without_leftovers(command: &mut Command) -> &mut Command {
    let ours = |name: &str| {
        ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|it| name.starts_with(it))
            || name == "CARGO_PRIMARY_PACKAGE"
    };
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(ours)) {
        command.env_remove(name);
    }
    command
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|it| it.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Where Cargo keeps what it has downloaded.
pub(crate) fn cargo_home() -> Result<PathBuf, String> {
    let chosen = env::var_os("CARGO_HOME").filter(|it| !it.is_empty()).map(PathBuf::from);
    let folder = chosen.or_else(|| Some(env::home_dir()?.join(".cargo")));
    folder.and_then(|it| std::path::absolute(it).ok()).ok_or_else(|| "there is no home directory".to_owned())
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a directory of the repository")
}

/// Where Cargo builds, absolute: we start Cargo in the root, whatever the directory of the user.
pub(crate) fn target() -> &'static Path {
    static TARGET: LazyLock<PathBuf> = LazyLock::new(|| {
        let chosen = env::var_os("CARGO_TARGET_DIR").filter(|it| !it.is_empty()).map(PathBuf::from);
        let absolute = chosen.and_then(|it| std::path::absolute(it).ok());
        absolute.unwrap_or_else(|| root().join("target"))
    });
    &TARGET
}
