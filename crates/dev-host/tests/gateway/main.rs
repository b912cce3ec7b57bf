//! The built components under the real `wasmtime serve`, against the emulator, over sockets.

mod rig;

mod callers;

mod bearers;

mod identity;

mod vault;

mod upstream;

mod failures;

mod settings;

mod memory;

mod schemathesis;
