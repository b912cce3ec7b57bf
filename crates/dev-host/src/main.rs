//! The dev-host: `serve` and `compile` are Wasmtime's own commands, `gateway` is the gateway's own host; `demo`,
//! `dev`, `attack`, `bench` and `soak` run them against an emulated Key Vault.

mod attack;
mod bench;
mod client;
mod demo;
mod dev;
mod process;
mod stack;
mod statistics;

use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use dev_host::UNTIL_INPUT_ENDS;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::{io, thread};

fn main() -> ExitCode {
    if std::env::var_os(UNTIL_INPUT_ENDS).is_some() {
        thread::spawn(|| {
            // A read error ends the process, too.
            let _ = io::copy(&mut io::stdin(), &mut io::sink());
            std::process::exit(0)
        });
    }
    let matches = Command::command().get_matches();
    let done = match Command::from_arg_matches(&matches).unwrap_or_else(|error| error.exit()) {
        Command::Serve(command) => serve(*command, &matches),
        #[cfg(unix)]
        Command::Gateway(options) => return options.run(),
        Command::Compile(compile) => compile.execute().map_err(|error| format!("{error:?}")),
        Command::Demo(demo) => demo.run(),
        Command::Dev(dev) => dev.run(),
        Command::Attack(attack) => attack.run(),
        Command::Bench(bench) => bench.run(),
        Command::Soak(soak) => soak.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs components under Wasmtime
#[derive(Parser)]
#[command(name = "dev-host")]
enum Command {
    /// Serves HTTP requests with a component: Wasmtime's own command
    Serve(Box<wasmtime_cli::commands::ServeCommand>),
    /// Serves HTTP requests with a component: the gateway's own host
    #[cfg(unix)]
    Gateway(Box<keyvault_gateway_host::Options>),
    /// Compiles a component to machine code: Wasmtime's own command
    Compile(Box<wasmtime_cli::commands::CompileCommand>),
    /// Reads one secret through a component and prints every step
    Demo(demo::Demo),
    /// Keeps a component and an emulated Key Vault running
    Dev(dev::Dev),
    /// Runs hostile clients against a component and measures what other clients notice
    Attack(attack::Attack),
    /// Compares the gateway with its host alone and with native services
    Bench(bench::Bench),
    /// Sends a million requests to the own host while Azure fails, and measures its memory
    Soak(bench::Soak),
}

/// Runs `wasmtime serve`.
fn serve(command: wasmtime_cli::commands::ServeCommand, matches: &ArgMatches) -> Result<(), String> {
    command.execute().map_err(|error| match error.downcast_ref::<io::Error>() {
        Some(taken) if taken.kind() == io::ErrorKind::AddrInUse => {
            format!("{taken}: {}; choose another address", addresses(matches).join(", "))
        }
        Some(_) | None => format!("{error:?}"),
    })
}

/// Returns the options that set the addresses of `serve`. Wasmtime's error does not name the address.
fn addresses(matches: &ArgMatches) -> Vec<String> {
    let Some(serve) = matches.subcommand_matches("serve") else { return Vec::new() };
    let options = [("addr", "--addr"), ("shutdown_addr", "--shutdown-addr")].into_iter();
    options.filter_map(|(id, name)| Some(format!("{name} {}", serve.get_one::<SocketAddr>(id)?))).collect()
}
