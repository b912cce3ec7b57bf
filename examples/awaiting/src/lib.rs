//! An application that answers `GET /NAME` with the secret of that name, read from the gateway by a function
//! call, and `GET /NAME?again` with the current value in Key Vault and its metadata.
//!
//! It cannot reach any other machine: it imports of `wasi:http` only what it needs to answer. While one
//! request waits for a secret, the instance serves others. (It is an example: a real application never prints
//! its secrets.)

#[cfg(target_family = "wasm")]
mod application;
