//! The smallest component that reads a request and answers with a constant, in both worlds of the gateway.
//!
//! Its cost is the host's cost: a lower bound for a cached read of the gateway.

#[cfg(all(target_family = "wasm", feature = "proxy"))]
mod proxy;

#[cfg(all(target_family = "wasm", feature = "service"))]
mod service;

/// The constant response, as long as the gateway's in the same measurement.
#[cfg(target_family = "wasm")]
const ANSWER: &[u8] = include_bytes!("answer.json");
