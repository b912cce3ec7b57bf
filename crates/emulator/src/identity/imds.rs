//! The token endpoint of the Instance Metadata Service.
//!
//! Source: Microsoft Learn, "How to use managed identities on an Azure virtual machine to acquire an access
//! token", sections "Get a token using HTTP" and "Error handling".

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Map, json};

use super::app_service::is_date;
use super::{Failure, Grant, expiry};
use crate::reply;
use crate::request::Ask;
use crate::settings::{ExpiresIn, ExpiresOn, Settings};

/// The query of a request that IMDS takes.
pub(super) fn check(ask: &Ask) -> Result<Vec<(String, String)>, Failure> {
    if ask.method != Method::GET {
        return Err(Failure::Method);
    }
    // Only the lower-case word: what a server-side request forgery cannot easily be made to send.
    if ask.header("metadata") != Some("true") {
        return Err(Failure::Metadata);
    }
    if ask.headers.contains_key("x-forwarded-for") {
        return Err(Failure::Forwarded);
    }
    let known = |it: &&str| is_date(it) && *it >= "2018-02-01";
    ask.parameter("api-version").filter(known).ok_or(Failure::ApiVersion)?;
    Ok(ask.query.clone())
}

/// The documented answer of IMDS; Cloud Shell's is the same. All its numbers are text.
pub(super) fn grant(grant: Grant, settings: &Settings) -> Response<Bytes> {
    let mut fields = Map::new();
    let usual = (ExpiresOn::Text, ExpiresIn::Text);
    expiry::write(&mut fields, settings, usual, grant.now, grant.expires);
    fields.insert("access_token".to_owned(), grant.token.into());
    fields.insert("refresh_token".to_owned(), "".into());
    fields.insert("not_before".to_owned(), grant.now.to_string().into());
    fields.insert("resource".to_owned(), grant.resource.into());
    fields.insert("token_type".to_owned(), "Bearer".into());
    reply::json(StatusCode::OK, &fields.into())
}

/// An error of IMDS. Its table of errors gives the names; "Identity not found" is from
/// Azure/azure-sdk-for-net issue 37278, the missing resource from Azure/aad-pod-identity pull request 450. What
/// it says to a wrong api-version and to `X-Forwarded-For` is not documented.
pub(super) fn refuse(failure: Failure) -> Response<Bytes> {
    let (status, error, description) = describe(failure);
    let body = json!({"error": error, "error_description": description});
    let mut response = reply::json(reply::status(status), &body);
    response.headers_mut().insert("server", http::HeaderValue::from_static("IMDS/150.870.65.1015"));
    response
}

fn describe(failure: Failure) -> (u16, &'static str, &'static str) {
    match failure {
        Failure::Method => (405, "invalid_request", "The method is not allowed"),
        Failure::Metadata => (400, "bad_request_102", "Required metadata header not specified"),
        Failure::Forwarded => (400, "invalid_request", "The request came through a proxy"),
        Failure::ApiVersion => (400, "invalid_request", "Required query variable 'api-version' is missing"),
        Failure::ResourceMissing => (400, "invalid_request", "Required query variable 'resource' is missing"),
        Failure::UnknownResource => (400, "invalid_resource", UNKNOWN_RESOURCE),
        Failure::IdentityMissing | Failure::Status(400) => (400, "invalid_request", "Identity not found"),
        Failure::IdentityAmbiguous => (400, "invalid_request", AMBIGUOUS),
        Failure::Form | Failure::Key => (400, "invalid_request", "The request is not supported"),
        Failure::Status(401) => (401, "unknown_source", "Unknown Source"),
        Failure::Status(404) => (404, "not_found", "IMDS endpoint is updating"),
        Failure::Status(410) => (410, "gone", "IMDS is going through updates"),
        Failure::Status(429) => (429, "too_many_requests", "Too many requests"),
        Failure::Status(status) => (status, "unknown", "Failed to retrieve token from the Active directory"),
    }
}

const AMBIGUOUS: &str = "Multiple user assigned identities exist, please specify the clientId / resourceId of \
                         the identity in the token request";
const UNKNOWN_RESOURCE: &str = "AADSTS50001: The application was not found in the tenant. This can happen if \
                                the application has not been installed by the administrator of the tenant or \
                                consented to by any user in the tenant.";
