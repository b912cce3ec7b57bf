//! The token endpoint of App Service and Functions, of 2019 and of 2017.
//!
//! Source: Microsoft Learn, "How to use managed identities for App Service and Azure Functions", section "REST
//! endpoint reference".

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Map, json};

use super::managed::{Failure, Fields, Grant, Refusal};
use super::{Keys, expiry};
use crate::journal::Credential;
use crate::request::Ask;
use crate::settings::{ExpiresIn, ExpiresOn, Settings};
use crate::{random, reply};

/// Which of its protocols is spoken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    V2017,
    V2019,
}

/// What `ask` shows of the credential.
pub(super) fn credential(ask: &Ask, version: Version, keys: &Keys) -> Credential {
    let header = match version {
        Version::V2017 => "secret",
        Version::V2019 => "x-identity-header",
    };
    Credential::of(ask.header(header), &keys.identity)
}

/// The query of a request that App Service takes.
pub(super) fn check(ask: &Ask, version: Version, keys: &Keys) -> Result<Fields, Refusal> {
    if ask.method != Method::GET {
        return Err(error(version, StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed.").into());
    }
    if credential(ask, version, keys) != Credential::Right {
        return Err(unauthorized(version).into());
    }
    let known = match version {
        // This is how it is told apart.
        Version::V2017 => true,
        // "Use 2019-08-01 or later"; which there are is not documented.
        Version::V2019 => ask.parameter("api-version").is_some_and(|it| is_date(it) && it >= "2019-08-01"),
    };
    if !known {
        let message = "The api-version is missing or not supported.";
        return Err(error(version, StatusCode::BAD_REQUEST, message).into());
    }
    Ok(ask.query.clone())
}

/// The answer, exactly the documented fields. Of 2017 it is as on Windows unless the settings say otherwise.
pub(super) fn grant(version: Version, grant: Grant, settings: &Settings) -> Response<Bytes> {
    let mut fields = Map::new();
    let usual = match version {
        Version::V2017 => ExpiresOn::Windows2017,
        Version::V2019 => ExpiresOn::Text,
    };
    expiry::write(&mut fields, settings, (usual, ExpiresIn::Absent), grant.kept.life, grant.now);
    fields.insert("access_token".to_owned(), grant.kept.token.into());
    fields.insert("resource".to_owned(), grant.resource.into());
    fields.insert("token_type".to_owned(), "Bearer".into());
    if version == Version::V2019 {
        fields.insert("client_id".to_owned(), grant.client_id.into());
    }
    reply::json(StatusCode::OK, &fields.into())
}

/// An error. The texts for a missing identity and for an unknown resource are those of the service (MSAL for .NET,
/// `ManagedIdentityTests`; Azure/azure-sdk-for-net issue 44685, its "occured" too; for 2017 MicrosoftDocs/azure-docs
/// issue 43543).
pub(super) fn refuse(version: Version, failure: Failure) -> Response<Bytes> {
    match failure {
        Failure::ResourceMissing => error(version, StatusCode::BAD_REQUEST, "The resource is missing."),
        Failure::IdentityMissing | Failure::Status(400) => {
            let message = match version {
                Version::V2017 => "No MSI found for specified ClientId/ResourceId.",
                Version::V2019 => NO_IDENTITY,
            };
            error(version, StatusCode::BAD_REQUEST, message)
        }
        // "App Service, wrong resource: vague" (MSAL for Python, comment in `managed_identity.py`).
        Failure::UnknownResource => error(version, StatusCode::INTERNAL_SERVER_ERROR, UNEXPECTED),
        Failure::Status(status) => error(version, reply::status(status), UNEXPECTED),
    }
}

const NO_IDENTITY: &str =
    "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.";
const UNEXPECTED: &str = "An unexpected error occured while fetching the AAD Token.";

/// What is said to a wrong credential: of 2017 in plain text (Azure/azure-sdk-for-net issue 46932). Of 2019 it is not
/// documented: here it is an empty 401.
fn unauthorized(version: Version) -> Response<Bytes> {
    match version {
        Version::V2017 => reply::text(StatusCode::UNAUTHORIZED, "Invalid secret token header: ."),
        Version::V2019 => reply::empty(StatusCode::UNAUTHORIZED),
    }
}

/// An error's body. The names of 2017 begin with capitals.
fn error(version: Version, status: StatusCode, message: &str) -> Response<Bytes> {
    let (number, id) = (status.as_u16(), random::guid());
    let body = match version {
        Version::V2017 => json!({"StatusCode": number, "Message": message, "CorrelationId": id}),
        Version::V2019 => json!({"statusCode": number, "message": message, "correlationId": id}),
    };
    let mut response = reply::json(status, &body);
    let id = id.parse().expect("hexadecimal digits can stand in a header");
    response.headers_mut().insert("x-correlation-id", id);
    response
}

/// Whether `text` has the form of a date, as an api-version begins.
fn is_date(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else { return false };
    let digits = |(at, it): (usize, u8)| if at == 4 || at == 7 { it == b'-' } else { it.is_ascii_digit() };
    date.bytes().enumerate().all(digits) && (rest.is_empty() || rest == "-preview")
}
