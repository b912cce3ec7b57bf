//! The commands of this repository: `cargo xtask build|demo|dev|serve|test|bench|attack|simulate|fuzz`.

mod components;
mod compose;
mod fuzz;
mod host;
mod process;
mod test;

use clap::Parser;
use components::Component;
use process::Result;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Build { components } => build(&components).map(|()| ExitCode::SUCCESS),
        Task::Demo => host::demo("demo", &[]),
        Task::Dev(passed) => host::demo("dev", &passed.options),
        Task::Serve { release, component, options } => host::serve(release, &component, &options),
        Task::Test => Ok(test::run_all()),
        Task::Bench(passed) => host::bench(&passed.options),
        Task::Attack { release, component, passed } => host::attack(release, component, &passed.options),
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
    /// Build components into target/components; default: all, and the composed examples
    Build { components: Vec<Component> },
    /// Build everything, read one secret from an emulated Key Vault and show each step
    Demo,
    /// Keep the demo running until ctrl-c, on 127.0.0.1:8080 with dev/secrets.json
    Dev(PassedOptions),
    /// Run a component under `wasmtime serve` with the settings in the environment
    Serve {
        /// Compile the host with optimisations first
        #[arg(long)]
        release: bool,
        /// A component of this repository, or a .wasm file
        #[arg(long, default_value = "service")]
        component: OsString,
        /// Options of `wasmtime serve`, after --
        #[arg(last = true)]
        options: Vec<OsString>,
    },
    /// Check and test everything in the repository
    Test,
    /// Compare the gateway with an empty component and native services (about 20 minutes; needs wrk)
    Bench(PassedOptions),
    /// Attack a component under `wasmtime serve` with hostile clients, and measure the effect on others
    Attack {
        /// Compile the host with optimisations first
        #[arg(long)]
        release: bool,
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

fn build(named: &[Component]) -> Result {
    if !named.is_empty() {
        return components::build(named);
    }
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
        "build proxy service-spin config-store",
        "serve --component ../whole.wasm --release -- --addr 127.0.0.1:1 -S config",
        "attack --release --component proxy --small",
        "fuzz settings --runs 7",
    ] {
        let words = format!("xtask {line}");
        assert!(Task::try_parse_from(words.split(' ')).is_ok(), "{line:?}");
    }
}
