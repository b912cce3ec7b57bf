//! The built components in an embedded Wasmtime whose network is the emulator.
//!
//! Azure has its real names over `https`, every call can fail in every way, and time is virtual: a deadline
//! or a token's lifetime passes at once, and tests measure it to the millisecond.

mod access_tokens;
mod batch;
mod cache;
mod concurrency;
mod cost;
mod failures;
mod faults;
mod function;
mod gateway;
mod hostile;
mod identity;
mod immediate_way;
mod key_value_store;
mod leak_search;
mod leaks;
mod manifest;
mod platform_tokens;
mod request_bodies;
mod sealed;
mod spin;
mod wasmtime_host;
