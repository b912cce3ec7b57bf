//! `dev-host serve` and `compile` are Wasmtime's own; `demo`, `dev`, `attack` and `bench` run them against an emulated Key Vault.

mod attack;
mod bench;
mod client;
mod demo;
mod dev;
mod process;
mod rig;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::{io, thread};

fn main() -> ExitCode {
    let matches = Command::command().get_matches();
    let done = match Command::from_arg_matches(&matches).unwrap_or_else(|problem| problem.exit()) {
        Command::Serve(serve) => serve.run(&matches),
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
    Serve(Box<Serve>),
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

#[derive(clap::Args)]
struct Serve {
    /// End when the standard input does, and so with the program that has its other end
    #[arg(long, hide = true)]
    until_input_ends: bool,

    #[command(flatten)]
    command: wasmtime_cli::commands::ServeCommand,
}

impl Serve {
    fn run(self, matches: &ArgMatches) -> Result<(), String> {
        if self.until_input_ends {
            thread::spawn(|| {
                // An error is an end as well.
                let _ = io::copy(&mut io::stdin(), &mut io::sink());
                std::process::exit(0)
            });
        }
        self.command.execute().map_err(|problem| match problem.downcast_ref::<io::Error>() {
            Some(taken) if taken.kind() == io::ErrorKind::AddrInUse => {
                format!("{taken}: {}; choose another address", addresses(matches).join(", "))
            }
            Some(_) | None => format!("{problem:?}"),
        })
    }
}

/// The options that say where `serve` listens. Wasmtime's error does not.
fn addresses(matches: &ArgMatches) -> Vec<String> {
    let Some(serve) = matches.subcommand_matches("serve") else { return Vec::new() };
    let options = [("addr", "--addr"), ("shutdown_addr", "--shutdown-addr")].into_iter();
    options.filter_map(|(id, name)| Some(format!("{name} {}", serve.get_one::<SocketAddr>(id)?))).collect()
}
