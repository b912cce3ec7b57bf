//! The commands of this repository: `cargo xtask build|demo|dev|serve|test|bench|attack|simulate|fuzz`.

mod components;
mod compose;
mod fuzz;
mod host;
mod process;
mod test;

use clap::Parser;
use components::Component;
use process::Done;
use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Build { components } => build(&components).map(|()| ExitCode::SUCCESS),
        Task::Demo => host::demo("demo", &[]),
        Task::Dev(passed) => host::demo("dev", &passed.options),
        Task::Serve { release, component, options } => host::serve(release, &component, &options),
        Task::Test => Ok(test::everything()),
        Task::Bench(passed) => host::bench(&passed.options),
        Task::Attack { release, component, passed } => host::attack(release, component, &passed.options),
        Task::Simulate(passed) => simulate(&passed.options),
        Task::Fuzz { targets, runs } => fuzz::run_targets(&targets, runs).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|problem| {
        eprintln!("error: {problem}");
        ExitCode::FAILURE
    })
}

/// Builds, runs and tests the Key Vault Gateway
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
enum Task {
    /// Build the components into target/components, and the composed examples if none is named
    Build { components: Vec<Component> },
    /// Build everything, read one secret from an emulated Key Vault and show each step
    Demo,
    /// Keep the demo running until ctrl-c, on 127.0.0.1:8080 and with dev/secrets.json
    Dev(Passed),
    /// Run a component under `wasmtime serve` with the settings that are in the environment
    Serve {
        /// Compile the host with optimisations first
        #[arg(long)]
        release: bool,
        /// A component of this repository, or a .wasm file
        #[arg(long, default_value = "service")]
        component: OsString,
        /// Options of `wasmtime serve`, behind --
        #[arg(last = true)]
        options: Vec<OsString>,
    },
    /// Check and test everything that a change can break
    Test,
    /// Measure the gateway beside its host's floor and native services: some 20 minutes, with wrk for the load
    Bench(Passed),
    /// Attack a component under `wasmtime serve` as hostile clients would, and measure what others notice
    Attack {
        /// Compile the host with optimisations first
        #[arg(long)]
        release: bool,
        #[arg(long, default_value = "service")]
        component: Component,
        #[command(flatten)]
        passed: Passed,
    },
    /// Run the core in virtual time against scripted faults
    Simulate(Passed),
    /// Give hostile input to everything that reads what others wrote
    Fuzz {
        /// Targets of fuzz/; all if none is named
        targets: Vec<String>,
        /// How many inputs each target runs
        #[arg(long, default_value_t = fuzz::SHORT_RUN, value_parser = clap::value_parser!(u64).range(1..))]
        runs: u64,
    },
}

#[derive(clap::Args, Debug)]
struct Passed {
    /// Options of the program that the command starts; `-- --help` lists them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "PASSED")]
    options: Vec<OsString>,
}

fn build(named: &[Component]) -> Done {
    if !named.is_empty() {
        return components::build(named);
    }
    components::build(&Component::ALL)?;
    compose::examples()
}

/// Compiles the simulation with optimisations and becomes it.
fn simulate(options: &[OsString]) -> Done<ExitCode> {
    eprintln!("building the simulation with optimisations (about a minute the first time)");
    let mut command = process::cargo(["run", "--quiet", "--profile", "simulation", "-p", "simulation", "--"]);
    process::become_process(command.args(options))
}

#[test]
fn reads_the_commands_of_the_documents() {
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
