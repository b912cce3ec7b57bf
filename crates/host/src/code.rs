//! The machine code of the component: embedded, or compiled at the start.

use std::path::Path;

use wasmtime::component::Component;
use wasmtime::{Config, Engine, WasmFeatures};

/// Makes the configuration of the engine, which is the same for compiling and for running.
pub fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model_async(true).epoch_interruption(true);
    // These depend on the Cargo features of Wasmtime, which the build that compiles has and the one that runs
    // has not. The component needs none of them.
    config.wasm_features(WasmFeatures::GC_TYPES | WasmFeatures::EXCEPTIONS | WasmFeatures::THREADS, false);
    config
}

/// Returns the component in `file`, or else the embedded one. An error names what is missing, or the file
/// that is no component.
pub fn component(engine: &Engine, file: Option<&Path>) -> Result<Component, String> {
    match (file, CODE) {
        (Some(file), _) => compile(engine, file),
        (None, Some(code)) => deserialize(engine, code),
        (None, None) => {
            Err("there is no embedded component: name one, or run `cargo xtask build host`".to_owned())
        }
    }
}

#[cfg(feature = "compile")]
fn compile(engine: &Engine, file: &Path) -> Result<Component, String> {
    eprintln!("compiling {}", file.display());
    Component::from_file(engine, file)
        .map_err(|error| format!("{} cannot be used: {error:#}", file.display()))
}

#[cfg(not(feature = "compile"))]
fn compile(_: &Engine, file: &Path) -> Result<Component, String> {
    Err(format!("{} cannot be used: this build has no compiler, only an embedded component", file.display()))
}

#[allow(
    unsafe_code,
    reason = "the code is that which this build has made, of the component in this repository"
)]
fn deserialize(engine: &Engine, code: &[u8]) -> Result<Component, String> {
    // SAFETY: `cargo xtask build host` has compiled the code with this version and this configuration.
    // Wasmtime checks both, and that the CPU has what the code needs.
    let component = unsafe { Component::deserialize(engine, code) };
    component.map_err(|error| format!("the embedded component does not fit this machine: {error:#}"))
}

/// Compiles the component in `file` for every CPU of this architecture, and writes the code to `to`. An error
/// names the file that is missing or wrong.
#[cfg(feature = "compile")]
pub fn compile_to(file: &Path, to: &Path) -> Result<(), String> {
    let compile = || -> wasmtime::Result<()> {
        // A named target has the oldest CPU of its architecture: SSE2 for x86-64, ARMv8.0 for AArch64.
        let engine = Engine::new(config().target(env!("TARGET"))?)?;
        Ok(std::fs::write(to, engine.precompile_component(&std::fs::read(file)?)?)?)
    };
    compile().map_err(|error| format!("{} cannot be compiled to {}: {error:#}", file.display(), to.display()))
}

#[cfg(embedded)]
const CODE: Option<&[u8]> = Some(include_bytes!(env!("KEYVAULT_GATEWAY_CODE")));

#[cfg(not(embedded))]
const CODE: Option<&[u8]> = None;
