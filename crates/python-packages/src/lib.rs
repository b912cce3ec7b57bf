//! Packages from PyPI for the tests that run other people's Python programs: installed once, into the target
//! directory, from a list that pins every one of them.

use std::error::Error;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

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
    /// said; where `CI` is set it is an error.
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
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        let output = pip.arg(beside.path()).arg("-r").arg(self.requirements).output()?;
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

    /// Says what is missing; where everything has to run it is an error.
    fn not_run(&self, reason: &str) -> Result<Option<PathBuf>, Box<dyn Error>> {
        // Not `println`, which the test harness keeps to itself when a test passes.
        writeln!(io::stdout(), "\nNOT RUN: {}: {reason}", self.purpose)?;
        if std::env::var_os("CI").is_some() { Err(reason.into()) } else { Ok(None) }
    }
}

/// What Python prints, if it is there and does not fail.
fn python(arguments: &[&str]) -> Option<String> {
    let output = Command::new("python3").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
