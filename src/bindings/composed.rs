//! What the gateway is for a component that it is composed with: `wit/gateway/gateway.wit`.

use crate::cache::Kept;
use crate::composed::NoValue;
use crate::secrets::Found;

#[cfg(feature = "proxy")]
wit_bindgen::generate!({ path: "wit/gateway", world: "gateway" });

#[cfg(feature = "service")]
wit_bindgen::generate!({ path: "wit/gateway", world: "async-gateway" });

#[cfg(feature = "proxy")]
pub(super) use exports::keyvault::gateway::secrets::Guest as Secrets;

#[cfg(feature = "service")]
pub(super) use exports::keyvault::gateway::async_secrets::Guest as Secrets;

pub(super) use exports::keyvault::gateway::types::{Error as NoSecret, Secret};

/// The value, as it goes to the other component. What the host copies it from is not overwritten: the other component has it.
pub(super) fn value(kept: &Kept) -> String {
    kept.secret.value.expose().clone()
}

impl From<Found> for Secret {
    fn from(found: Found) -> Self {
        Self {
            value: value(&found.kept),
            version: found.kept.secret.version.as_str().to_owned(),
            age: found.age.as_secs(),
            asked: u64::try_from(found.kept.asked().from_start().as_nanos()).unwrap_or(u64::MAX),
            stale: found.status.ttl.is_some_and(|it| it < 0),
        }
    }
}

#[allow(unsafe_code, reason = "what the host calls is written by wit-bindgen, in this crate")]
mod exported {
    #[cfg(feature = "proxy")]
    use crate::bindings::proxy::Component;

    #[cfg(feature = "service")]
    use crate::bindings::service::Component;

    super::export!(Component with_types_in super);
}

impl From<NoValue> for NoSecret {
    fn from(reason: NoValue) -> Self {
        match reason {
            NoValue::InvalidName => Self::InvalidName,
            NoValue::InvalidVersion => Self::InvalidVersion,
            NoValue::Forbidden => Self::Forbidden,
            NoValue::NotFound => Self::NotFound,
            NoValue::Disabled => Self::Disabled,
            NoValue::AccessDenied => Self::AccessDenied,
            NoValue::Configuration(setting) => Self::Configuration(setting.to_owned()),
            NoValue::Identity => Self::Identity,
            NoValue::Vault => Self::Vault,
            NoValue::Throttled(seconds) => Self::Throttled(seconds),
            NoValue::Unavailable(seconds) => Self::Unavailable(seconds),
            NoValue::Timeout => Self::Timeout,
            NoValue::Internal => Self::Internal,
        }
    }
}
