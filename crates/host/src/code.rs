//! The machine code of the component: embedded, or compiled at the start.

use std::path::Path;

use wasmtime::component::Component;
use wasmtime::{Config, Engine};

/// Makes the engine, which is the same for compiling and for running.
///
/// # Errors
///
/// Fails on a machine that Wasmtime does not support.
pub fn engine() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model_async(true).epoch_interruption(true);
    config
}

/// Returns the component in `file`, or else the embedded one.
///
/// # Errors
///
/// Names what is missing, or the file that is no component.
pub fn component(engine: &Engine, file: Option<&Path>) -> Result<Component, String> {
    match file {
        Some(file) => compile(engine, file),
        None => embedded(engine),
    }
}

#[cfg(feature = "compile")]
fn compile(engine: &Engine, file: &Path) -> Result<Component, String> {
    eprintln!("compiling {}", file.display());
    Component::from_file(engine, file)
        .map_err(|error| format!("{} cannot be used: {error:#}", file.display()))
}

#[cfg(not(feature = "compile"))]
fn compile(_: &Engine, _: &Path) -> Result<Component, String> {
    Err("this build has no compiler, and runs only the component that is embedded in it".to_owned())
}

#[cfg(embedded)]
#[allow(
    unsafe_code,
    reason = "the code is that which this build has made, of the component in this repository"
)]
fn embedded(engine: &Engine) -> Result<Component, String> {
    static CODE: &[u8] = include_bytes!(env!("KEYVAULT_GATEWAY_CODE"));
    // SAFETY: `cargo xtask build` has compiled the code with this version and this configuration, and Wasmtime checks
    // both, and that the CPU has what the code needs.
    let component = unsafe { Component::deserialize(engine, CODE) };
    component.map_err(|error| format!("the embedded component does not fit this machine: {error:#}"))
}

#[cfg(not(embedded))]
fn embedded(_: &Engine) -> Result<Component, String> {
    Err("this build has no embedded component: name one with --component, or build with `cargo xtask build host`"
        .to_owned())
}

/// Compiles the component in `file` for every CPU of this architecture, and writes the code to `to`.
///
/// # Errors
///
/// Names the file that is missing or wrong.
#[cfg(feature = "compile")]
pub fn compile_to(file: &Path, to: &Path) -> Result<(), String> {
    // A target that is named has the oldest CPU of its architecture: SSE2 for x86-64, ARMv8.0 for AArch64.
    let target = target_triple().ok_or("there is no compiler for this system")?;
    let mut config = config();
    let engine = config.target(target).and_then(|config| Engine::new(config));
    let engine = engine.map_err(|error| format!("{error:#}"))?;
    let read = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let code =
        engine.precompile_component(&read).map_err(|error| format!("{}: {error:#}", file.display()))?;
    std::fs::write(to, code).map_err(|error| format!("{}: {error}", to.display()))
}

/// Returns the name of this system, as compilers have it.
#[cfg(feature = "compile")]
const fn target_triple() -> Option<&'static str> {
    Some(match () {
        () if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) => {
            "x86_64-unknown-linux-gnu"
        }
        () if cfg!(all(target_os = "linux", target_arch = "aarch64", target_env = "gnu")) => {
            "aarch64-unknown-linux-gnu"
        }
        () if cfg!(all(target_os = "macos", target_arch = "aarch64")) => "aarch64-apple-darwin",
        () if cfg!(all(target_os = "macos", target_arch = "x86_64")) => "x86_64-apple-darwin",
        () if cfg!(all(target_os = "windows", target_arch = "x86_64")) => "x86_64-pc-windows-msvc",
        () => return None,
    })
}
