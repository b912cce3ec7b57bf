//! Packages from the npm registry.

use std::error::Error;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{INSTALL_LIMIT, make, not_run, output_within, said_by};

/// Packages of Node.js that belong together.
#[derive(Debug)]
pub struct NodePackages<'a> {
    /// A word for them, in the name of their directory.
    pub name: &'a str,
    /// What is not run without them.
    pub purpose: &'a str,
    /// The folder of their list, `package.json` and `package-lock.json`, which has a hash of each package.
    pub list: &'a Path,
    /// What else of that folder goes with them.
    pub files: &'a [&'a str],
    /// The directory below which theirs is, or is made.
    pub target: &'a Path,
}

impl NodePackages<'_> {
    /// The directory that has the packages in `node_modules`, which are installed if they are not there. `None`: they cannot be,
    /// and this has been said.
    pub fn install(&self) -> Result<Option<PathBuf>, Box<dyn Error>> {
        for program in ["node", "npm"] {
            if said_by(program, &["--version"]).is_none() {
                let reason =
                    format!("{program} is not there; https://nodejs.org has both, `apt-get install npm` too");
                not_run(self.purpose, &reason)?;
                return Ok(None);
            }
        }
        let files = ["package.json", "package-lock.json"].iter().chain(self.files);
        let mut wanted = DefaultHasher::new();
        for file in files.clone() {
            std::fs::read(self.list.join(file))?.hash(&mut wanted);
        }
        let directory = self.target.join(format!("node-{}-{:016x}", self.name, wanted.finish()));
        if directory.is_dir() {
            return Ok(Some(directory));
        }
        make(directory, "Node.js", |beside| {
            for file in files {
                std::fs::copy(self.list.join(file), beside.join(file))?;
            }
            let mut npm = Command::new("npm");
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(beside);
            Ok(output_within(INSTALL_LIMIT, b"", &mut npm)?)
        })
    }
}
