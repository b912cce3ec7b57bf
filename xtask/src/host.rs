//! The development host: Wasmtime's own `serve`, the emulator, and what starts them together.

use crate::Served;
use crate::components::{self, Component};
use crate::process::{become_process, built, cargo, root};
use std::collections::BTreeSet;
use std::env::{self, VarError};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Reads one secret through everything and shows how it went.
pub(crate) fn demo() -> Result<ExitCode, String> {
    let host = prepare(DEMO)?;
    eprintln!("[3/3] reading a secret through it");
    become_process(Command::new(host).arg("demo").arg("--component").arg(DEMO.path()))
}

/// Keeps everything running for a developer.
pub(crate) fn dev(options: &[OsString]) -> Result<ExitCode, String> {
    let host = prepare(DEMO)?;
    eprintln!("[3/3] starting the emulator and the component");
    let mut command = Command::new(host);
    command.arg("dev").arg("--component").arg(DEMO.path());
    command.arg("--secrets").arg(root().join("dev/secrets.json")).args(options);
    become_process(&mut command)
}

/// Runs a component under `wasmtime serve`, with the settings that are in our environment and the user's options.
pub(crate) fn serve(release: bool, served: &Served, options: &[OsString]) -> Result<ExitCode, String> {
    let component = match served {
        Served::Built(component) => {
            components::build(&[*component])?;
            component.path().into_os_string()
        }
        Served::File(path) => path.clone(),
    };
    let settings = settings_in_the_environment()?;
    let host = build(release)?;
    become_process(Command::new(host).args(serve_arguments(&component, &settings, options)))
}

/// Attacks a component, and measures how it and others fare.
pub(crate) fn attack(release: bool, component: Component, options: &[OsString]) -> Result<ExitCode, String> {
    components::build(&[component])?;
    let host = build(release)?;
    become_process(Command::new(host).arg("attack").arg("--component").arg(component.path()).args(options))
}

/// The component of `demo` and `dev`.
const DEMO: Component = Component::Service;

/// Builds the component and the host.
fn prepare(component: Component) -> Result<PathBuf, String> {
    eprintln!("[1/3] building the component (about a minute the first time)");
    components::build(&[component])?;
    eprintln!("[2/3] building the host: Wasmtime, and an emulated Key Vault (some 5 minutes the first time)");
    build(false)
}

/// Builds the host, with optimisations or without.
pub(crate) fn build(release: bool) -> Result<PathBuf, String> {
    if release {
        eprintln!("building the host with optimisations (some 10 minutes the first time)");
    }
    let profile = if release { "host" } else { "dev" };
    built(&mut cargo(["build", "-p", "dev-host", "--profile", profile]))
}

fn serve_arguments(component: &OsStr, settings: &[&str], options: &[OsString]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["serve", "-S", "cli"].map(OsString::from).into();
    // The names alone: everyone on the machine can read a command line.
    arguments.extend(settings.iter().flat_map(|it| ["--env", it]).map(OsString::from));
    let addressed =
        options.iter().any(|it| it.to_str().is_some_and(|it| it.split('=').next() == Some("--addr")));
    if !addressed {
        // Wasmtime would listen on every interface.
        arguments.extend(["--addr".into(), "127.0.0.1:8080".into()]);
    }
    arguments.extend_from_slice(options);
    arguments.push(component.to_owned());
    arguments
}

/// The names of the settings that are set. Of the rest of the environment a component learns nothing.
fn settings_in_the_environment() -> Result<Vec<&'static str>, String> {
    let mut names = Vec::new();
    for name in settings() {
        match env::var(name) {
            Ok(_) => names.push(name),
            Err(VarError::NotPresent) => {}
            // Wasmtime would say so for each instance.
            Err(VarError::NotUnicode(_)) => return Err(format!("the setting {name} is not UTF-8")),
        }
    }
    Ok(names)
}

/// The names of all settings, which a test of the gateway holds against its code: those in the first column of a table.
fn settings() -> BTreeSet<&'static str> {
    let columns = SETTINGS.lines().filter_map(|it| it.strip_prefix("| ")?.split(" | ").next());
    let is_setting = |it: &&str| {
        *it == "KeyVaultUri" || it.contains('_') && it.bytes().all(|it| it.is_ascii_uppercase() || it == b'_')
    };
    columns.flat_map(|it| it.split('`')).filter(is_setting).collect()
}

const SETTINGS: &str = include_str!("../../docs/settings.md");

#[test]
fn a_component_has_the_settings_and_the_options_of_the_user() {
    let arguments = |settings: &[&str], options: &[&str]| {
        let options: Vec<OsString> = options.iter().map(OsString::from).collect();
        let arguments = serve_arguments("x.wasm".as_ref(), settings, &options);
        arguments.iter().map(|it| it.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        arguments(&["KeyVaultUri", "GATEWAY_KEY"], &["-W", "timeout=10s"]),
        "serve -S cli --env KeyVaultUri --env GATEWAY_KEY --addr 127.0.0.1:8080 -W timeout=10s x.wasm"
    );
    assert_eq!(arguments(&[], &["--addr", "[::1]:0"]), "serve -S cli --addr [::1]:0 x.wasm");
    assert_eq!(arguments(&[], &["--addr=[::1]:0"]), "serve -S cli --addr=[::1]:0 x.wasm");
}

#[test]
fn the_settings_are_those_of_the_page() {
    let settings = settings();
    for name in ["KeyVaultUri", "KEY_VAULT_URI", "GATEWAY_KEY", "IDENTITY_HEADER", "GATEWAY_STORE_KEY"] {
        assert!(settings.contains(name), "{name} is not in {settings:?}");
    }
    assert!(settings.len() < 50, "{settings:?}");
}
