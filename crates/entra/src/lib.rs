//! Signs tokens as Entra ID does, and publishes the keys for that, for the emulator and for tests.
//!
//! Sources: Microsoft Learn, "Signing key rollover in the Microsoft identity platform", "Access tokens in the Microsoft
//! identity platform" and "Access token claims reference"; RFC 7515 (JWS), 7517 (JWK) and 7518 (JWA). Private keys are made
//! by the process that needs them, are written nowhere, and end with it.

mod key;

mod application;

pub use application::Application;
pub use key::SigningKey;

use serde_json::{Value, json};

/// The document of the keys of `tenant`: RFC 7517, with the members that Entra adds.
pub fn document(tenant: &str, keys: impl IntoIterator<Item = SigningKey>) -> Value {
    json!({"keys": keys.into_iter().map(|it| it.published(tenant)).collect::<Vec<_>>()})
}
