//! The token endpoint of App Service and Functions, of 2019 and of 2017.
//!
//! Source: Microsoft Learn, "How to use managed identities for App Service and Azure Functions", section "REST
//! endpoint reference".

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::{Failure, Grant, Keys, credential, expiry};
use crate::journal::Credential;
use crate::request::Ask;
use crate::settings::{ExpiresIn, ExpiresOn, Settings, Source};
use crate::{random, reply};

/// The query of a request that App Service takes.
pub(super) fn check(ask: &Ask, source: Source, keys: &Keys) -> Result<Vec<(String, String)>, Failure> {
    if ask.method != Method::GET {
        return Err(Failure::Method);
    }
    if credential(ask, source, keys) != Credential::Right {
        return Err(Failure::Key);
    }
    let version = ask.parameter("api-version").filter(|it| is_date(it)).ok_or(Failure::ApiVersion)?;
    // "Use 2019-08-01 or later"; the only older one has its own header and its own answers.
    if source == Source::AppService2019 && version < "2019-08-01" {
        return Err(Failure::ApiVersion);
    }
    Ok(ask.query.clone())
}

/// The answer of 2019, exactly the documented fields.
pub(super) fn grant_2019(grant: Grant, settings: &Settings) -> Response<Bytes> {
    let client_id = grant.client_id.clone();
    let mut fields = fields(grant, settings, ExpiresOn::Text);
    fields.insert("client_id".to_owned(), client_id.into());
    reply::json(StatusCode::OK, &fields.into())
}

/// The answer of 2017, as on Windows unless the settings say otherwise.
pub(super) fn grant_2017(grant: Grant, settings: &Settings) -> Response<Bytes> {
    reply::json(StatusCode::OK, &fields(grant, settings, ExpiresOn::Windows2017).into())
}

fn fields(grant: Grant, settings: &Settings, usual: ExpiresOn) -> Map<String, Value> {
    let mut fields = Map::new();
    expiry::write(&mut fields, settings, (usual, ExpiresIn::Absent), grant.now, grant.expires);
    fields.insert("access_token".to_owned(), grant.token.into());
    fields.insert("resource".to_owned(), grant.resource.into());
    fields.insert("token_type".to_owned(), "Bearer".into());
    fields
}

/// An error of 2019. The texts for a missing identity and for an unknown resource are those of the service
/// (MSAL for .NET, `ManagedIdentityTests`; Azure/azure-sdk-for-net issue 44685), its "occured" too. What it says
/// to a wrong header is not documented: here an empty 401.
pub(super) fn refuse_2019(failure: Failure) -> Response<Bytes> {
    let (status, message) = describe(failure);
    if matches!(failure, Failure::Key) {
        return reply::empty(status);
    }
    let id = random::guid();
    correlated(&id, status, &json!({"statusCode": status.as_u16(), "message": message, "correlationId": id}))
}

/// An error of 2017: the names begin with capitals, and a wrong secret is answered in plain text
/// (MicrosoftDocs/azure-docs issue 43543, Azure/azure-sdk-for-net issue 46932).
pub(super) fn refuse_2017(failure: Failure) -> Response<Bytes> {
    let (status, message) = match failure {
        Failure::Key => return reply::text(StatusCode::UNAUTHORIZED, "Invalid secret token header: ."),
        Failure::IdentityMissing | Failure::IdentityAmbiguous | Failure::Status(400) => {
            (StatusCode::BAD_REQUEST, "No MSI found for specified ClientId/ResourceId.")
        }
        other => describe(other),
    };
    let id = random::guid();
    correlated(&id, status, &json!({"StatusCode": status.as_u16(), "Message": message, "CorrelationId": id}))
}

fn describe(failure: Failure) -> (StatusCode, &'static str) {
    let bad = StatusCode::BAD_REQUEST;
    match failure {
        Failure::Method => (StatusCode::METHOD_NOT_ALLOWED, "The method is not allowed."),
        Failure::Key => (StatusCode::UNAUTHORIZED, ""),
        Failure::ApiVersion => (bad, "The api-version is missing or not supported."),
        Failure::ResourceMissing => (bad, "The resource is missing."),
        Failure::IdentityMissing | Failure::IdentityAmbiguous | Failure::Status(400) => (bad, NO_IDENTITY),
        // App Service does not check these headers; Cloud Shell and IMDS do.
        Failure::Form | Failure::Metadata | Failure::Forwarded => (bad, "The request is not supported."),
        // "App Service, wrong resource: vague" (MSAL for Python, comment in `managed_identity.py`).
        Failure::UnknownResource => (StatusCode::INTERNAL_SERVER_ERROR, UNEXPECTED),
        Failure::Status(status) => (reply::status(status), UNEXPECTED),
    }
}

const NO_IDENTITY: &str =
    "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId/PrincipalId.";
const UNEXPECTED: &str = "An unexpected error occured while fetching the AAD Token.";

fn correlated(id: &str, status: StatusCode, body: &Value) -> Response<Bytes> {
    let mut response = reply::json(status, body);
    let id = id.parse().expect("hexadecimal digits can stand in a header");
    response.headers_mut().insert("x-correlation-id", id);
    response
}

/// Whether `text` has the form of a date, as an api-version begins.
pub(super) fn is_date(text: &str) -> bool {
    let Some((date, rest)) = text.split_at_checked(10) else { return false };
    let digits = |(at, it): (usize, u8)| if at == 4 || at == 7 { it == b'-' } else { it.is_ascii_digit() };
    date.bytes().enumerate().all(digits) && (rest.is_empty() || rest == "-preview")
}
