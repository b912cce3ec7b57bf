//! `cargo xtask bench`: builds the gateway and everybody it is measured against, and measures them.

use crate::components::{self, Component};
use crate::compose;
use crate::host;
use crate::process::{become_process, built, cargo, root};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Measures, and writes the report to `docs/performance` unless an option says otherwise.
pub(crate) fn bench(options: &[OsString]) -> Result<ExitCode, String> {
    components::build(&GATEWAYS)?;
    let floors = GATEWAYS.iter().map(|it| build(*it, "floor", "release"));
    let floors = floors.collect::<Result<Vec<_>, _>>()?;
    components::build(&[Component::ConfigStore])?;
    let composed = GATEWAYS.map(|it| {
        let name = format!("reader-{}", it.name());
        compose::compose_package(&name, "reader", it.features())
    });
    let composed = composed.into_iter().collect::<Result<Vec<_>, _>>()?;
    let named = ["keyvault-gateway", "floor"].into_iter().flat_map(|it| GATEWAYS.map(|world| (world, it)));
    let named = named.map(|(world, package)| build(world, package, "named"));
    let named = named.collect::<Result<Vec<_>, _>>()?;
    let host = host::build(true)?;
    eprintln!("building the native service (some 3 minutes the first time)");
    let native = built(&mut cargo(["build", "-p", "native", "--profile", "host"]))?;

    let mut command = Command::new(host);
    command.arg("bench").arg("--gateways").args(GATEWAYS.map(Component::path));
    command.arg("--floors").args(floors).arg("--composed").args(composed).arg("--native").arg(native);
    command.arg("--named").args(named);
    if !options.iter().any(|it| it == "--report") {
        command.arg("--report").arg(root().join("docs/performance"));
    }
    become_process(command.args(options))
}

/// Builds a package for the world of `component`.
fn build(component: Component, package: &str, profile: &str) -> Result<PathBuf, String> {
    let name = format!("{package}-{}-{profile}", component.name());
    components::build_as(&name, package, component.features(), profile)
}

const GATEWAYS: [Component; 2] = [Component::Proxy, Component::Service];
