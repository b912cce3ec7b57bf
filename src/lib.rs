//! Reads secrets from Azure Key Vault for callers who hold no credential, as one WebAssembly component.
//!
//! A caller POSTs `{"Secret": "name"}`; the gateway asks the managed identity endpoint of the place where it
//! runs for a token, reads the secret with it, and answers `{"Secret": "name", "Value": "…"}`.
//!
//! The core decides and the host acts (sans-IO): everything that the core needs of its host comes through
//! [`host::Host`], so the same code runs in a component and in a test.
//!
//! The modules, in the order in which a request meets them. Each imports only modules below it (`ci/layers`
//! checks that):
//!
//! ```text
//! wasi          the bindings: WASI 0.2 (p2), WASI 0.3 (p3), Spin, the interface for composed components
//! gateway       answers one request: the script; start reading here
//! readiness     how often a readiness probe fetches a token
//! read_error    the typed errors for composed components
//! secrets       finds a secret: cache, single-flight, refresh-ahead, the stale-if-error decision
//! jwks          verifies tokens of callers: the JWKS cache of each issuer, the limiter for unknown keys
//! client        calls to Azure: the token cache, the retry loop and its backoff, circuit breakers, the second try after a 401
//! shared_store  tokens and secrets in the host's key-value store, sealed
//! config        the configuration, built from its parts
//! telemetry     the request context, log lines, metrics
//! auth          who the caller is and what it may read: API keys, access tokens, scopes, the failed-authentication limiter
//! sync          what concurrent requests share: single-flight, token buckets, deadlines, bounds
//! seal          the encryption of entries in the shared store
//! host          the port: what the core needs of its host
//! azure         what may be sent to Azure and to issuers, and what the answers mean: token sources, vault, JWKS, clouds
//! http          requests, responses with the status of each error, Cache-Status, headers, traces
//! env           the names, the lookup and the parsers of settings
//! json          strict parsing of JSON objects
//! error         what can fail
//! model         plain types: secrets, their names, moments, deadlines
//! ```
//!
//! The deadline of one upstream call is `client::retry`'s to decide; the bindings enforce it.

// Nothing that a peer or a client sends can make us panic: under WASI 0.3 a trap ends every request of the
// instance.
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
// The core decides and its host acts: it reads no clock, no variable, no file and no socket itself.
// clippy.toml has the lists.
#![warn(clippy::disallowed_macros, clippy::disallowed_methods, clippy::disallowed_types)]
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, reason = "a test that overflows fails, as it should")
)]

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
