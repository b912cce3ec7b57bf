//! The configuration of the host, with secrets of Key Vault where it refers to them: a component between an application that
//! reads its configuration from `wasi:config` and the gateway.
//!
//! A value that is no reference goes through as it is. What is one and cannot be resolved is an error, not a value: an
//! application that would take the reference for its password fails late and somewhere else.

// A trap ends the application and the gateway, too.
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

pub mod reference;

pub mod store;

#[cfg(all(target_family = "wasm", feature = "component"))]
mod component;
