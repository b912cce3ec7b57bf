//! `keyvault-gateway`: serves the gateway.

use std::process::ExitCode;

use clap::Parser as _;
use keyvault_gateway_host::Options;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Options::parse().run()
}
