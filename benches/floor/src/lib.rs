//! The smallest component that reads a request and answers it with a constant, in the gateway's two worlds.
//!
//! Whatever the gateway answers from memory cannot be faster than this: what it costs is what the host costs.

#[cfg(all(target_family = "wasm", feature = "proxy"))]
mod proxy;

#[cfg(all(target_family = "wasm", feature = "service"))]
mod service;

/// As long as the gateway's answer in the same measurement.
#[cfg(target_family = "wasm")]
const ANSWER: &[u8] = include_bytes!("answer.json");
