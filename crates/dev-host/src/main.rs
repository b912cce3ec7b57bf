//! `dev-host serve` and `compile` are Wasmtime's own; `demo`, `dev`, `attack` and `bench` run them against an emulated Key Vault.

mod demo;

mod dev;

mod attack;

mod bench;

mod rig;

mod client;

mod process;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let done = match Command::parse() {
        Command::Serve(serve) => serve.execute().map_err(|problem| format!("{problem:?}")),
        Command::Compile(compile) => compile.execute().map_err(|problem| format!("{problem:?}")),
        Command::Demo(demo) => demo.run(),
        Command::Dev(dev) => dev.run(),
        Command::Attack(attack) => attack.run(),
        Command::Bench(bench) => bench.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("Error: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs components under Wasmtime
#[derive(Parser)]
#[command(name = "dev-host")]
enum Command {
    /// Serves requests with a component: Wasmtime's own command
    Serve(Box<wasmtime_cli::commands::ServeCommand>),
    /// Compiles a component ahead of its start: Wasmtime's own command
    Compile(Box<wasmtime_cli::commands::CompileCommand>),
    /// Reads one secret through a component and shows how it went
    Demo(demo::Demo),
    /// Keeps a component and an emulated Key Vault running
    Dev(dev::Dev),
    /// Attacks a component as hostile clients would, and measures what others notice
    Attack(attack::Attack),
    /// Measures the gateway beside what its host costs without it, and beside native services
    Bench(bench::Bench),
}
