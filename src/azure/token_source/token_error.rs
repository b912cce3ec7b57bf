//! Why a token source gives no token.
//!
//! What counts is, in this order: the status, where it says enough; the codes of the answer; the sentences in it; and in the end
//! what is most often the reason at this source. The forms of answers are those of [`ErrorBody`]. Nothing of a text goes further
//! than this file.

use std::time::Duration;

use super::TokenSource;
use crate::azure::{Answer, ErrorBody};
use crate::error::{Error, FailureKind, Service, TokenRefusal};

/// What an answer of `source` means that is no token; `unix_time` is now.
pub(super) fn error(answer: &Answer, source: &TokenSource, unix_time: u64) -> Error {
    let status = answer.status();
    let body = ErrorBody::of(answer);
    let pause = || answer.retry_after(unix_time);
    match (status, source) {
        (429, _) => return Error::upstream(Service::TokenSource, FailureKind::Throttled, pause()),
        (408 | 500..=599, _) => return Error::upstream(Service::TokenSource, FailureKind::Failing, pause()),
        // IMDS is being upgraded, for up to 70 seconds (Microsoft, "Use managed identities on a virtual machine to acquire access
        // token", "Retry guidance"). MSAL for .NET waits ten seconds between its tries.
        (410, TokenSource::Imds(_)) => {
            return Error::upstream(
                Service::TokenSource,
                FailureKind::Failing,
                pause().or(Some(UPGRADE_PAUSE)),
            );
        }
        // IMDS is shown nothing that it could refuse. It is a proxy that says this, Docker Desktop, or what a cluster puts in its
        // place (Azure/azure-sdk-for-net issue 38218).
        (401 | 403, TokenSource::Imds(_)) => return Error::TokenSourceAbsent(status),
        _ => {}
    }
    let coded = body.codes().find_map(|code| CODES.iter().find(|it| it.0 == code)).map(|it| it.1);
    let worded = || SENTENCES.iter().find(|it| body.text.contains(it.0)).map(|it| Meaning::Refused(it.1));
    match coded.or_else(worded).unwrap_or_else(|| usual(status, source)) {
        Meaning::Throttled => Error::upstream(Service::TokenSource, FailureKind::Throttled, pause()),
        Meaning::Failing => Error::upstream(Service::TokenSource, FailureKind::Failing, pause()),
        Meaning::Refused(reason) => {
            Error::TokenSourceRefused { reason, source: source.name(), status, code: body.operator_code() }
        }
    }
}

/// What it means that there is no token.
#[derive(Clone, Copy)]
enum Meaning {
    Refused(TokenRefusal),
    Throttled,
    Failing,
}

/// What `status` means most often at `source`, where nothing else in the answer tells.
const fn usual(status: u16, source: &TokenSource) -> Meaning {
    match (status, source) {
        // IMDS says this while it updates its endpoints ("Retry guidance", as above).
        (404, TokenSource::Imds(_)) => Meaning::Failing,
        (
            400 | 404,
            TokenSource::AppService2019(_) | TokenSource::AppService2017(_) | TokenSource::Imds(_),
        ) => Meaning::Refused(TokenRefusal::NoSuchIdentity),
        // There is but one identity.
        (400, TokenSource::CloudShell(_)) => Meaning::Refused(TokenRefusal::Audience),
        (400, TokenSource::ClientSecret(_)) | (401 | 403, _) => Meaning::Refused(TokenRefusal::Credential),
        _ => Meaning::Refused(TokenRefusal::Other),
    }
}

/// Codes: of IMDS (Microsoft, "How to use managed identities … to acquire an access token", "Error handling"), Container
/// Instances, which has Service Fabric's (Azure/azure-sdk-for-net issue 45547), Cloud Shell, OAuth (RFC 6749, section 5.2) and Entra
/// (Microsoft, "Microsoft Entra authentication and authorization error codes").
const CODES: [(&str, Meaning); 28] = [
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
    ("AADSTS53003", Meaning::Refused(TokenRefusal::Policy)),
    ("AADSTS530032", Meaning::Refused(TokenRefusal::Policy)),
    ("AADSTS50196", Meaning::Throttled),
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
    // "Required metadata header not specified": no fault of an identity.
    ("bad_request_102", Meaning::Refused(TokenRefusal::Other)),
    ("unsupported_response_type", Meaning::Refused(TokenRefusal::Other)),
];

/// Words that have stayed the same over the years, where there is no code that would tell.
const SENTENCES: [(&str, TokenRefusal); 6] = [
    ("Multiple user assigned identities", TokenRefusal::SeveralIdentities),
    ("No User Assigned or Delegated Managed Identity found", TokenRefusal::NoSuchIdentity),
    ("No Managed Identity found", TokenRefusal::NoSuchIdentity),
    ("No MSI found", TokenRefusal::NoSuchIdentity),
    ("Identity not found", TokenRefusal::NoSuchIdentity),
    ("is not a supported MSI token audience", TokenRefusal::Audience),
];

const UPGRADE_PAUSE: Duration = Duration::from_secs(10);
