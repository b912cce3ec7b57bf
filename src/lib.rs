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
// The core decides and its host acts: it reads no clock, no variable, no file and no socket itself. clippy.toml has the lists.
#![warn(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails, as it should")
)]

// From the bottom to the top: a module imports only modules above its own line.
pub mod auth;
pub mod azure;
pub mod client;
pub mod config;
pub mod env;
pub mod error;
pub mod gateway;
pub mod host;
pub mod http;
mod json;
pub mod jwks;
pub mod model;
pub mod read_error;
pub mod readiness;
pub mod seal;
pub mod secrets;
pub mod shared_store;
pub mod sync;
pub mod telemetry;

#[cfg(target_family = "wasm")]
#[allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bindings are where the host's clock and streams come in"
)]
mod wasi;
