//! Token endpoints of managed identities in App Service, IMDS, Cloud Shell and Azure Arc: checks, selection of
//! the identity, the platform's token cache, and errors.
//!
//! Sources: Microsoft Learn, "How to use managed identities for App Service and Azure Functions", section
//! "REST endpoint reference"; "How to use managed identities on an Azure virtual machine to acquire an access
//! token", sections "Get a token using HTTP" and "Error handling"; "Azure Instance Metadata Service for
//! virtual machines"; "Acquire a user token in Azure Cloud Shell". Comments mark undocumented parts.

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{Issuer, credential, expiry};
use crate::journal::Credential;
use crate::request::{Request, find};
use crate::settings::{ExpiresIn, ExpiresOn, Settings, Source, UserAssigned};
use crate::signing::{self, Lifetime};
use crate::tokens::{CacheKey, CachedToken};
use crate::{facts, random, response};

type Result<T> = std::result::Result<T, Failure>;

pub(super) fn answer(request: &Request, source: Source, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    let response = respond(request, source, issuer, now);
    response.unwrap_or_else(|error| error_response(source, error))
}

fn respond(request: &Request, source: Source, issuer: &Issuer<'_>, now: i64) -> Result<Response<Bytes>> {
    let parameters = check_request(request, source, issuer, now)?;
    let resource = find(&parameters, "resource").ok_or(Failure::ResourceMissing)?;
    let identity = select(source, &issuer.settings, &parameters)?;
    if !issuer.knows(resource) && !is_exchange(resource) {
        return Err(Failure::UnknownResource);
    }
    let (token, lifetime) = platform_token(issuer, resource, &identity, now);
    let mut body = json!({"access_token": token, "resource": resource, "token_type": "Bearer"});
    let default_format = match source {
        Source::AppService2019 => {
            body["client_id"] = identity.client_id.into();
            (ExpiresOn::Text, ExpiresIn::Absent)
        }
        // The format of App Service on Windows.
        Source::AppService2017 => (ExpiresOn::Windows2017, ExpiresIn::Absent),
        Source::Imds
        | Source::CloudShell
        | Source::AzureArc
        | Source::ClientSecret
        | Source::WorkloadIdentity
        | Source::ManagedIdentityFederation
        | Source::GithubActions
        | Source::GoogleCloud => {
            body["refresh_token"] = "".into();
            body["not_before"] = lifetime.issued.to_string().into();
            (ExpiresOn::Text, ExpiresIn::Text)
        }
    };
    expiry::write(&mut body, &issuer.settings, default_format, lifetime.expires, now);
    Ok(response::json(StatusCode::OK, &body))
}

/// Checks the form of a request to this source, and returns its parameters.
fn check_request(
    request: &Request,
    source: Source,
    issuer: &Issuer<'_>,
    now: i64,
) -> Result<Vec<(String, String)>> {
    let method = if source == Source::CloudShell { Method::POST } else { Method::GET };
    if request.method != method {
        return Err(Failure::Method);
    }
    // IMDS accepts only the lower-case `true`, as a protection against server-side request forgery.
    let sent = match source {
        // `arc` has checked the key.
        Source::AzureArc => Credential::compare(request.header("metadata"), "true"),
        others => credential(request, others, issuer, now),
    };
    if sent != Credential::Right {
        return Err(Failure::Credential);
    }
    let version = request.parameter("api-version").unwrap_or_default();
    let names: HashSet<_> = request.query.iter().map(|(name, _)| name).collect();
    match source {
        Source::CloudShell => return request.form().ok_or(Failure::NotAForm),
        // "Use 2019-08-01 or later"; the list of versions is not documented.
        Source::AppService2019 if !is_date(version) || version < "2019-08-01" => {
            return Err(Failure::Version);
        }
        // The response to this header is not documented.
        Source::Imds if request.headers.contains_key("x-forwarded-for") => return Err(Failure::Forwarded),
        Source::Imds if !API_VERSIONS.split(' ').any(|known| known == version) => {
            return Err(Failure::Version);
        }
        // "Requests with duplicate query parameter names will be rejected"; the text is not documented.
        Source::Imds if names.len() < request.query.len() => return Err(Failure::Duplicate),
        // A request is one to App Service 2017 or to Azure Arc because of its version.
        Source::AppService2019
        | Source::AppService2017
        | Source::Imds
        | Source::AzureArc
        | Source::ClientSecret
        | Source::WorkloadIdentity
        | Source::ManagedIdentityFederation
        | Source::GithubActions
        | Source::GoogleCloud => {}
    }
    Ok(request.query.clone())
}

/// Whether an api-version is a date, with or without `-preview`.
fn is_date(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    date.split('-').map(str::len).eq([4, 2, 2])
        && date.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit())
}

