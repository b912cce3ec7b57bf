//! The development host: Wasmtime's own `serve`, the emulator, and the commands that start them together.

use crate::components::{self, Component};
use crate::process::{Done, become_process, built, root};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Starts `demo` or `dev` of the host: an emulated Key Vault, and a component in front of it.
pub(crate) fn demo(command: &str, options: &[OsString]) -> Done<ExitCode> {
    eprintln!("building the component (about a minute the first time)");
    components::build(&[Component::Service])?;
    let mut host = Command::new(build(false)?);
    host.args([command, "--component"]).arg(Component::Service.path());
    if command == "dev" {
        host.arg("--secrets").arg(root().join("dev/secrets.json"));
    }
    become_process(host.args(options))
}

/// Runs a component under `wasmtime serve`, with the settings that are in our environment and the user's options.
pub(crate) fn serve(release: bool, component: &OsStr, options: &[OsString]) -> Done<ExitCode> {
    let file = match component.to_str().and_then(|name| Component::from_str(name, false).ok()) {
        Some(component) => {
            components::build(&[component])?;
            component.path()
        }
        None => PathBuf::from(component),
    };
    let settings: Vec<_> = settings().into_iter().filter(|name| env::var_os(name).is_some()).collect();
    become_process(Command::new(build(release)?).args(serve_arguments(&settings, options)).arg(file))
}

/// Attacks a component, and measures what it and other clients notice.
pub(crate) fn attack(release: bool, component: Component, options: &[OsString]) -> Done<ExitCode> {
    components::build(&[component])?;
    let mut command = Command::new(build(release)?);
    become_process(command.arg("attack").arg("--component").arg(component.path()).args(options))
}

/// Measures the gateway, and writes the report to `docs/performance` unless an option says otherwise.
pub(crate) fn bench(options: &[OsString]) -> Done<ExitCode> {
    use Component::{Proxy, Service};
    components::build(&[Proxy, Service])?;
    let floor = |world: &str| components::build_as(&format!("floor-{world}"), "floor", world);
    let floors = [floor("proxy")?, floor("service")?];
    let host = build(true)?;
    eprintln!("building the native service (some 3 minutes the first time)");
    let native = built("native", "host")?;

    let mut command = Command::new(host);
    command.arg("bench").arg("--gateways").args([Proxy, Service].map(Component::path));
    command.arg("--floors").args(floors).arg("--native").arg(native);
    if !options.iter().any(|it| it == "--report") {
        command.arg("--report").arg(root().join("docs/performance"));
    }
    become_process(command.args(options))
}

/// Builds the host, with optimisations or without.
fn build(release: bool) -> Done<PathBuf> {
    let (profile, minutes) = if release { ("host", 10) } else { ("dev", 5) };
    eprintln!(
        "building the host: Wasmtime, and an emulated Key Vault (some {minutes} minutes the first time)"
    );
    built("dev-host", profile)
}

/// The component learns the settings of our environment, and nothing else of it.
fn serve_arguments(settings: &[&str], options: &[OsString]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["serve", "-S", "cli"].map(OsString::from).into();
    // The names alone: every user of the machine can read a command line.
    arguments.extend(settings.iter().flat_map(|name| ["--env", name]).map(OsString::from));
    if !options.iter().any(|it| it.to_string_lossy().split('=').next() == Some("--addr")) {
        // Wasmtime would listen on every interface.
        arguments.extend(["--addr".into(), "127.0.0.1:8080".into()]);
    }
    arguments.extend_from_slice(options);
    arguments
}

/// The names of all settings: those in the first column of a table of the page, which a test holds against the code.
fn settings() -> BTreeSet<&'static str> {
    let page = include_str!("../../docs/settings.md");
    let columns = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let is_setting = |name: &&str| {
        *name == "KeyVaultUri"
            || name.contains('_') && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    };
    columns.flat_map(|column| column.split('`')).filter(is_setting).collect()
}

#[test]
fn serve_passes_settings_by_name_and_listens_on_loopback() {
    let text = |options: &[&str]| {
        let options: Vec<OsString> = options.iter().map(OsString::from).collect();
        serve_arguments(&["GATEWAY_KEY"], &options).join(OsStr::new(" ")).into_string().unwrap()
    };
    assert_eq!(text(&["-W", "x"]), "serve -S cli --env GATEWAY_KEY --addr 127.0.0.1:8080 -W x");
    assert_eq!(text(&["--addr=[::1]:0"]), "serve -S cli --env GATEWAY_KEY --addr=[::1]:0");
    assert!(settings().contains("KeyVaultUri") && settings().contains("GATEWAY_STORE_KEY"));
}
