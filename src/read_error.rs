//! What a component gets that is composed with the gateway, and so asks without HTTP: a value, or a typed error.

use std::time::Duration;

use crate::error::{Error, FailureKind, Service};
use crate::http::response::pause_seconds;

/// Why there is no value: the `error` of `keyvault:gateway/types`, where each is explained (`wit/gateway/gateway.wit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The name is none that a secret can have.
    InvalidName,
    /// The version is none that a secret can have.
    InvalidVersion,
    /// The secret is not for whoever is composed with the gateway.
    Forbidden,
    /// There is no such secret, or no such version of it.
    NotFound,
    /// The secret is disabled.
    Disabled,
    /// Key Vault does not let us read it.
    AccessDenied,
    /// This setting is missing or wrong.
    Configuration(&'static str),
    /// The token source refused, or gave an answer that cannot be used.
    Identity,
    /// Key Vault refused, or gave an answer that cannot be used.
    Vault,
    /// Azure has had too many requests, or the component has had too many made; it is worth to come back after so many seconds.
    Throttled(u32),
    /// Azure is failing or cannot be reached; it is worth to come back after so many seconds.
    Unavailable(u32),
    /// The time for this read is over.
    Timeout,
    /// Something happened that should not.
    Internal,
}

impl From<&Error> for ReadError {
    fn from(error: &Error) -> Self {
        match error {
            // What only a request over HTTP can be. It is here because a new error has to be thought about here as well.
            Error::NoRoute
            | Error::WrongMethod(_)
            | Error::HeadersTooLarge
            | Error::NotJson
            | Error::NotUtf8
            | Error::BodyTooLarge
            | Error::BodyLost
            | Error::NotAnObject
            | Error::CameThroughProxy
            | Error::NotAuthenticated
            | Error::TooManyFailures(_)
            | Error::ForeignName
            | Error::JwksUnusable
            | Error::Upstream { service: Service::Jwks, .. } => Self::Internal,
            Error::NoValidSecret => Self::InvalidName,
            Error::OutOfScope => Self::Forbidden,
            Error::NoValidVersion => Self::InvalidVersion,
            Error::Setting(error) => Self::Configuration(error.name),
            Error::TokenSourceRefused { .. } | Error::TokenSourceUnusable => Self::Identity,
            Error::SecretNotFound(..) => Self::NotFound,
            Error::SecretDisabled => Self::Disabled,
            Error::VaultDenied(..) => Self::AccessDenied,
            Error::TokenRefused(..) | Error::VaultRefused(..) | Error::VaultUnusable => Self::Vault,
            Error::BudgetSpent(wait) => Self::Throttled(seconds(Some(*wait))),
            Error::Upstream { kind: FailureKind::Throttled, retry_after, .. } => {
                Self::Throttled(seconds(*retry_after))
            }
            Error::Upstream { retry_after, .. } => Self::Unavailable(seconds(*retry_after)),
            Error::TokenNotAccepted { retry_after, .. } => Self::Unavailable(seconds(*retry_after)),
            Error::CallNotAllowed | Error::TokenSourceAbsent(_) => Self::Unavailable(seconds(None)),
            Error::DeadlineExceeded => Self::Timeout,
        }
    }
}

/// The seconds that a caller over HTTP would have in its `Retry-After`.
fn seconds(pause: Option<Duration>) -> u32 {
    u32::try_from(pause_seconds(pause)).unwrap_or(u32::MAX)
}
