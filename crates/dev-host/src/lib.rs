//! Runs a component as a child process, for tests and development.
//!
//! The child has only the environment that it is given and listens on a free port of the loopback interface.
//! Dropping its [`Server`] ends it.

mod server;

mod components;

mod wait;

pub use components::{compile, component};
pub use server::{Host, Launch, Server, UNTIL_INPUT_ENDS};
pub use wait::{WAIT_LIMIT, agent, random_key, wait_for};
