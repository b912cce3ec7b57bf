//! One of each error, for the tests that hold a page or a document against all of them.

use core::time::Duration;

use keyvault_gateway::error::{Code, Complaint, Denial, Error, FailureKind, Refusal, Service, SettingError};
use keyvault_gateway::secret::SecretName;

/// One of each error, with what a caller learns of it.
pub fn table() -> Vec<(Error, u16, &'static str)> {
    let mut table = vec![
        (Error::NoRoute, 404, "NotFound"),
        (Error::WrongMethod("POST"), 405, "MethodNotAllowed"),
        (Error::HeadersTooLarge, 431, "RequestHeaderFieldsTooLarge"),
        (Error::NotJson, 415, "UnsupportedMediaType"),
        (Error::NotUtf8, 415, "UnsupportedMediaType"),
        (Error::BodyTooLarge, 413, "ContentTooLarge"),
        (Error::BodyLost, 400, "BadRequest"),
        (Error::NotAnObject, 400, "BadRequest"),
        (Error::NoValidSecret, 400, "BadRequest"),
        (Error::NoValidVersion, 400, "BadRequest"),
        (Error::CameThroughProxy, 403, "Forbidden"),
        (Error::NotAuthenticated, 401, "Unauthorized"),
        (Error::TooManyFailures(Duration::from_secs(7)), 429, "TooManyRequests"),
        (Error::ForeignName, 403, "Forbidden"),
        (Error::BudgetSpent(Duration::from_secs(7)), 429, "TooManyRequests"),
        (Error::OutOfScope, 403, "Forbidden"),
        (
            Error::Setting(SettingError { name: "KeyVaultUri", should: "is not set" }),
            500,
            "ConfigurationError",
        ),
        (Error::IdentityAbsent(403), 503, "Unavailable"),
        (Error::IdentityUnusable, 502, "IdentityError"),
        (Error::DirectoryUnusable, 502, "IdentityError"),
        (Error::SecretNotFound(SecretName::parse("a").unwrap(), None), 404, "SecretNotFound"),
        (Error::CallNotAllowed, 503, "Unavailable"),
        (Error::SecretDisabled, 403, "SecretDisabled"),
        (Error::TokenNotAccepted { pause: None, code: Code::parse("AKV10046") }, 503, "Unavailable"),
        (Error::VaultRefused(418, Code::parse("Teapot")), 502, "VaultError"),
        (Error::VaultUnusable, 502, "VaultError"),
        (Error::DeadlineExceeded, 504, "Timeout"),
    ];
    for (service, throttled) in [
        (Service::Identity, "IdentityThrottled"),
        (Service::Directory, "IdentityThrottled"),
        (Service::Vault, "VaultThrottled"),
    ] {
        for (kind, code) in [
            (FailureKind::Throttled, throttled),
            (FailureKind::Failing, "Unavailable"),
            (FailureKind::Unreachable, "Unavailable"),
        ] {
            table.push((Error::Upstream { service, kind, retry_after: None }, 503, code));
        }
    }
    for reason in REFUSALS {
        let code = Code::parse("invalid_request");
        let error = Error::IdentityRefused { reason, source: "imds", status: 400, code };
        table.push((error, 502, "IdentityError"));
    }
    for denial in DENIALS {
        table.push((Error::VaultDenied(denial, Code::parse("Forbidden")), 403, "VaultAccessDenied"));
    }
    for complaint in COMPLAINTS {
        table.push((Error::TokenRefused(complaint, Code::parse("AKV10022")), 502, "VaultError"));
    }
    for (error, ..) in &table {
        is_in_the_table(error);
    }
    table
}

/// Does not compile when there is a new error, so that nobody forgets to add it above.
fn is_in_the_table(error: &Error) {
    match error {
        Error::NoRoute
        | Error::WrongMethod(_)
        | Error::HeadersTooLarge
        | Error::NotJson
        | Error::NotUtf8
        | Error::BodyTooLarge
        | Error::BodyLost
        | Error::NotAnObject
        | Error::NoValidSecret
        | Error::NoValidVersion
        | Error::CameThroughProxy
        | Error::NotAuthenticated
        | Error::TooManyFailures(_)
        | Error::ForeignName
        | Error::BudgetSpent(_)
        | Error::OutOfScope
        | Error::Setting(_)
        | Error::IdentityRefused {
            reason:
                Refusal::NoSuchIdentity
                | Refusal::SeveralIdentities
                | Refusal::Audience
                | Refusal::Credential
                | Refusal::Tenant
                | Refusal::Application
                | Refusal::Policy
                | Refusal::Other,
            ..
        }
        | Error::IdentityAbsent(_)
        | Error::IdentityUnusable
        | Error::DirectoryUnusable
        | Error::SecretNotFound(..)
        | Error::CallNotAllowed
        | Error::SecretDisabled
        | Error::VaultDenied(
            Denial::AccessPolicy
            | Denial::RoleAssignment
            | Denial::Firewall
            | Denial::PrivateLink
            | Denial::OnBehalfOf
            | Denial::Unexplained,
            _,
        )
        | Error::TokenRefused(Complaint::Audience | Complaint::Issuer | Complaint::Claims, _)
        | Error::TokenNotAccepted { .. }
        | Error::VaultRefused(..)
        | Error::VaultUnusable
        | Error::Upstream {
            service: Service::Identity | Service::Directory | Service::Vault,
            kind:
                FailureKind::Throttled
                | FailureKind::Failing
                | FailureKind::Unreachable
                // Never by itself: the vault's 401 has an error of its own.
                | FailureKind::NotAccepting,
            ..
        }
        | Error::DeadlineExceeded => {}
    }
}

const REFUSALS: [Refusal; 8] = [
    Refusal::NoSuchIdentity,
    Refusal::SeveralIdentities,
    Refusal::Audience,
    Refusal::Credential,
    Refusal::Tenant,
    Refusal::Application,
    Refusal::Policy,
    Refusal::Other,
];

const DENIALS: [Denial; 6] = [
    Denial::AccessPolicy,
    Denial::RoleAssignment,
    Denial::Firewall,
    Denial::PrivateLink,
    Denial::OnBehalfOf,
    Denial::Unexplained,
];

const COMPLAINTS: [Complaint; 3] = [Complaint::Audience, Complaint::Issuer, Complaint::Claims];
