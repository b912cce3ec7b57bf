//! One value of each error, for the tests that compare a document with all of them.

use std::time::Duration;

use keyvault_gateway::error::{
    AuthFailure, Code, Denial, Error, FailureKind, Service, SettingError, TokenFileError, TokenMismatch,
    TokenRefusal,
};
use keyvault_gateway::model::SecretName;

/// One value of each error, with its status and code.
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
        (Error::NoValidDetails, 400, "BadRequest"),
        (Error::NoValidSecrets, 400, "BadRequest"),
        (Error::NoRoom, 413, "TooLarge"),
        (Error::CameThroughProxy, 403, "Forbidden"),
        (Error::TooManyFailures(Duration::from_secs(7)), 429, "TooManyRequests"),
        (Error::ForeignName, 403, "Forbidden"),
        (Error::BudgetSpent(Duration::from_secs(7)), 429, "TooManyRequests"),
        (Error::OutOfScope, 403, "Forbidden"),
        (
            Error::Setting(SettingError { name: "KeyVaultUri", should: "is not set" }),
            500,
            "ConfigurationError",
        ),
        (Error::TokenSourceAbsent(403), 503, "Unavailable"),
        (Error::TokenSourceUnusable, 502, "IdentityError"),
        (Error::JwksUnusable, 502, "IdentityError"),
        (Error::IssuerUnusable, 502, "IdentityError"),
        (Error::SecretNotFound(SecretName::parse("a").unwrap(), None), 404, "SecretNotFound"),
        (Error::CallNotAllowed, 503, "Unavailable"),
        (Error::SecretDisabled, 403, "SecretDisabled"),
        (Error::TokenNotAccepted { retry_after: None, code: Code::parse("AKV10046") }, 503, "Unavailable"),
        (Error::VaultRefused(418, Code::parse("Teapot")), 502, "VaultError"),
        (Error::VaultUnusable, 502, "VaultError"),
        (Error::DeadlineExceeded, 504, "Timeout"),
    ];
    for problem in [
        TokenFileError::InvalidName,
        TokenFileError::NoDirectory,
        TokenFileError::NotFound,
        TokenFileError::NotPermitted,
        TokenFileError::Empty,
        TokenFileError::TooLarge,
        TokenFileError::NotAToken,
        TokenFileError::Failed,
    ] {
        table.push((Error::TokenFile(problem), 502, "IdentityError"));
    }
    for (service, throttled) in [
        (Service::TokenSource, "IdentityThrottled"),
        (Service::Jwks, "IdentityThrottled"),
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
    for reason in [
        TokenRefusal::NoSuchIdentity,
        TokenRefusal::SeveralIdentities,
        TokenRefusal::Audience,
        TokenRefusal::Credential,
        TokenRefusal::Tenant,
        TokenRefusal::Application,
        TokenRefusal::Policy,
        TokenRefusal::Trust,
        TokenRefusal::Assertion,
        TokenRefusal::Other,
    ] {
        let code = Code::parse("invalid_request");
        let error = Error::TokenSourceRefused { reason, source: "imds", status: 400, code, claims: None };
        table.push((error, 502, "IdentityError"));
    }
    for denial in [
        Denial::AccessPolicy,
        Denial::RoleAssignment,
        Denial::Firewall,
        Denial::PrivateLink,
        Denial::OnBehalfOf,
        Denial::Unexplained,
    ] {
        table.push((Error::VaultDenied(denial, Code::parse("Forbidden")), 403, "VaultAccessDenied"));
    }
    for complaint in [TokenMismatch::Audience, TokenMismatch::Issuer, TokenMismatch::Claims] {
        table.push((Error::TokenRefused(complaint, Code::parse("AKV10022")), 502, "VaultError"));
    }
    for failure in AUTH_FAILURES {
        table.push((Error::NotAuthenticated(failure), 401, "Unauthorized"));
    }
    for (error, ..) in &table {
        is_in_the_table(error);
    }
    table
}

/// Does not compile if an error is missing here. A new error belongs in the table above, too.
fn is_in_the_table(error: &Error) {
    use Denial::*;
    use Error::*;
    use FailureKind::*;
    use TokenFileError::*;
    use TokenRefusal::*;
    match error {
        NoRoute | WrongMethod(_) | HeadersTooLarge | NotJson | NotUtf8 | BodyTooLarge | BodyLost
        | NotAnObject | NoValidSecret | NoValidVersion | NoValidDetails | NoValidSecrets | NoRoom
        | CameThroughProxy | TooManyFailures(_) | ForeignName | BudgetSpent(_) | OutOfScope | Setting(_)
        | TokenSourceAbsent(_) | TokenSourceUnusable | JwksUnusable | IssuerUnusable | CallNotAllowed
        | SecretDisabled | VaultUnusable | DeadlineExceeded => {}
        SecretNotFound(_, _) | TokenNotAccepted { .. } | VaultRefused(_, _) => {}
        NotAuthenticated(failure) => match failure {
            AuthFailure::ApiKey
            | AuthFailure::NotAToken
            | AuthFailure::Issuer
            | AuthFailure::Key
            | AuthFailure::Signature
            | AuthFailure::Claims
            | AuthFailure::Audience
            | AuthFailure::Tenant
            | AuthFailure::Expired
            | AuthFailure::NotYetValid
            | AuthFailure::NotAppOnly
            | AuthFailure::NoCaller => {}
        },
        TokenSourceRefused { reason, .. } => match reason {
            NoSuchIdentity | SeveralIdentities | Audience | Credential | Tenant | Application | Policy
            | Trust | Assertion | Other => {}
        },
        TokenFile(problem) => match problem {
            InvalidName | NoDirectory | NotFound | NotPermitted | Empty | TooLarge | NotAToken | Failed => {}
        },
        VaultDenied(denial, _) => match denial {
            AccessPolicy | RoleAssignment | Firewall | PrivateLink | OnBehalfOf | Unexplained => {}
        },
        TokenRefused(complaint, _) => match complaint {
            TokenMismatch::Audience | TokenMismatch::Issuer | TokenMismatch::Claims => {}
        },
        // The table has no `NotAccepting`, because the 401 of the vault has its own error.
        Upstream { service, kind, .. } => match (service, kind) {
            (
                Service::TokenSource | Service::Jwks | Service::Vault,
                Throttled | Failing | Unreachable | NotAccepting,
            ) => {}
        },
    }
}

const AUTH_FAILURES: [AuthFailure; 12] = [
    AuthFailure::ApiKey,
    AuthFailure::NotAToken,
    AuthFailure::Issuer,
    AuthFailure::Key,
    AuthFailure::Signature,
    AuthFailure::Claims,
    AuthFailure::Audience,
    AuthFailure::Tenant,
    AuthFailure::Expired,
    AuthFailure::NotYetValid,
    AuthFailure::NotAppOnly,
    AuthFailure::NoCaller,
];
