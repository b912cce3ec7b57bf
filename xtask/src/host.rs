//! The commands that start a host: the gateway's own, Wasmtime's `serve`, or the development host with the emulator.

use crate::components::{self, Component};
use crate::process::{Result, build_program, cargo, exec, root, run, target};
use clap::ValueEnum;
use std::collections::BTreeSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// A host that runs components.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub(crate) enum Host {
    Gateway,
    Wasmtime,
}

/// The component of the own host: it may read the token file of workload identity, by its reader.
const EMBEDDED: Component = Component::ServiceFederated;

/// The own host is for Linux and macOS.
pub(crate) const DEFAULT: &str = if cfg!(unix) { "gateway" } else { "wasmtime" };

/// Starts `demo` or `dev` of the host: a component with an emulated Key Vault.
pub(crate) fn demo(command: &str, options: &[OsString]) -> Result<ExitCode> {
    eprintln!("building the component (about a minute the first time)");
    components::build(&[EMBEDDED])?;
    let mut host = Command::new(build(false)?);
    host.args([command, "--component"]).arg(EMBEDDED.path());
    if command == "dev" {
        host.arg("--secrets").arg(root().join("dev/secrets.json"));
    }
    exec(host.args(options))
}

/// Runs a component with the settings in the environment and these options of the host.
pub(crate) fn serve(release: bool, host: Host, component: &OsStr, options: &[OsString]) -> Result<ExitCode> {
    let file = match component.to_str().and_then(|name| Component::from_str(name, false).ok()) {
        Some(component) => {
            components::build(&[component])?;
            component.path()
        }
        None => PathBuf::from(component),
    };
    match (host, release) {
        (Host::Gateway, true) => exec(Command::new(embed(&file, &build(false)?)?).args(options)),
        (Host::Gateway, false) => {
            exec(Command::new(build(false)?).arg("gateway").arg("--component").arg(file).args(options))
        }
        (Host::Wasmtime, _) => {
            let settings: Vec<_> =
                settings().into_iter().filter(|name| env::var_os(name).is_some()).collect();
            exec(Command::new(build(release)?).args(serve_arguments(&settings, options)).arg(file))
        }
    }
}

/// Attacks a component, and measures the effect on it and on other clients.
pub(crate) fn attack(
    release: bool,
    host: Host,
    component: Component,
    options: &[OsString],
) -> Result<ExitCode> {
    components::build(&[component])?;
    let program = build(release)?;
    let mut command = Command::new(&program);
    command.arg("attack").arg("--component").arg(component.path());
    match (host, release) {
        (Host::Wasmtime, _) => command.args(["--host", "wasmtime"]),
        (Host::Gateway, false) => command.args(["--host", "gateway"]),
        (Host::Gateway, true) => command.arg("--program").arg(embed(&component.path(), &program)?),
    };
    exec(command.args(options))
}

/// Measures the gateway, and writes the report to `docs/performance` without the option `--report`.
pub(crate) fn bench(options: &[OsString]) -> Result<ExitCode> {
    use Component::{Proxy, Service};
    components::build(&[Proxy, Service, EMBEDDED])?;
    let floor = |world: &str| components::build_as(&format!("floor-{world}"), "floor", world);
    let floors = [floor("proxy")?, floor("service")?];
    let host = build(true)?;
    let own_host = embed(&EMBEDDED.path(), &host)?;
    eprintln!("building the native service (about 3 minutes the first time)");
    let native = build_program("native", "host")?;

    let mut command = Command::new(host);
    command.arg("bench").arg("--gateways").args([Proxy, Service].map(Component::path));
    command.arg("--floors").args(floors).arg("--own-host").arg(own_host).arg("--native").arg(native);
    if !options.iter().any(|option| option == "--report") {
        command.arg("--report").arg(root().join("docs/performance"));
    }
    exec(command.args(options))
}

/// Measures the memory of the own host under a million requests.
pub(crate) fn soak(options: &[OsString]) -> Result<ExitCode> {
    components::build(&[EMBEDDED])?;
    let host = build(true)?;
    let own_host = embed(&EMBEDDED.path(), &host)?;
    exec(Command::new(host).arg("soak").arg("--own-host").arg(own_host).args(options))
}

/// Builds the gateway's own host with its component embedded.
pub(crate) fn build_gateway() -> Result {
    components::build(&[EMBEDDED])?;
    embed(&EMBEDDED.path(), &build(false)?).map(drop)
}

/// Builds the gateway's own host with this component, which `compiler` compiles, and returns its path.
fn embed(component: &Path, compiler: &Path) -> Result<PathBuf> {
    let code = component.with_extension("code");
    let code = target().join("components").join(code.file_name().unwrap_or_default());
    let mut compile = Command::new(compiler);
    run(compile.arg("gateway").arg("--component").arg(component).arg("--compile-to").arg(&code))?;
    eprintln!("building the gateway's own host with optimisations (about 8 minutes the first time)");
    let mut build = cargo(["build", "-p", "keyvault-gateway-host", "--no-default-features"]);
    run(build.args(["--profile", "gateway"]).env("KEYVAULT_GATEWAY_CODE", code))?;
    let program = target().join("gateway/keyvault-gateway");
    eprintln!("  {:<40} {:>4} KiB", program.display(), program.metadata()?.len().div_ceil(1024));
    Ok(program)
}

/// Builds the development host, with or without optimisations.
fn build(release: bool) -> Result<PathBuf> {
    let (profile, minutes) = if release { ("host", 10) } else { ("dev", 5) };
    eprintln!("building the development host with Wasmtime (about {minutes} minutes the first time)");
    build_program("dev-host", profile)
}

/// Returns the arguments of `serve`. The component gets only the settings from our environment.
fn serve_arguments(settings: &[&str], options: &[OsString]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["serve", "-S", "cli"].map(OsString::from).into();
    // Names without values: all users of the machine can read a command line.
    arguments.extend(settings.iter().flat_map(|name| ["--env", name]).map(OsString::from));
    if !options.iter().any(|option| option.to_string_lossy().split('=').next() == Some("--addr")) {
        // Wasmtime's default is all interfaces.
        arguments.extend(["--addr".into(), "127.0.0.1:8080".into()]);
    }
    arguments.extend_from_slice(options);
    arguments
}

/// Returns the names of all settings, from the tables of the page, which a test compares with the code.
fn settings() -> BTreeSet<&'static str> {
    let page = include_str!("../../docs/reference/settings.md");
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
