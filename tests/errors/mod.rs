//! One of each error, for the tests that hold a page or a document against all of them.

use core::iter::successors;
use core::time::Duration;

use keyvault_gateway::error::{
    Code, Complaint, Denial, Error, FailureKind, Service, SettingError, TokenRefusal,
};
use keyvault_gateway::model::SecretName;

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
    for reason in refusals() {
        let code = Code::parse("invalid_request");
        let error = Error::IdentityRefused { reason, source: "imds", status: 400, code };
        table.push((error, 502, "IdentityError"));
    }
    for denial in denials() {
        table.push((Error::VaultDenied(denial, Code::parse("Forbidden")), 403, "VaultAccessDenied"));
    }
    for complaint in complaints() {
        table.push((Error::TokenRefused(complaint, Code::parse("AKV10022")), 502, "VaultError"));
    }
    for (error, ..) in &table {
        is_in_the_table(error);
    }
    table
}

/// Does not compile when there is a new error, which has to be added above.
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
        | Error::IdentityRefused { .. }
        | Error::IdentityAbsent(_)
        | Error::IdentityUnusable
        | Error::DirectoryUnusable
        | Error::SecretNotFound(..)
        | Error::CallNotAllowed
        | Error::SecretDisabled
        | Error::VaultDenied(..)
        | Error::TokenRefused(..)
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

/// Each kind after the one before it. Does not compile when there is a new one.
fn refusals() -> impl Iterator<Item = TokenRefusal> {
    use TokenRefusal::*;
    successors(Some(NoSuchIdentity), |refusal| match refusal {
        NoSuchIdentity => Some(SeveralIdentities),
        SeveralIdentities => Some(Audience),
        Audience => Some(Credential),
        Credential => Some(Tenant),
        Tenant => Some(Application),
        Application => Some(Policy),
        Policy => Some(Other),
        Other => None,
    })
}

fn denials() -> impl Iterator<Item = Denial> {
    use Denial::*;
    successors(Some(AccessPolicy), |denial| match denial {
        AccessPolicy => Some(RoleAssignment),
        RoleAssignment => Some(Firewall),
        Firewall => Some(PrivateLink),
        PrivateLink => Some(OnBehalfOf),
        OnBehalfOf => Some(Unexplained),
        Unexplained => None,
    })
}

fn complaints() -> impl Iterator<Item = Complaint> {
    successors(Some(Complaint::Audience), |complaint| match complaint {
        Complaint::Audience => Some(Complaint::Issuer),
        Complaint::Issuer => Some(Complaint::Claims),
        Complaint::Claims => None,
    })
}
