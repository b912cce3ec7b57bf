//! The token endpoint of the Instance Metadata Service.
//!
//! Sources: Microsoft Learn, "How to use managed identities on an Azure virtual machine to acquire an access token",
//! sections "Get a token using HTTP" and "Error handling", and "Azure Instance Metadata Service for virtual machines".

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use super::expiry;
use super::managed::{Failure, Fields, Grant, Refusal};
use crate::reply;
use crate::request::Ask;
use crate::settings::{ExpiresIn, ExpiresOn, Settings, UserAssigned};

/// The query of a request that IMDS takes. What it says to `X-Forwarded-For` and to a parameter that is there twice is
/// not documented.
pub(super) fn check(ask: &Ask) -> Result<Fields, Refusal> {
    if ask.method != Method::GET {
        return Err(error(405, "invalid_request", "The method is not allowed").into());
    }
    // Only the lower-case word: what a server-side request forgery cannot easily be made to send.
    if ask.header("metadata") != Some("true") {
        return Err(error(400, "bad_request_102", "Required metadata header not specified").into());
    }
    if ask.headers.contains_key("x-forwarded-for") {
        return Err(error(400, "invalid_request", "The request came through a proxy").into());
    }
    if !ask.parameter("api-version").is_some_and(|it| API_VERSIONS.contains(&it)) {
        let body = json!({"error": BAD_VERSION, "newest-versions": API_VERSIONS[..3]});
        return Err(served(400, &body).into());
    }
    // "Requests with duplicate query parameter names will be rejected".
    let is_again =
        |(at, (name, _)): (usize, &(String, String))| ask.query[..at].iter().any(|it| it.0 == *name);
    if ask.query.iter().enumerate().any(is_again) {
        return Err(error(400, "invalid_request", "A query variable is there more than once").into());
    }
    Ok(ask.query.clone())
}

/// The identity of a machine that has a user-assigned one only, for who selects none.
pub(super) fn only(assigned: &[UserAssigned]) -> Result<&UserAssigned, Refusal> {
    match assigned {
        [] => Err(refuse(Failure::IdentityMissing).into()),
        [only] => Ok(only),
        _ => Err(error(400, "invalid_request", AMBIGUOUS).into()),
    }
}

/// The documented answer of IMDS; Cloud Shell's is the same. All its numbers are text.
pub(super) fn grant(grant: Grant, settings: &Settings) -> Response<Bytes> {
    let mut fields = Map::new();
    let usual = (ExpiresOn::Text, ExpiresIn::Text);
    expiry::write(&mut fields, settings, usual, grant.kept.life, grant.now);
    fields.insert("access_token".to_owned(), grant.kept.token.into());
    fields.insert("refresh_token".to_owned(), "".into());
    fields.insert("not_before".to_owned(), grant.kept.life.issued.to_string().into());
    fields.insert("resource".to_owned(), grant.resource.into());
    fields.insert("token_type".to_owned(), "Bearer".into());
    reply::json(StatusCode::OK, &fields.into())
}

/// An error of IMDS. Its table of errors gives the names; "Identity not found" is from
/// Azure/azure-sdk-for-net issue 37278, the missing resource from Azure/aad-pod-identity pull request 450.
pub(super) fn refuse(failure: Failure) -> Response<Bytes> {
    let invalid = |description| error(400, "invalid_request", description);
    match failure {
        Failure::ResourceMissing => invalid("Required query variable 'resource' is missing"),
        Failure::UnknownResource => error(400, "invalid_resource", UNKNOWN_RESOURCE),
        Failure::IdentityMissing | Failure::Status(400) => invalid("Identity not found"),
        Failure::Status(401) => error(401, "unknown_source", "Unknown Source"),
        Failure::Status(404) => error(404, "not_found", "IMDS endpoint is updating"),
        Failure::Status(410) => error(410, "gone", "IMDS is going through updates"),
        Failure::Status(429) => error(429, "too_many_requests", "Too many requests"),
        Failure::Status(status) => {
            error(status, "unknown", "Failed to retrieve token from the Active directory")
        }
    }
}

fn error(status: u16, error: &str, description: &str) -> Response<Bytes> {
    served(status, &json!({"error": error, "error_description": description}))
}

fn served(status: u16, body: &Value) -> Response<Bytes> {
    let mut response = reply::json(reply::status(status), body);
    response.headers_mut().insert("server", HeaderValue::from_static("IMDS/150.870.65.1015"));
    response
}

const AMBIGUOUS: &str = "Multiple user assigned identities exist, please specify the clientId / resourceId of \
                         the identity in the token request";
const UNKNOWN_RESOURCE: &str = "AADSTS50001: The application was not found in the tenant. This can happen if \
                                the application has not been installed by the administrator of the tenant or \
                                consented to by any user in the tenant.";

/// What IMDS says of an api-version wherever it is asked (section "Versioning").
const BAD_VERSION: &str = "Bad request. api-version is invalid or was not specified in the request. For more \
                           information refer to aka.ms/azureimds";

/// The newest first (section "Supported API versions"). The older ones have no tokens (section "Endpoint categories").
const API_VERSIONS: [&str; 30] = [
    "2025-04-07",
    "2024-07-17",
    "2024-03-15",
    "2023-11-15",
    "2023-07-01",
    "2021-12-13",
    "2021-11-15",
    "2021-11-01",
    "2021-10-01",
    "2021-08-01",
    "2021-05-01",
    "2021-03-01",
    "2021-02-01",
    "2021-01-01",
    "2020-12-01",
    "2020-10-01",
    "2020-09-01",
    "2020-07-15",
    "2020-06-01",
    "2019-11-01",
    "2019-08-15",
    "2019-08-01",
    "2019-06-04",
    "2019-06-01",
    "2019-04-30",
    "2019-03-11",
    "2019-02-01",
    "2018-10-01",
    "2018-04-02",
    "2018-02-01",
];