/// Returns the identity that the parameters select. Two selectors, or a selector of another source, select no
/// identity: falling back to the system-assigned identity would hide the client's mistake.
fn select(source: Source, settings: &Settings, fields: &[(String, String)]) -> Result<UserAssigned> {
    const SELECTORS: &[&str] =
        &["client_id", "clientid", "principal_id", "object_id", "mi_res_id", "msi_res_id"];
    let mut selectors = fields.iter().filter(|(name, _)| SELECTORS.contains(&name.as_str()));
    let assigned = settings.user_assigned.as_slice();
    match (selectors.next(), selectors.next()) {
        (Some((name, value)), None) => {
            let is_selected = |identity: &&UserAssigned| {
                selected_by(source, name, identity).is_some_and(|known| known.eq_ignore_ascii_case(value))
            };
            assigned.iter().find(is_selected).cloned().ok_or(Failure::IdentityMissing)
        }
        (None, _) if settings.system_assigned => Ok(UserAssigned {
            client_id: facts::APP_ID.to_owned(),
            object_id: facts::OBJECT_ID.to_owned(),
            resource_id: String::new(),
        }),
        // Only IMDS falls back to a user-assigned identity.
        (None, _) if source == Source::Imds && assigned.len() == 1 => Ok(assigned[0].clone()),
        (None, _) if source == Source::Imds && assigned.len() > 1 => Err(Failure::Ambiguous),
        _ => Err(Failure::IdentityMissing),
    }
}

/// Returns the identifier that the selector `name` means. Version 2017 "only accepted the `clientid`
/// property".
fn selected_by<'a>(source: Source, name: &str, identity: &'a UserAssigned) -> Option<&'a str> {
    use Source::{AppService2017, AppService2019, Imds};
    match (source, name) {
        (AppService2019 | Imds, "client_id") | (AppService2017, "clientid") => Some(&identity.client_id),
        (AppService2019 | Imds, "object_id") | (AppService2019, "principal_id") => Some(&identity.object_id),
        (AppService2019, "mi_res_id") | (Imds, "msi_res_id") => Some(&identity.resource_id),
        _ => None,
    }
}

/// Returns the cached token, or caches a new one: "The back-end services for managed identities maintain a
/// cache per resource URI for around 24 hours … it is not possible to force a managed identity's token to be
/// refreshed before its expiry" (Microsoft Learn, "Managed identities for App Service").
fn platform_token(issuer: &Issuer<'_>, resource: &str, identity: &UserAssigned, now: i64) -> CachedToken {
    let key = CacheKey { client_id: identity.client_id.clone(), resource: resource.to_owned() };
    let cached = issuer.emulator.lock().tokens.cached(&key, now);
    if let Some(cached) = cached {
        return cached;
    }
    let expires = now.saturating_add(issuer.settings.lifetime.unwrap_or(LIFETIME));
    let lifetime = Lifetime { issued: now, expires };
    let (oid, appid) = (identity.object_id.as_str(), identity.client_id.as_str());
    let token = if is_exchange(resource) {
        let claims = signing::claims_v2(resource, oid, appid, lifetime);
        issuer.issue_assertion(&claims)
    } else {
        issuer.issue(resource, lifetime, || signing::claims(resource, oid, appid, &[], lifetime))
    };
    issuer.emulator.lock().tokens.cache(key, (token, lifetime), now)
}

/// Whether a token for `resource` is a client assertion, in one of the clouds.
///
/// Source: Microsoft Learn, "Configure an application to trust a managed identity".
fn is_exchange(resource: &str) -> bool {
    let cloud = resource.strip_prefix(facts::EXCHANGE_AUDIENCE);
    cloud.is_some_and(|cloud| ["", "USGov", "China"].contains(&cloud))
}

#[derive(Clone, Copy)]
pub(super) enum Failure {
    Method,
    Credential,
    Version,
    Forwarded,
    Duplicate,
    NotAForm,
    ResourceMissing,
    UnknownResource,
    IdentityMissing,
    Ambiguous,
    /// A fault with only a status.
    Status(u16),
}

pub(super) fn error_response(source: Source, error: Failure) -> Response<Bytes> {
    match source {
        Source::AppService2019 => app_service(error, false),
        Source::AppService2017 => app_service(error, true),
        // The errors of Azure Arc are not documented.
        Source::Imds | Source::AzureArc => imds(error),
        Source::CloudShell
        | Source::ClientSecret
        | Source::WorkloadIdentity
        | Source::ManagedIdentityFederation
        | Source::GithubActions
        | Source::GoogleCloud => cloud_shell(error),
    }
}

