//! The components of this repository, one for each kind of host.

use crate::compose;
use crate::process::{Result, cargo, cargo_home, root, run, rustc, target};
use clap::ValueEnum;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A component: the gateway in one of its worlds, alone or composed with the reader of token files; that reader;
/// or the config store of composed applications.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Component {
    Proxy,
    Service,
    TokenFile,
    ProxyFederated,
    ServiceFederated,
    ProxySpin,
    ServiceSpin,
    ServiceSpinFederated,
    ConfigStore,
}

impl Component {
    pub(crate) const ALL: [Self; 9] = [
        Self::Proxy,
        Self::Service,
        Self::TokenFile,
        Self::ProxyFederated,
        Self::ServiceFederated,
        Self::ProxySpin,
        Self::ServiceSpin,
        Self::ServiceSpinFederated,
        Self::ConfigStore,
    ];

    /// Name, Cargo package, and the features that pick the host.
    const fn parts(self) -> [&'static str; 3] {
        match self {
            Self::Proxy => ["proxy", "keyvault-gateway", "proxy"],
            Self::Service => ["service", "keyvault-gateway", "service"],
            Self::TokenFile => ["token-file", "token-file", "component"],
            Self::ProxyFederated => ["proxy-federated", "keyvault-gateway", "proxy,federated"],
            Self::ServiceFederated => ["service-federated", "keyvault-gateway", "service,federated"],
            Self::ProxySpin => ["proxy-spin", "keyvault-gateway", "proxy,spin"],
            Self::ServiceSpin => ["service-spin", "keyvault-gateway", "service,spin"],
            Self::ServiceSpinFederated => {
                ["service-spin-federated", "keyvault-gateway", "service,spin,federated"]
            }
            Self::ConfigStore => ["config-store", "config-store", "component"],
        }
    }

    /// Returns the path of the built component.
    pub(crate) fn path(self) -> PathBuf {
        path(self.parts()[0])
    }

    /// Lints the component for its target.
    pub(crate) fn lint(self) -> Result {
        lint(self.parts()[1], self.parts()[2])
    }
}

pub(crate) fn build(components: &[Component]) -> Result {
    for component in components {
        let [name, package, features] = component.parts();
        if features.ends_with("federated") {
            build(&[Component::TokenFile])?;
            compose::build(name, package, features, &[Component::TokenFile])?;
        } else {
            build_as(name, package, features)?;
        }
    }
    Ok(())
}

/// Builds a package with these features, copies the component to [`path`]`(name)`, and checks that it
/// contains no path of this machine.
pub(crate) fn build_as(name: &str, package: &str, features: &str) -> Result<PathBuf> {
    let mut build = cargo(["build", "--release", "--target", TARGET, "-p", package]);
    build.args(["--no-default-features", "--features", features]);
    run(build.env("CARGO_ENCODED_RUSTFLAGS", flags()?))?;
    let file = package.replace('-', "_");
    let (built, copied) =
        (target().join(TARGET).join("release").join(file).with_extension("wasm"), path(name));
    let bytes = fs::read(&built)?;
    let is_named = |folder: &&PathBuf| {
        let path = folder.as_os_str().as_encoded_bytes();
        bytes.windows(path.len()).any(|window| window == path)
    };
    // A short path such as `/src` can be a part of other paths.
    let sysroot = PathBuf::from(rustc(["--print", "sysroot"])?);
    let folders = [root().to_owned(), target(), cargo_home()?, sysroot, env::home_dir().unwrap_or_default()];
    if let Some(folder) = folders.iter().filter(|folder| folder.components().count() > 2).find(is_named) {
        return Err(format!("{} contains the path {}", built.display(), folder.display()).into());
    }
    fs::create_dir_all(copied.with_file_name(""))?;
    fs::write(&copied, &bytes)?;
    eprintln!("  {:<40} {:>4} KiB", copied.display(), bytes.len().div_ceil(1024));
    Ok(copied)
}

/// Lints a package for the target of components.
pub(crate) fn lint(package: &str, features: &str) -> Result {
    let mut clippy = cargo(["clippy", "-p", package, "--target", TARGET, "--no-default-features"]);
    run(clippy.args(["--features", features, "--", "-D", "warnings"]))
}

/// Returns the path of the component `name`, which may not be built yet.
pub(crate) fn path(name: &str) -> PathBuf {
    target().join("components").join(name).with_extension("wasm")
}

/// Returns rustc flags for reproducible components: without them, panic messages contain source paths of this
/// machine.
fn flags() -> Result<OsString> {
    // A toolchain with `rust-src` uses local paths for the standard library, others a path with the commit.
    let library = Path::new(&rustc(["--print", "sysroot"])?).join("lib/rustlib/src/rust");
    let version = rustc(["-vV"])?;
    let commit = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    let compiled_as = format!("/rustc/{}", commit.ok_or("rustc does not print its commit")?);
    // If several prefixes match a path, the last applies.
    let folders: [(&Path, &str); 4] =
        [(root(), "/gateway"), (&target(), "/target"), (&cargo_home()?, "/cargo"), (&library, &compiled_as)];
    let mut flags = OsString::new();
    for (folder, name) in folders {
        // The separator of `CARGO_ENCODED_RUSTFLAGS`, which allows paths with spaces.
        flags.push(if flags.is_empty() { "--remap-path-prefix=" } else { "\u{1f}--remap-path-prefix=" });
        flags.push(folder);
        flags.push(format!("={name}"));
    }
    Ok(flags)
}

pub(crate) const TARGET: &str = "wasm32-wasip2";
