//! The errors of a token source.
//!
//! An answer is mapped by its status, where that says enough; then by its codes; then by its text; and last
//! by the most common reason at this source. [`ErrorBody`] has the forms of answers. No text of an answer
//! leaves this file.

use std::time::Duration;

use super::TokenSource;
use crate::azure::{Answer, ErrorBody};
use crate::error::{Error, FailureKind, Service, TokenRefusal};

/// Maps an answer of `source` that has no token; `unix_time` is now.
pub(super) fn error(answer: &Answer, source: &TokenSource, unix_time: u64) -> Error {
    let status = answer.status();
    let body = ErrorBody::of(answer);
    let retry_after = || answer.retry_after(unix_time);
    match (status, source) {
        // IMDS is being upgraded, for up to 70 seconds (Microsoft, "Use managed identities on a virtual
        // machine to acquire access token", "Retry guidance"). MSAL for .NET waits ten seconds between its
        // tries.
        (410, TokenSource::Imds(_)) => {
            return Error::upstream(
                Service::TokenSource,
                FailureKind::Failing,
                retry_after().or(Some(UPGRADE_RETRY_AFTER)),
            );
        }
        // IMDS gets nothing that it could refuse. Such an answer is that of a proxy, of Docker Desktop, or of
        // what a cluster has in place of IMDS (Azure/azure-sdk-for-net issue 38218).
        (401 | 403, TokenSource::Imds(_)) => return Error::TokenSourceAbsent(status),
        _ => {}
    }
    let meaning_of = |code| CODES.iter().find(|(known, _)| *known == code);
    let by_code = body.codes().find_map(meaning_of).map(|(_, meaning)| *meaning);
    let by_message = || {
        let known = MESSAGES.iter().find(|(text, _)| body.text.contains(text));
        known.map(|(_, reason)| Meaning::Refused(*reason))
    };
    match by_code.or_else(by_message).unwrap_or_else(|| by_status(status, source)) {
        Meaning::Throttled => Error::upstream(Service::TokenSource, FailureKind::Throttled, retry_after()),
        Meaning::Loop => {
            let retry_after = retry_after().or(Some(LOOP_RETRY_AFTER));
            Error::upstream(Service::TokenSource, FailureKind::Throttled, retry_after)
        }
        Meaning::Failing => Error::upstream(Service::TokenSource, FailureKind::Failing, retry_after()),
        Meaning::Refused(reason) => {
            let code = body.operator_code();
            Error::TokenSourceRefused { reason, source: source.name(), status, code, claims: None }
        }
    }
}

/// The meaning of an answer without a token.
#[derive(Clone, Copy)]
enum Meaning {
    Refused(TokenRefusal),
    Throttled,
    /// Too many of the same request. More of them, within the deadline, would make it worse.
    Loop,
    Failing,
}

/// The most common meaning of `status` at `source`, where nothing else in the answer is specific.
const fn by_status(status: u16, source: &TokenSource) -> Meaning {
    match (status, source) {
        // IMDS answers this while it updates its endpoints ("Retry guidance", as above).
        (404, TokenSource::Imds(_)) => Meaning::Failing,
        (
            400 | 404,
            TokenSource::AppService2019(_) | TokenSource::AppService2017(_) | TokenSource::Imds(_),
        ) => Meaning::Refused(TokenRefusal::NoSuchIdentity),
        // Cloud Shell has only one identity.
        (400, TokenSource::CloudShell(_)) => Meaning::Refused(TokenRefusal::Audience),
        (400, TokenSource::ClientSecret(_) | TokenSource::Federated(_)) | (401 | 403, _) => {
            Meaning::Refused(TokenRefusal::Credential)
        }
        _ => Meaning::Refused(TokenRefusal::Other),
    }
}

