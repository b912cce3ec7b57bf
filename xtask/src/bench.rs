//! `cargo xtask bench`: builds the gateway and everybody it is measured against, and measures them.

use crate::components::{self, Component, TARGET};
use crate::host;
use crate::process::{become_process, cargo, root, run, target};
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Measures, and writes the report to `docs/performance` unless an option says otherwise.
pub(crate) fn bench(options: &[OsString]) -> Result<ExitCode, String> {
    components::build(&GATEWAYS)?;
    let floors = GATEWAYS.iter().map(|it| floor(*it)).collect::<Result<Vec<_>, _>>()?;
    let host = host::build(true)?;
    eprintln!("building the native service (some 3 minutes the first time)");
    run(&mut cargo(["build", "-p", "native", "--profile", "host"]))?;
    let native = host.with_file_name("native").with_extension(std::env::consts::EXE_EXTENSION);

    let mut command = Command::new(host);
    command.arg("bench").arg("--gateways").args(GATEWAYS.map(Component::path));
    command.arg("--floors").args(floors).arg("--native").arg(native);
    if !options.iter().any(|it| it == "--report") {
        command.arg("--report").arg(root().join("docs/performance"));
    }
    become_process(command.args(options))
}

/// Builds the smallest component of the world of `component`.
fn floor(component: Component) -> Result<PathBuf, String> {
    let mut build = cargo(["build", "--release", "--target", TARGET, "-p", "floor", "--no-default-features"]);
    run(build.args(["--features", component.features()]))?;
    let built = target().join(TARGET).join("release/floor.wasm");
    let kept = component.path().with_file_name(format!("floor-{}.wasm", component.name()));
    fs::copy(&built, &kept).map_err(|problem| format!("cannot copy {built:?} to {kept:?}: {problem}"))?;
    Ok(kept)
}

const GATEWAYS: [Component; 2] = [Component::Proxy, Component::Service];
