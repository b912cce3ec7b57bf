//! The development host: Wasmtime's own `serve`, the emulator, and what starts them together.

use crate::Served;
use crate::components::{self, Component};
use crate::process::{become_process, cargo, root, run, target, without_leftovers};
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

/// Runs a component under `wasmtime serve`, with our environment and the user's options.
pub(crate) fn serve(release: bool, served: &Served, options: &[OsString]) -> Result<ExitCode, String> {
    let component = match served {
        Served::Built(component) => {
            components::build(&[*component])?;
            component.path().into_os_string()
        }
        Served::File(path) => path.clone(),
    };
    let host = build(release)?;
    let mut command = Command::new(host);
    command.args(serve_arguments(&component, options));
    become_process(without_leftovers(&mut command).env_remove("CARGO"))
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
    let (profile, folder) = if release { ("host", "host") } else { ("dev", "debug") };
    run(&mut cargo(["build", "-p", "dev-host", "--profile", profile]))?;
    Ok(target().join(folder).join("dev-host").with_extension(std::env::consts::EXE_EXTENSION))
}

fn serve_arguments(component: &OsStr, options: &[OsString]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["serve", "-S", "cli", "-S", "inherit-env=y"].map(OsString::from).into();
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

#[test]
fn the_address_of_the_user_replaces_ours() {
    let arguments = |options: &[&str]| {
        let options: Vec<OsString> = options.iter().map(OsString::from).collect();
        let arguments = serve_arguments("x.wasm".as_ref(), &options);
        arguments.iter().map(|it| it.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        arguments(&["-W", "timeout=10s"]),
        "serve -S cli -S inherit-env=y --addr 127.0.0.1:8080 -W timeout=10s x.wasm"
    );
    assert_eq!(arguments(&["--addr", "[::1]:0"]), "serve -S cli -S inherit-env=y --addr [::1]:0 x.wasm");
    assert_eq!(arguments(&["--addr=[::1]:0"]), "serve -S cli -S inherit-env=y --addr=[::1]:0 x.wasm");
}
