//! Packages from PyPI.

use std::error::Error;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{INSTALL_LIMIT, make, not_run, output_within, said_by};

/// Packages of Python that belong together.
#[derive(Debug)]
pub struct PythonPackages<'a> {
    /// A word for them, in the name of their directory.
    pub name: &'a str,
    /// What is not run without them.
    pub purpose: &'a str,
    /// The list of them, as pip reads it.
    pub requirements: &'a Path,
    /// The directory below which theirs is, or is made.
    pub target: &'a Path,
}

impl PythonPackages<'_> {
    /// The directory of the packages, which are installed if they are not there. `None`: they cannot be, and this has been
    /// said.
    ///
    /// A machine that cannot reach PyPI names a directory that has them in `AZURE_PYTHON_PACKAGES`, if their name is
    /// `azure`.
    pub fn install(&self) -> Result<Option<PathBuf>, Box<dyn Error>> {
        let version = said_by("python3", &["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]);
        let Some(version) = version else {
            not_run(self.purpose, "python3 is not there; `apt-get install python3 python3-pip` brings it")?;
            return Ok(None);
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
        if said_by("python3", &["-m", "pip", "--version"]).is_none() {
            not_run(self.purpose, "pip is not there; `apt-get install python3-pip` brings it")?;
            return Ok(None);
        }
        make(directory, "Python", |beside| {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
            pip.arg(beside).arg("-r").arg(self.requirements);
            Ok(output_within(INSTALL_LIMIT, b"", &mut pip)?)
        })
    }
}
