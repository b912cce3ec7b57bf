//! An application that reads over and over without HTTP, in the gateway's two worlds.
//!
//! `GET /secret/NAME?1000` reads the secret a thousand times from the gateway. In WASI 0.2 `GET /configuration/KEY?1000` reads the
//! value so often from its configuration; in WASI 0.3 `GET /awaited/NAME?1000` waits for each, as if none were at hand. The answer
//! is how many of them were not empty.

#[cfg(all(target_family = "wasm", feature = "proxy"))]
mod proxy;

#[cfg(all(target_family = "wasm", feature = "service"))]
mod service;

/// What a request asks for: which way to read, what, and how often.
#[cfg(target_family = "wasm")]
fn asked(target: &str) -> Option<(&str, &str, u32)> {
    let (path, times) = target.split_once('?')?;
    let (way, name) = path.strip_prefix('/')?.split_once('/')?;
    Some((way, name, times.parse().ok()?))
}
