//! The components this repository builds, one for each kind of host.

use crate::process::{cargo, cargo_home, root, run, target};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A component: the same gateway in another world.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Component {
    Proxy,
    Service,
    ProxySpin,
    ServiceSpin,
}

impl Component {
    pub(crate) const ALL: [Self; 4] = [Self::Proxy, Self::Service, Self::ProxySpin, Self::ServiceSpin];

    pub(crate) fn named(text: &OsStr) -> Option<Self> {
        Self::ALL.into_iter().find(|it| text == it.name())
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Service => "service",
            Self::ProxySpin => "proxy-spin",
            Self::ServiceSpin => "service-spin",
        }
    }

    /// The Cargo features that pick its host.
    pub(crate) fn features(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Service => "service",
            Self::ProxySpin => "proxy,spin",
            Self::ServiceSpin => "service,spin",
        }
    }

    /// Where the built component is.
    pub(crate) fn path(self) -> PathBuf {
        target().join("components").join(self.name()).with_extension("wasm")
    }
}

/// Builds `components` and says how large they are.
pub(crate) fn build(components: &[Component]) -> Result<(), String> {
    add_target()?;
    for component in components {
        let mut build = cargo(["build", "--release", "--target", TARGET, "-p", "keyvault-gateway"]);
        build.args(["--no-default-features", "--features", component.features()]);
        run(build.env("CARGO_ENCODED_RUSTFLAGS", flags()?))?;

        let (built, kept) = (target().join(TARGET).join("release/keyvault_gateway.wasm"), component.path());
        let size =
            copy(&built, &kept).map_err(|problem| format!("cannot copy {built:?} to {kept:?}: {problem}"))?;
        let shown = kept.strip_prefix(root()).unwrap_or(&kept);
        eprintln!("  {:<32} {:>4} KiB", shown.display(), size.div_ceil(1024));
    }
    Ok(())
}

/// The user's flags for rustc, and ours, which make the component the same wherever it is built: messages name the file
/// they come from, and without them that would be a file of this machine.
fn flags() -> Result<OsString, String> {
    let cargo_home = cargo_home()?;
    // Of those that fit, the last counts.
    let folders = [(root(), "/gateway"), (target(), "/target"), (cargo_home.as_path(), "/cargo")];
    let mut flags = match (env::var_os("CARGO_ENCODED_RUSTFLAGS"), env::var("RUSTFLAGS")) {
        (Some(encoded), _) => encoded,
        (None, Ok(words)) => words.split_whitespace().collect::<Vec<_>>().join(SEPARATOR).into(),
        (None, Err(_)) => OsString::new(),
    };
    for (folder, name) in folders {
        if !flags.is_empty() {
            flags.push(SEPARATOR);
        }
        flags.push("--remap-path-prefix=");
        flags.push(folder);
        flags.push("=");
        flags.push(name);
    }
    Ok(flags)
}

/// Between the flags of `CARGO_ENCODED_RUSTFLAGS`, so that a path may have spaces.
const SEPARATOR: &str = "\u{1f}";

/// Adds the target that components are compiled for, unless the toolchain has it.
pub(crate) fn add_target() -> Result<(), String> {
    let installed = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(root())
        .output()
        .map_err(|problem| format!("cannot run rustc: {problem}"))?;
    if Path::new(String::from_utf8_lossy(&installed.stdout).trim()).is_dir() {
        return Ok(());
    }
    eprintln!("adding the target {TARGET} to the toolchain");
    run(Command::new("rustup").args(["target", "add", TARGET]).current_dir(root())).map_err(|problem| {
        format!(
            "the Rust toolchain has no {TARGET} target, and adding it needs rustup (https://rustup.rs) and \
             the network ({problem})"
        )
    })
}

pub(crate) const TARGET: &str = "wasm32-wasip2";

fn copy(from: &Path, to: &Path) -> std::io::Result<u64> {
    fs::create_dir_all(to.with_file_name(""))?;
    fs::copy(from, to)
}
