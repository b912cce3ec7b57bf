//! The commands of this repository: `cargo xtask build|demo|dev|serve|test|bench|soak|attack|simulate|fuzz`.

mod components;
mod compose;
mod fuzz;
mod host;
mod process;
mod test;

use clap::{Parser, ValueEnum};
use components::Component;
use host::Host;
use process::Result;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Build { parts } => build(&parts).map(|()| ExitCode::SUCCESS),
        Task::Demo => host::demo("demo", &[]),
        Task::Dev(passed) => host::demo("dev", &passed.options),
        Task::Serve { release, host, component, options } => host::serve(release, host, &component, &options),
        Task::Test => Ok(test::run_all()),
        Task::Bench(passed) => host::bench(&passed.options),
        Task::Soak(passed) => host::soak(&passed.options),
        Task::Attack { release, host, component, passed } => {
            host::attack(release, host, component, &passed.options)
        }
        Task::Simulate(passed) => simulate(&passed.options),
        Task::Fuzz { targets, runs } => fuzz::run_targets(&targets, runs).map(|()| ExitCode::SUCCESS),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

/// Builds, runs and tests the Key Vault Gateway
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Task {
    /// Build components into target/components, or the gateway's own host into target/gateway; default: everything
    Build {
        #[arg(value_parser = [
            "proxy", "service", "token-file", "proxy-federated", "service-federated", "proxy-spin", "service-spin",
            "service-spin-federated",
            "config-store", "host",
        ])]
        parts: Vec<String>,
    },
    /// Build everything, read one secret from an emulated Key Vault and show each step
    Demo,
    /// Keep the demo running until ctrl-c, on 127.0.0.1:8080 with dev/secrets.json
    Dev(PassedOptions),
    /// Run a component with the settings in the environment
    Serve {
        /// Compile the host with optimisations first; the own host then has the component embedded
        #[arg(long)]
        release: bool,
        /// The gateway's own host, or `wasmtime serve`
        #[arg(long, default_value = host::DEFAULT)]
        host: Host,
        /// A component of this repository, or a .wasm file
        #[arg(long, default_value = "service-federated")]
        component: OsString,
        /// Options of the host, after --, as `--listen 127.0.0.1:80` or Wasmtime's `--addr`
        #[arg(last = true)]
        options: Vec<OsString>,
    },
    /// Check and test everything in the repository
    Test,
    /// Compare the gateway with an empty component and native services (about 20 minutes; needs wrk)
    Bench(PassedOptions),
    /// Send a million requests to the own host while Azure fails, and measure its memory
    Soak(PassedOptions),
    /// Attack a component with hostile clients, and measure the effect on others
    Attack {
        /// Compile the host with optimisations first
        #[arg(long)]
        release: bool,
        /// The gateway's own host, or `wasmtime serve`
        #[arg(long, default_value = host::DEFAULT)]
        host: Host,
        #[arg(long, default_value = "service")]
        component: Component,
        #[command(flatten)]
        passed: PassedOptions,
    },
    /// Run the core in virtual time against scripted faults
    Simulate(PassedOptions),
    /// Run the fuzz targets: hostile input for each parser of external text
    Fuzz {
        /// Targets in fuzz/; default: all
        targets: Vec<String>,
        /// The number of inputs for each target
        #[arg(long, default_value_t = fuzz::SHORT_RUN, value_parser = clap::value_parser!(u64).range(1..))]
        runs: u64,
    },
}

#[derive(clap::Args, Debug)]
struct PassedOptions {
    /// Options of the program that the command starts; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PASSED")]
    options: Vec<OsString>,
}

fn build(parts: &[String]) -> Result {
    if parts.is_empty() {
        build_components()?;
    }
    for component in parts.iter().filter_map(|part| Component::from_str(part, false).ok()) {
        components::build(&[component])?;
    }
    // The own host is for Linux and macOS.
    if parts.iter().any(|part| part == "host") || parts.is_empty() && cfg!(unix) {
        host::build_gateway()?;
    }
    Ok(())
}

/// Builds all components and the composed examples.
fn build_components() -> Result {
    components::build(&Component::ALL)?;
    compose::examples()
}

/// Builds the simulation with optimisations and runs it.
fn simulate(options: &[OsString]) -> Result<ExitCode> {
    eprintln!("building the simulation with optimisations (about a minute the first time)");
    let mut command = process::cargo(["run", "--quiet", "--profile", "simulation", "-p", "simulation", "--"]);
    process::exec(command.args(options))
}

#[test]
fn documented_commands_parse() {
    use clap::CommandFactory;
    Task::command().debug_assert();
    for line in [
        "build proxy service-spin config-store host",
        "serve --release -- --listen 127.0.0.1:1",
        "serve --component ../whole.wasm --release --host wasmtime -- --addr 127.0.0.1:1 -S config",
        "attack --release --host wasmtime --component proxy --small",
        "fuzz settings --runs 7",
    ] {
        let words = format!("xtask {line}");
        assert!(Task::try_parse_from(words.split(' ')).is_ok(), "{line:?}");
    }
}
