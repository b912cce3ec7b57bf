//! What the tests need of other people's packages and programs: packages from PyPI and npm, installed once, into the target
//! directory, from lists that pin every one of them; and programs that are given an input and a limit.

mod node;

mod python;

use std::error::Error;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant};

pub use node::NodePackages;
pub use python::PythonPackages;

/// Says what could not be run here, and why; `cargo xtask test` makes that a failure where `CI` is set.
pub fn not_run(purpose: &str, reason: &str) -> io::Result<()> {
    say(&format!("NOT RUN: {purpose}: {reason}"))
}

/// What other people's program prints when it reads `input`, and how it ends. One that takes longer than `limit` is killed.
pub fn output_within(limit: Duration, input: &[u8], command: &mut Command) -> io::Result<Output> {
    // Files, as a pipe would not end before the last of its children has, and nobody has to be written to and read from at once.
    let (mut stdin, stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?, tempfile::tempfile()?);
    stdin.write_all(input)?;
    stdin.rewind()?;
    let mut child = command.stdin(stdin).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            let said = [content(stdout)?, content(stderr)?].concat();
            let said = String::from_utf8_lossy(&said);
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{:?} is not over after {limit:?}: {said}", command.get_program()),
            ));
        }
        sleep(Duration::from_millis(20));
    };
    Ok(Output { status, stdout: content(stdout)?, stderr: content(stderr)? })
}

/// What has been written to a file.
fn content(mut file: File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Makes `directory`, filled by `fill`, which is given one of its own first, so that half an installation is not taken for a
/// whole one.
fn make(
    directory: PathBuf,
    what: &str,
    fill: impl FnOnce(&Path) -> Result<Output, Box<dyn Error>>,
) -> Result<Option<PathBuf>, Box<dyn Error>> {
    let parent = directory.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let beside = tempfile::tempdir_in(parent)?;
    say(&format!("installing packages of {what} into {}, once", directory.display()))?;
    let output = fill(beside.path())?;
    if !output.status.success() {
        return Err(format!("{what}: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    match std::fs::rename(beside.path(), &directory) {
        // Another test run may have been first.
        Err(_) if directory.is_dir() => {}
        other => other?,
    }
    Ok(Some(directory))
}

/// What a program prints, if it is there and does not fail.
fn said_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Not `println`, which the test harness keeps to itself when a test passes.
fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "\n{text}")
}

/// Longer than the packages take by a slow network.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);

#[test]
fn a_program_that_does_not_end_is_killed_and_what_it_said_is_told() -> io::Result<()> {
    let shell = |script: &str, limit| output_within(limit, b"in", Command::new("sh").args(["-c", script]));
    let output = shell("cat; echo problem >&2; exit 3", Duration::from_secs(60))?;
    assert_eq!(
        (output.status.code(), &*output.stdout, &*output.stderr),
        (Some(3), &b"in"[..], &b"problem\n"[..])
    );

    let start = Instant::now();
    let problem = shell("echo out; sleep 60", Duration::from_millis(500)).err().map(|it| it.to_string());
    assert!(problem.is_some_and(|it| it.ends_with("is not over after 500ms: out\n")));
    assert!(start.elapsed() < Duration::from_secs(30));
    Ok(())
}
