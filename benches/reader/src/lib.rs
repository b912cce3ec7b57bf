//! An application that reads a secret over and over, without HTTP, in the gateway's two worlds.
//!
//! `GET /secret?100000` reads the secret of the benchmark so many times from the gateway, and in WASI 0.2 `GET /config?100000`
//! the value `secret` of its configuration. The answer is how many of the values were not empty.

#[cfg(all(target_family = "wasm", feature = "proxy"))]
mod proxy;

#[cfg(all(target_family = "wasm", feature = "service"))]
mod service;

/// What a request asks for: which way to read, and how often.
#[cfg(target_family = "wasm")]
fn asked(target: &str) -> Option<(&str, u32)> {
    let (way, times) = target.split_once('?')?;
    Some((way, times.parse().ok()?))
}

/// The secret of the benchmark.
#[cfg(target_family = "wasm")]
const SECRET: &str = "secret-000000";
