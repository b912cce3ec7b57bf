//! The built components inside an embedded Wasmtime whose network is the emulator.
//!
//! So Azure is at its real names, over `https`, every call can fail in every way, and time is virtual: a deadline of ten
//! seconds or a token's day pass at once, and are measured to the millisecond.

mod bearers;
mod bodies;
mod cache;
mod cost;
mod failures;
mod faults;
mod function;
mod gateway;
mod hostile;
mod identity;
mod leaks;
mod manifest;
mod sealed;
mod spin;
mod stores;
mod together;
mod wasmtime_host;
mod watch;
