//! Resolves Key Vault references in the configuration that an application reads from `wasi:config`.
//!
//! The component stands between the application and the gateway. It returns a value that is not a reference
//! unchanged. A reference that cannot be resolved is an error and never a value, because an application that
//! uses the reference as its password would fail later, without the reason.

// A trap would end the application and the gateway, too.
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
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, reason = "a test that overflows has to fail"))]

pub mod reference;

pub mod store;

#[cfg(all(target_family = "wasm", feature = "component"))]
mod component;
