//! The typed error of a read by a component that is composed with the gateway.

use std::time::Duration;

use crate::error::{Error, FailureKind, Service};
use crate::http::response::retry_after_seconds;

/// Why there is no value: the `error` of `keyvault:gateway/types` (`wit/gateway/gateway.wit`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadError {
    InvalidName,
    InvalidVersion,
    /// `GATEWAY_CALLERS` does not let the composed component read the secret.
    Forbidden,
    /// The secret, or this version of it, does not exist.
    NotFound,
    Disabled,
    /// Key Vault does not let the gateway's identity read the secret.
    AccessDenied,
    /// The setting of this name is missing or wrong.
    Configuration(&'static str),
    /// The token source refused, or gave an answer that cannot be used.
    Identity,
    /// Key Vault refused, or gave an answer that cannot be used.
    Vault,
    /// Azure throttles, or the component has made too many requests. Try again after so many seconds.
    Throttled(u32),
    /// Azure fails or cannot be reached. Try again after so many seconds.
    Unavailable(u32),
    Timeout,
    Internal,
}

impl From<&Error> for ReadError {
    fn from(error: &Error) -> Self {
        match error {
            // Only requests over HTTP have these. They are listed, so that a new error has to be decided here
            // as well.
            Error::NoRoute
            | Error::WrongMethod(_)
            | Error::HeadersTooLarge
            | Error::NotJson
            | Error::NotUtf8
            | Error::BodyTooLarge
            | Error::BodyLost
            | Error::NotAnObject
            | Error::NoValidDetails
            | Error::NoValidSecrets
            | Error::NoRoom
            | Error::CameThroughProxy
            | Error::NotAuthenticated(_)
            | Error::TooManyFailures(_)
            | Error::ForeignName
            | Error::JwksUnusable
            | Error::IssuerUnusable
            | Error::Upstream { service: Service::Jwks, .. } => Self::Internal,
            Error::NoValidSecret => Self::InvalidName,
            Error::OutOfScope => Self::Forbidden,
            Error::NoValidVersion => Self::InvalidVersion,
            Error::Setting(error) => Self::Configuration(error.name),
            Error::TokenSourceRefused { .. } | Error::TokenFile(_) | Error::TokenSourceUnusable => {
                Self::Identity
            }
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
    u32::try_from(retry_after_seconds(pause)).unwrap_or(u32::MAX)
}
