//! Reads secrets from Azure Key Vault for callers who hold no credential, as one WebAssembly component.
//!
//! A caller POSTs `{"Secret": "name"}`; the gateway asks the managed identity endpoint of the place where it
//! runs for a token, reads the secret with it, and answers `{"Secret": "name", "Value": "…"}`.
//!
//! The core decides and the host acts: everything that the core needs of the world comes through
//! [`host::Host`], so the same code runs in a component and in a test. Start reading at [`gateway`].

// Nothing that a peer or a client sends can make us panic: under WASI 0.3 a trap ends every request of the instance.
#![warn(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::todo,
    clippy::unimplemented,
    clippy::unreachable,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails, as it should")
)]

pub mod gateway;

pub mod request;

pub mod fields;

pub mod access;

pub mod bearers;

pub mod secrets;

pub mod cache;

pub mod store;

pub mod seal;

pub mod flight;

pub mod upstream;

pub mod deadline;

pub mod resilience;

pub mod azure;

pub mod reply;

pub mod unfinished;

pub mod composed;

pub mod error;

pub mod secret;

mod json;

pub mod settings;

pub mod log;

pub mod metrics;

pub mod trace;

pub mod visit;

pub mod readiness;

pub mod host;

#[cfg(target_family = "wasm")]
mod bindings;
