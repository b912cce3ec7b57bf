//! What `deploy/` starts by a script, started by that very script, with the built component and the emulator as Azure. The
//! `wasmtime` that the scripts find is the dev-host, whose `serve` is Wasmtime's own.

// Both places are Linux, and what a command line shows is read in its `/proc`.
#![cfg(target_os = "linux")]

mod systemd;

mod functions;

mod functions_host;

mod place;
