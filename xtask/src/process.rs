//! Child processes, and where they work.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::LazyLock;

/// Cargo in this repository, as if the user had called it.
pub(crate) fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    cargo_in(root(), arguments)
}

/// The same in another checkout.
pub(crate) fn cargo_in<const N: usize>(folder: &Path, arguments: [&str; N]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(folder).env("CARGO_TARGET_DIR", target());
    // A target set for all builds would move the programs that we start, and Cargo could not run those that it builds.
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

/// For what this machine's compiler compiles.
pub(crate) fn platform() -> Result<String, String> {
    platform_in(&words_of(rustc().arg("-vV"))?)
}

/// The same in what `rustc -vV` says.
fn platform_in(version: &str) -> Result<String, String> {
    let host = version.lines().find_map(|it| it.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| format!("rustc does not say where it runs: {version}"))
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

/// Runs `build`, which is Cargo and builds one program, and says where that is: settings of the user may have it elsewhere than
/// right below [`target`].
pub(crate) fn built(build: &mut Command) -> Result<PathBuf, String> {
    let shown = line(build);
    build.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = build.output().map_err(|problem| format!("cannot run {shown}: {problem}"))?;
    if !output.status.success() {
        return Err(format!("`{shown}` failed ({})", output.status));
    }
    let program = program_in(&String::from_utf8_lossy(&output.stdout));
    program.ok_or_else(|| format!("`{shown}` does not say where the program is"))
}

/// The last program in Cargo's messages, each of which is an object of JSON on a line.
fn program_in(messages: &str) -> Option<PathBuf> {
    let (_, rest) = messages.lines().filter_map(|it| it.split_once(r#""executable":""#)).next_back()?;
    rest.split_once('"').map(|(path, _)| path.replace(r"\\", r"\").into())
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

/// Takes away what `cargo run` told us about ourselves: build scripts that look at it would run again.
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

#[test]
fn reads_where_a_program_is() {
    let message = |executable: &str| {
        format!(r#"{{"reason":"compiler-artifact","executable":{executable},"fresh":true}}"#)
    };
    let finished = r#"{"reason":"build-finished","success":true}"#;
    let table = [
        (vec![message("null"), message(r#""/target/x86_64/debug/a b""#)], Some("/target/x86_64/debug/a b")),
        (vec![message(r#""C:\\target\\debug\\a.exe""#)], Some(r"C:\target\debug\a.exe")),
        (vec![message("null")], None),
    ];
    for (mut messages, program) in table {
        messages.push(finished.to_owned());
        assert_eq!(program_in(&messages.join("\n")), program.map(PathBuf::from), "{messages:?}");
    }
}

#[test]
fn reads_the_platform() {
    let version = "rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0";
    assert_eq!(platform_in(version).as_deref(), Ok("x86_64-unknown-linux-gnu"));
    assert_eq!(platform_in("rustc").err().as_deref(), Some("rustc does not say where it runs: rustc"));
}
