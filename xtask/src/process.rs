//! Child processes, and the folders they work in.

use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What a step returns.
pub(crate) type Done<T = ()> = Result<T, Box<dyn Error>>;

/// Cargo in the root of this repository.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root()).env("CARGO_TARGET_DIR", target());
    // A target set for all builds would move the programs that we start.
    command.env_remove("CARGO_BUILD_TARGET");
    // What `cargo run` told us about ourselves: build scripts that look at it would run again.
    let ours = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_PRIMARY_PACKAGE"];
    for name in env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command
}

/// What the compiler prints.
pub(crate) fn rustc<const N: usize>(arguments: [&str; N]) -> Done<String> {
    let output =
        Command::new("rustc").args(arguments).current_dir(root()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("`rustc {}` failed ({})", arguments.join(" "), output.status).into());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Runs `command` to its end.
pub(crate) fn run(command: &mut Command) -> Done {
    let status = command.status().map_err(|problem| format!("cannot run {}: {problem}", line(command)))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", line(command)).into()) }
}

/// Becomes `command`, where that can be done, so that signals and the exit code are its own.
pub(crate) fn become_process(command: &mut Command) -> Done<ExitCode> {
    #[cfg(unix)]
    Err(std::os::unix::process::CommandExt::exec(command))?;
    run(command).map(|()| ExitCode::SUCCESS)
}

/// Builds the program of `package` and returns where it is.
pub(crate) fn built(package: &str, profile: &str) -> Done<PathBuf> {
    run(&mut cargo(["build", "-p", package, "--profile", profile]))?;
    let folder = target().join(if profile == "dev" { "debug" } else { profile });
    Ok(folder.join(package).with_extension(env::consts::EXE_EXTENSION))
}

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default();
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|it| it.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Where Cargo keeps what it has downloaded.
pub(crate) fn cargo_home() -> Done<PathBuf> {
    let chosen = env::var_os("CARGO_HOME").filter(|it| !it.is_empty()).map(PathBuf::from);
    let folder = chosen.or_else(|| Some(env::home_dir()?.join(".cargo")));
    Ok(std::path::absolute(folder.ok_or("there is no home directory")?)?)
}

/// The root of the repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package is a directory of the repository")
}

/// Where Cargo builds, absolute: we start Cargo in the root, whatever the directory of the user.
pub(crate) fn target() -> PathBuf {
    let chosen = env::var_os("CARGO_TARGET_DIR").filter(|it| !it.is_empty());
    chosen.and_then(|it| std::path::absolute(it).ok()).unwrap_or_else(|| root().join("target"))
}
