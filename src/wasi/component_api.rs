//! The interface for a component that is composed with the gateway: `wit/gateway/gateway.wit`.

use crate::read_error::ReadError;
use crate::secrets::Found;
use crate::secrets::cache::CachedSecret;

#[cfg(feature = "proxy")]
wit_bindgen::generate!({ path: "wit/gateway", world: "gateway" });

#[cfg(feature = "service")]
wit_bindgen::generate!({ path: "wit/gateway", world: "async-gateway" });

/// The reader of token files, which is composed with the gateway. Without the feature nothing is imported.
#[cfg(feature = "federated")]
pub(super) mod reader {
    wit_bindgen::generate!({ path: "wit/gateway", world: "federated" });

    pub(in crate::wasi) use keyvault::gateway::assertion::{Error, read};
}

#[cfg(feature = "proxy")]
pub(super) use exports::keyvault::gateway::secrets::Guest as Secrets;

#[cfg(feature = "service")]
pub(super) use exports::keyvault::gateway::async_secrets::Guest as Secrets;

#[cfg(feature = "service")]
pub(super) use exports::keyvault::gateway::immediate;

pub(super) use exports::keyvault::gateway::types::{Details, Error as NoSecret, Request, Secret};

/// The value for the composed component. The copy that the host reads is not overwritten, as the other
/// component has the value anyway.
pub(super) fn value(cached: &CachedSecret) -> String {
    cached.secret.value.expose().clone()
}

impl From<Found> for Secret {
    fn from(found: Found) -> Self {
        Self {
            value: value(&found.secret),
            version: found.secret.secret.version.as_str().to_owned(),
            age: found.age.as_secs(),
            fetched_at: u64::try_from(found.secret.fetched_at().from_start().as_nanos()).unwrap_or(u64::MAX),
            stale: found.cache_status.ttl.is_some_and(|ttl| ttl < 0),
        }
    }
}

impl From<Found> for Details {
    fn from(found: Found) -> Self {
        let secret = &found.secret.secret;
        let details = secret.details.clone();
        Self {
            version: secret.version.as_str().to_owned(),
            content_type: details.content_type,
            created: details.created,
            updated: details.updated,
            not_before: details.not_before,
            expires: details.expires,
            enabled: details.enabled,
            tags: details.tags,
        }
    }
}

/// The names and versions of requests.
pub(super) fn pairs(requests: Vec<Request>) -> Vec<(String, Option<String>)> {
    requests.into_iter().map(|request| (request.name, request.version)).collect()
}

#[allow(unsafe_code, reason = "wit-bindgen writes the exported functions into this crate")]
mod exported {
    #[cfg(feature = "proxy")]
    use crate::wasi::p2::Component;

    #[cfg(feature = "service")]
    use crate::wasi::p3::Component;

    super::export!(Component with_types_in super);
}

impl From<ReadError> for NoSecret {
    fn from(reason: ReadError) -> Self {
        match reason {
            ReadError::InvalidName => Self::InvalidName,
            ReadError::InvalidVersion => Self::InvalidVersion,
            ReadError::Forbidden => Self::Forbidden,
            ReadError::NotFound => Self::NotFound,
            ReadError::Disabled => Self::Disabled,
            ReadError::AccessDenied => Self::AccessDenied,
            ReadError::Configuration(setting) => Self::Configuration(setting.to_owned()),
            ReadError::Identity => Self::Identity,
            ReadError::Vault => Self::Vault,
            ReadError::Throttled(seconds) => Self::Throttled(seconds),
            ReadError::Unavailable(seconds) => Self::Unavailable(seconds),
            ReadError::Timeout => Self::Timeout,
            ReadError::Internal => Self::Internal,
        }
    }
}