/// Azure's texts for a missing identity and an unknown resource (MSAL for .NET, `ManagedIdentityTests`;
/// Azure/azure-sdk-for-net issue 44685, including "occured"; for 2017 MicrosoftDocs/azure-docs issue 43543;
/// "App Service, wrong resource: vague", MSAL for Python, `managed_identity.py`). Version 2017 answers a
/// wrong credential in plain text (Azure/azure-sdk-for-net issue 46932); for 2019 the response is not
/// documented, and is an empty 401 here.
fn app_service(error: Failure, is_2017: bool) -> Response<Bytes> {
    let unexpected = "An unexpected error occured while fetching the AAD Token.";
    let (status, message) = match error {
        Failure::Credential if is_2017 => {
            let text = "Invalid secret token header: .".to_owned();
            return response::with_body(StatusCode::UNAUTHORIZED, response::TEXT, text);
        }
        Failure::Credential => return response::empty(StatusCode::UNAUTHORIZED),
        Failure::Method => (405, "The method is not allowed."),
        Failure::Version => (400, "The api-version is missing or not supported."),
        Failure::ResourceMissing => (400, "The resource is missing."),
        Failure::UnknownResource => (500, unexpected),
        Failure::Status(status) if status != 400 => (status, unexpected),
        _ if is_2017 => (400, "No MSI found for specified ClientId/ResourceId."),
        _ => (400, super::token_refusal::NO_IDENTITY),
    };
    let id = random::guid();
    // The members of version 2017 begin with capitals.
    let body = if is_2017 {
        json!({"StatusCode": status, "Message": message, "CorrelationId": id})
    } else {
        json!({"statusCode": status, "message": message, "correlationId": id})
    };
    let id = id.parse().expect("hexadecimal digits are valid in a header");
    let response = response::json(response::status_code(status), &body);
    response::with_header(response, HeaderName::from_static("x-correlation-id"), id)
}

/// The error names are documented. "Identity not found" is from Azure/azure-sdk-for-net issue 37278, the
/// missing resource from Azure/aad-pod-identity pull request 450, the invalid version from section
/// "Versioning".
fn imds(error: Failure) -> Response<Bytes> {
    let (status, error, description) = match error {
        Failure::Version => {
            let newest: Vec<&str> = API_VERSIONS.split(' ').take(3).collect();
            return imds_response(400, &json!({"error": BAD_VERSION, "newest-versions": newest}));
        }
        Failure::Method => (405, "invalid_request", "The method is not allowed"),
        Failure::Credential => (400, "bad_request_102", "Required metadata header not specified"),
        Failure::Forwarded => (400, "invalid_request", "The request came through a proxy"),
        Failure::Duplicate => (400, "invalid_request", "A query variable is present more than once"),
        Failure::ResourceMissing => (400, "invalid_request", "Required query variable 'resource' is missing"),
        Failure::UnknownResource => (400, "invalid_resource", UNKNOWN_RESOURCE),
        Failure::Ambiguous => (400, "invalid_request", AMBIGUOUS),
        Failure::IdentityMissing | Failure::NotAForm | Failure::Status(400) => {
            (400, "invalid_request", "Identity not found")
        }
        Failure::Status(401) => (401, "unknown_source", "Unknown Source"),
        Failure::Status(404) => (404, "not_found", "IMDS endpoint is updating"),
        Failure::Status(410) => (410, "gone", "IMDS is going through updates"),
        Failure::Status(429) => (429, "too_many_requests", "Too many requests"),
        Failure::Status(status) => (status, "unknown", "Failed to retrieve token from the Active directory"),
    };
    imds_response(status, &json!({"error": error, "error_description": description}))
}

fn imds_response(status: u16, body: &Value) -> Response<Bytes> {
    let server = HeaderValue::from_static("IMDS/150.870.65.1015");
    response::with_header(response::json(response::status_code(status), body), header::SERVER, server)
}

/// Cloud Shell documents only the error for an unknown audience.
fn cloud_shell(error: Failure) -> Response<Bytes> {
    let (status, code, message) = match error {
        Failure::Method => (405, "MethodNotAllowed", "The method is not allowed."),
        Failure::Credential => (400, "BadRequest", "Required metadata header not specified."),
        Failure::NotAForm => (415, "UnsupportedMediaType", "The request is not a form."),
        Failure::ResourceMissing | Failure::UnknownResource => {
            (400, "AudienceNotSupported", "Audience is not a supported MSI token audience.")
        }
        Failure::Status(status) => (status, "InternalServerError", "The token could not be acquired."),
        _ => (400, "BadRequest", "An identity cannot be selected."),
    };
    response::json(response::status_code(status), &json!({"error": {"code": code, "message": message}}))
}

/// The lifetime of a token in seconds: 24 hours, as long as the platform caches it.
const LIFETIME: i64 = 24 * 60 * 60;

const AMBIGUOUS: &str = "Multiple user assigned identities exist, please specify the clientId / resourceId \
                         of the identity in the token request";
const UNKNOWN_RESOURCE: &str = "AADSTS50001: The application was not found in the tenant. This can happen if \
                                the application has not been installed by the administrator of the tenant or \
                                consented to by any user in the tenant.";
const BAD_VERSION: &str = "Bad request. api-version is invalid or was not specified in the request. For more \
                           information refer to aka.ms/azureimds";

/// Newest first (section "Supported API versions"), from the first with tokens (section "Endpoint
/// categories").
const API_VERSIONS: &str = "2025-04-07 2024-07-17 2024-03-15 2023-11-15 2023-07-01 2021-12-13 2021-11-15 \
    2021-11-01 2021-10-01 2021-08-01 2021-05-01 2021-03-01 2021-02-01 2021-01-01 2020-12-01 2020-10-01 \
    2020-09-01 2020-07-15 2020-06-01 2019-11-01 2019-08-15 2019-08-01 2019-06-04 2019-06-01 2019-04-30 \
    2019-03-11 2019-02-01 2018-10-01 2018-04-02 2018-02-01";
