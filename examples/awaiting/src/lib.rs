//! An application that answers `GET /NAME` with the secret of that name, which it has from the gateway without HTTP, and
//! `GET /NAME?again` with what Key Vault has now, and what there is to know of it.
//!
//! It has no way to any other machine: what it imports of `wasi:http` is only what it answers with. While one of its requests
//! waits for a secret, others of the same instance go on. (That is all it is for. An application keeps its secrets.)

#[cfg(target_family = "wasm")]
mod application;
