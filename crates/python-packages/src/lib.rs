//! Packages from PyPI for the tests that run other people's Python programs: installed once, into the target
//! directory, from a list that pins every one of them.

use std::error::Error;
use std::fs::File;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Packages that belong together.
#[derive(Debug)]
pub struct Packages<'a> {
    /// A word for them, in the name of their directory.
    pub name: &'a str,
    /// What is not run without them.
    pub purpose: &'a str,
    /// The list of them, as pip reads it.
    pub requirements: &'a Path,
    /// The directory below which theirs is, or is made.
    pub target: &'a Path,
}

impl Packages<'_> {
    /// The directory of the packages, which are installed if they are not there. `None`: they cannot be, and this has been
    /// said; `cargo xtask test` makes that a failure where `CI` is set.
    ///
    /// A machine that cannot reach PyPI names a directory that has them in `AZURE_PYTHON_PACKAGES`, if their name is
    /// `azure`.
    pub fn install(&self) -> Result<Option<PathBuf>, Box<dyn Error>> {
        let Some(version) = python(&["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]) else {
            return self.not_run("python3 is not there; `apt-get install python3 python3-pip` brings it");
        };
        let chosen = format!("{}_PYTHON_PACKAGES", self.name.to_ascii_uppercase());
        let directory = match std::env::var_os(chosen) {
            Some(directory) => PathBuf::from(directory),
            None => {
                // What was installed for other requirements or for another Python is not what is wanted.
                let mut wanted = DefaultHasher::new();
                std::fs::read(self.requirements)?.hash(&mut wanted);
                let name = format!("python-{}-{}-{:016x}", version.trim(), self.name, wanted.finish());
                self.target.join(name)
            }
        };
        if directory.is_dir() {
            return Ok(Some(directory));
        }
        if python(&["-m", "pip", "--version"]).is_none() {
            return self.not_run("pip is not there; `apt-get install python3-pip` brings it");
        }
        // In a directory of its own first, so that half an installation is not taken for a whole one.
        let parent = directory.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent)?;
        let beside = tempfile::tempdir_in(parent)?;
        say(&format!("installing packages of Python into {}, once", directory.display()))?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        let output = output_within(INSTALL_LIMIT, pip.arg(beside.path()).arg("-r").arg(self.requirements))?;
        if !output.status.success() {
            return Err(format!("pip: {}", String::from_utf8_lossy(&output.stderr)).into());
        }
        match std::fs::rename(beside.path(), &directory) {
            // Another test run may have been first.
            Err(_) if directory.is_dir() => {}
            other => other?,
        }
        Ok(Some(directory))
    }

    /// Says what is missing.
    fn not_run(&self, reason: &str) -> Result<Option<PathBuf>, Box<dyn Error>> {
        say(&format!("NOT RUN: {}: {reason}", self.purpose))?;
        Ok(None)
    }
}

/// What other people's program prints and how it ends. One that takes longer than `limit` is killed.
pub fn output_within(limit: Duration, command: &mut Command) -> io::Result<Output> {
    // Files, as a pipe would not end before the last of its children has.
    let (stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child =
        command.stdin(Stdio::null()).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()?;
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

/// Longer than the packages take by a slow network.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);

/// Not `println`, which the test harness keeps to itself when a test passes.
fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "\n{text}")
}

/// What Python prints, if it is there and does not fail.
fn python(arguments: &[&str]) -> Option<String> {
    let output = Command::new("python3").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_program_that_does_not_end_is_killed_and_what_it_said_is_told() -> io::Result<()> {
    let shell = |script: &str, limit| output_within(limit, Command::new("sh").args(["-c", script]));
    let output = shell("echo out; echo problem >&2; exit 3", Duration::from_secs(60))?;
    assert_eq!(
        (output.status.code(), &*output.stdout, &*output.stderr),
        (Some(3), &b"out\n"[..], &b"problem\n"[..])
    );

    let start = Instant::now();
    let problem = shell("echo out; sleep 60", Duration::from_millis(500)).err().map(|it| it.to_string());
    assert!(problem.is_some_and(|it| it.ends_with("is not over after 500ms: out\n")));
    assert!(start.elapsed() < Duration::from_secs(30));
    Ok(())
}
