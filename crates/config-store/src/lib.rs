//! The configuration of the host, with secrets of Key Vault where it refers to them: a component between an application that
//! reads its configuration from `wasi:config` and the gateway.
//!
//! A value that is no reference goes through as it is. What is one and cannot be resolved is an error, not a value: an
//! application that would take the reference for its password fails late and somewhere else.

pub mod reference;

pub mod store;

#[cfg(all(target_family = "wasm", feature = "component"))]
mod component;