/// Codes: of IMDS (Microsoft, "How to use managed identities … to acquire an access token", "Error
/// handling"), of Container Instances, which has Service Fabric's (Azure/azure-sdk-for-net issue 45547), of
/// Cloud Shell, of OAuth (RFC 6749, section 5.2) and of Entra ID (Microsoft, "Microsoft Entra authentication
/// and authorization error codes").
const CODES: [(&str, Meaning); 51] = [
    ("AADSTS50001", Meaning::Refused(TokenRefusal::Audience)),
    ("AADSTS500011", Meaning::Refused(TokenRefusal::Audience)),
    ("AADSTS70011", Meaning::Refused(TokenRefusal::Audience)),
    ("AADSTS90002", Meaning::Refused(TokenRefusal::Tenant)),
    ("AADSTS900023", Meaning::Refused(TokenRefusal::Tenant)),
    ("AADSTS700016", Meaning::Refused(TokenRefusal::Application)),
    ("AADSTS7000112", Meaning::Refused(TokenRefusal::Application)),
    ("AADSTS7000215", Meaning::Refused(TokenRefusal::Credential)),
    ("AADSTS7000216", Meaning::Refused(TokenRefusal::Credential)),
    ("AADSTS7000218", Meaning::Refused(TokenRefusal::Credential)),
    ("AADSTS7000222", Meaning::Refused(TokenRefusal::Credential)),
    // Of assertions, where a federated credential is missing or differs.
    ("AADSTS70021", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS700211", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS700212", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS700213", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS7002137", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS7002138", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS700222", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS700226", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS700229", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS700236", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS7002206", Meaning::Refused(TokenRefusal::Trust)),
    ("AADSTS700024", Meaning::Refused(TokenRefusal::Assertion)),
    ("AADSTS50027", Meaning::Refused(TokenRefusal::Assertion)),
    ("AADSTS700027", Meaning::Refused(TokenRefusal::Assertion)),
    ("AADSTS7000272", Meaning::Refused(TokenRefusal::Assertion)),
    // Entra ID could not reach the documents of the assertion's issuer.
    ("AADSTS50166", Meaning::Failing),
    ("AADSTS501661", Meaning::Failing),
    ("AADSTS90061", Meaning::Failing),
    ("AADSTS700223", Meaning::Refused(TokenRefusal::Policy)),
    ("AADSTS700238", Meaning::Refused(TokenRefusal::Policy)),
    ("AADSTS7002381", Meaning::Refused(TokenRefusal::Policy)),
    ("AADSTS700022", Meaning::Refused(TokenRefusal::Audience)),
    ("AADSTS700023", Meaning::Refused(TokenRefusal::Audience)),
    ("AADSTS53003", Meaning::Refused(TokenRefusal::Policy)),
    ("AADSTS530032", Meaning::Refused(TokenRefusal::Policy)),
    ("AADSTS50196", Meaning::Loop),
    ("AADSTS90055", Meaning::Throttled),
    ("DefaultIdentityNotDefined", Meaning::Refused(TokenRefusal::NoSuchIdentity)),
    ("ManagedIdentityNotFound", Meaning::Refused(TokenRefusal::NoSuchIdentity)),
    ("SecretHeaderNotFound", Meaning::Refused(TokenRefusal::Credential)),
    ("AudienceNotSupported", Meaning::Refused(TokenRefusal::Audience)),
    ("invalid_resource", Meaning::Refused(TokenRefusal::Audience)),
    ("invalid_scope", Meaning::Refused(TokenRefusal::Audience)),
    ("invalid_tenant", Meaning::Refused(TokenRefusal::Tenant)),
    ("unauthorized_client", Meaning::Refused(TokenRefusal::Application)),
    ("invalid_client", Meaning::Refused(TokenRefusal::Credential)),
    ("server_error", Meaning::Failing),
    ("temporarily_unavailable", Meaning::Failing),
    // "Required metadata header not specified", which is not about an identity.
    ("bad_request_102", Meaning::Refused(TokenRefusal::Other)),
    ("unsupported_response_type", Meaning::Refused(TokenRefusal::Other)),
];

/// Texts that have stayed the same over the years, in answers without a specific code.
const MESSAGES: [(&str, TokenRefusal); 6] = [
    ("Multiple user assigned identities", TokenRefusal::SeveralIdentities),
    ("No User Assigned or Delegated Managed Identity found", TokenRefusal::NoSuchIdentity),
    ("No Managed Identity found", TokenRefusal::NoSuchIdentity),
    ("No MSI found", TokenRefusal::NoSuchIdentity),
    ("Identity not found", TokenRefusal::NoSuchIdentity),
    ("is not a supported MSI token audience", TokenRefusal::Audience),
];

/// The `Retry-After` that Entra ID itself sends to an application that asks too often (MSAL.NET wiki, "Client
/// Throttling").
const LOOP_RETRY_AFTER: Duration = Duration::from_secs(60);

const UPGRADE_RETRY_AFTER: Duration = Duration::from_secs(10);
