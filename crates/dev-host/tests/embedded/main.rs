//! The built components inside an embedded Wasmtime whose network is the emulator.
//!
//! So Azure is at its real names, over `https`, every call can fail in every way, and time is virtual: a deadline of ten
//! seconds or a token's day pass at once, and are measured to the millisecond.

mod gateway;

mod wasmtime_host;

mod manifest;

mod stores;

mod watch;

mod function;

mod clouds;

mod identity;

mod bearers;

mod faults;

mod hostile;

mod bodies;

mod together;

mod renewal;

mod leaks;

mod cost;

mod spin;

mod sealed;
