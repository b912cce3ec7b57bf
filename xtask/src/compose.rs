//! `cargo xtask compose`: makes one component of an application and of the gateway.

use crate::components::{self, Component, TARGET};
use crate::process::{cargo, run};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What is composed: the examples, or somebody's file into another.
#[derive(Debug, PartialEq)]
pub(crate) enum Composed {
    Examples,
    File { application: OsString, output: OsString },
}

impl Composed {
    pub(crate) fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let is_other = |it: &&OsString| Path::new(it).extension() != Some(OsStr::new("wasm"));
        match arguments {
            [] => Ok(Self::Examples),
            [application, output] => match arguments.iter().find(is_other) {
                None => Ok(Self::File { application: application.clone(), output: output.clone() }),
                Some(other) => Err(format!("{} is no .wasm file", other.display())),
            },
            _ => Err("compose takes an application and an output, or neither".to_owned()),
        }
    }

    /// Builds the components that an application may import from, and composes them as far as it does.
    pub(crate) fn make(&self) -> Result<(), String> {
        eprintln!("[1/2] building the gateway and its config store (about a minute the first time)");
        components::build(&PARTS)?;
        match self {
            Self::Examples => {
                eprintln!("[2/2] building the examples and composing them");
                examples()
            }
            Self::File { application, output } => {
                eprintln!("[2/2] composing");
                compose(Path::new(application), Path::new(output))
            }
        }
    }
}

/// Builds the examples and composes each: `target/components/NAME-alone.wasm` and `NAME.wasm`. The parts have been built.
pub(crate) fn examples() -> Result<(), String> {
    for (name, package, features) in EXAMPLES {
        compose_package(name, package, features)?;
    }
    Ok(())
}

/// Builds an application and composes it. The parts have been built.
pub(crate) fn compose_package(name: &str, package: &str, features: &str) -> Result<PathBuf, String> {
    let application = components::build_as(&format!("{name}-alone"), package, features, "release")?;
    let output = components::path(name);
    compose(&application, &output)?;
    Ok(output)
}

/// Checks the examples, as they are for their host.
pub(crate) fn lints() -> Result<(), String> {
    for (_, package, features) in EXAMPLES {
        let mut clippy = cargo(["clippy", "-p", package, "--target", TARGET, "--no-default-features"]);
        run(clippy.args(["--features", features, "--", "-D", "warnings"]))?;
    }
    Ok(())
}

fn compose(application: &Path, output: &Path) -> Result<(), String> {
    eprintln!("composing {} (half a minute the first time)", output.display());
    let mut compose = cargo(["run", "--quiet", "-p", "compose", "--"]);
    run(compose.arg(absolute(output)?).arg(absolute(application)?).args(PARTS.map(Component::path)))?;
    components::say_size(output)
}

/// Cargo works in the root of the repository, the user perhaps somewhere else.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|problem| format!("{}: {problem}", path.display()))
}

/// The names of the composed examples, with their packages and features.
const EXAMPLES: [(&str, &str, &str); 3] = [
    ("configured-proxy", "configured", "proxy"),
    ("configured-service", "configured", "service"),
    ("awaiting", "awaiting", ""),
];

/// What an application may import from. Whoever imports stands before the one that it imports from.
const PARTS: [Component; 3] = [Component::ConfigStore, Component::Proxy, Component::Service];
