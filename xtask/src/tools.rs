//! The programs that check and describe the dependencies. They are compiled once, into `target/tools`.

use crate::process::{cargo, run, target};
use std::fs;
use std::path::PathBuf;

/// A program of crates.io, at the version that this repository has been tried with.
pub(crate) struct Tool {
    name: &'static str,
    version: &'static str,
    /// What it takes on two cores.
    time: &'static str,
}

pub(crate) const DENY: Tool = Tool { name: "cargo-deny", version: "0.20.2", time: "two minutes" };

pub(crate) const CYCLONEDX: Tool =
    Tool { name: "cargo-cyclonedx", version: "0.5.9", time: "a minute and a half" };

impl Tool {
    /// The program, compiled if it is not there in this version.
    pub(crate) fn installed(&self) -> Result<PathBuf, String> {
        let Self { name, version, time } = self;
        let folder = target().join("tools");
        let program = folder.join("bin").join(name).with_extension(std::env::consts::EXE_EXTENSION);
        // Cargo notes here what it has installed.
        let list = fs::read_to_string(folder.join(".crates.toml")).unwrap_or_default();
        if program.is_file() && list.contains(&format!("\"{name} {version} (")) {
            return Ok(program);
        }
        println!("compiling {name} {version} into target/tools, once; that takes about {time} on two cores");
        let wanted = format!("={version}");
        let mut install = cargo(["install", "--quiet", "--locked", "--version", &wanted, "--force", name]);
        // It runs for seconds. As it is released, with optimisations across all its crates, it takes many times as long
        // to compile.
        install.args(["--debug", "--config", "profile.dev.debug=false", "--root"]).arg(&folder);
        // What it is made of has no use later, so Cargo puts that into a temporary folder.
        run(install.env_remove("CARGO_TARGET_DIR")).map_err(|problem| {
            format!("{name} {version} cannot be installed, which needs crates.io and a C compiler: {problem}")
        })?;
        Ok(program)
    }
}
