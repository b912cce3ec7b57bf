//! Runs a component under Wasmtime's own `serve`, as a child process, for tests and for development.
//!
//! The child has the environment that it is given and nothing else, listens on a free port of the loopback
//! interface, and is gone when its [`Server`] is.

mod server;

mod components;

mod wait;

pub use components::{compile, component};
pub use server::{Launch, Server};
pub use wait::{WAIT_LIMIT, agent, random_text, wait_for};
