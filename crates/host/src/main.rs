//! `keyvault-gateway`: serves the gateway.

use std::process::ExitCode;

use clap::Parser as _;
use keyvault_gateway_host::Options;

#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Options::parse().run()
}
