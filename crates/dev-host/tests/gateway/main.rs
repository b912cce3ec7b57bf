//! The built components under the real `wasmtime serve`, against the emulator, over sockets.

mod rig;

mod callers;

mod identity;

mod vault;

mod upstream;

mod settings;

mod memory;

mod schemathesis;
