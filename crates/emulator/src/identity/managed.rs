//! Tokens of managed identities, from App Service, IMDS and Cloud Shell: what each endpoint takes, which identity is
//! selected, what the platform keeps, and the words of a refusal.
//!
//! Sources: Microsoft Learn, "How to use managed identities for App Service and Azure Functions", section "REST endpoint
//! reference"; "How to use managed identities on an Azure virtual machine to acquire an access token", sections "Get a
//! token using HTTP" and "Error handling"; "Azure Instance Metadata Service for virtual machines"; "Acquire a user token
//! in Azure Cloud Shell". What they leave open is marked.

use std::collections::HashSet;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{Issuer, credential, expiry};
use crate::journal::Credential;
use crate::request::{Ask, find};
use crate::settings::{ExpiresIn, ExpiresOn, Settings, Source, UserAssigned};
use crate::signing::{self, Life};
use crate::tokens::{Kept, Purpose};
use crate::{facts, random, reply};

pub(super) fn answer(ask: &Ask, source: Source, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    let (identity, purpose) = match read(ask, source, issuer) {
        Ok(asked) => asked,
        Err(failure) => return refuse(source, failure),
    };
    let resource = purpose.resource.clone();
    let Kept { token, life, .. } = kept(issuer, purpose, &identity, now);
    let mut body = json!({"access_token": token, "resource": resource, "token_type": "Bearer"});
    let usual = match source {
        Source::AppService2019 => {
            body["client_id"] = identity.client_id.into();
            (ExpiresOn::Text, ExpiresIn::Absent)
        }
        // As on Windows.
        Source::AppService2017 => (ExpiresOn::Windows2017, ExpiresIn::Absent),
        Source::Imds | Source::CloudShell | Source::ClientSecret => {
            body["refresh_token"] = "".into();
            body["not_before"] = life.issued.to_string().into();
            (ExpiresOn::Text, ExpiresIn::Text)
        }
    };
    expiry::write(&mut body, &issuer.settings, usual, life.expires, now);
    reply::json(StatusCode::OK, &body)
}

fn read(ask: &Ask, source: Source, issuer: &Issuer<'_>) -> Result<(UserAssigned, Purpose), Failure> {
    let fields = check(ask, source, issuer)?;
    let resource = find(&fields, "resource").ok_or(Failure::ResourceMissing)?.to_owned();
    let identity = select(source, &issuer.settings, &fields)?;
    if !issuer.knows(&resource) {
        return Err(Failure::UnknownResource);
    }
    Ok((identity.clone(), Purpose { client_id: identity.client_id, resource }))
}

/// The fields of a request that has the form that this source wants.
fn check(ask: &Ask, source: Source, issuer: &Issuer<'_>) -> Result<Vec<(String, String)>, Failure> {
    let method = if source == Source::CloudShell { Method::POST } else { Method::GET };
    if ask.method != method {
        return Err(Failure::Method);
    }
    // IMDS takes only the lower-case `true`, which a server-side request forgery cannot easily be made to send.
    if credential(ask, source, issuer.keys()) != Credential::Right {
        return Err(Failure::Credential);
    }
    let version = ask.parameter("api-version").unwrap_or_default();
    match source {
        Source::CloudShell => return ask.form().ok_or(Failure::NotAForm),
        // "Use 2019-08-01 or later"; which versions there are is not documented.
        Source::AppService2019 if !is_date(version) || version < "2019-08-01" => {
            return Err(Failure::Version);
        }
        // The answer to this header is not documented.
        Source::Imds if ask.headers.contains_key("x-forwarded-for") => return Err(Failure::Forwarded),
        Source::Imds if !API_VERSIONS.split(' ').any(|known| known == version) => {
            return Err(Failure::Version);
        }
        // "Requests with duplicate query parameter names will be rejected"; with which words is not documented.
        Source::Imds
            if ask.query.iter().map(|pair| &pair.0).collect::<HashSet<_>>().len() < ask.query.len() =>
        {
            return Err(Failure::Duplicate);
        }
        // The version 2017-09-01 is how requests of 2017 are told apart.
        Source::AppService2019 | Source::AppService2017 | Source::Imds | Source::ClientSecret => {}
    }
    Ok(ask.query.clone())
}

/// Whether `text` has the form of a date, as an api-version begins.
fn is_date(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    date.split('-').map(str::len).eq([4, 2, 2]) && date.bytes().all(|it| it == b'-' || it.is_ascii_digit())
}

/// The identity that `fields` select. Two selectors, or one of another source, select an identity that does not exist:
/// silently taking the system-assigned one instead would hide the mistake.
fn select(source: Source, settings: &Settings, fields: &[(String, String)]) -> Result<UserAssigned, Failure> {
    const ANYWHERE: &[&str] =
        &["client_id", "clientid", "principal_id", "object_id", "mi_res_id", "msi_res_id"];
    let mut selectors = fields.iter().filter(|(name, _)| ANYWHERE.contains(&name.as_str()));
    let assigned = settings.user_assigned.as_slice();
    match (selectors.next(), selectors.next()) {
        (Some((name, value)), None) => {
            let is_meant = |identity: &&UserAssigned| {
                selected_by(source, name, identity).is_some_and(|known| known.eq_ignore_ascii_case(value))
            };
            assigned.iter().find(is_meant).cloned().ok_or(Failure::IdentityMissing)
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

/// What the selector `name` of this source is compared with. Version 2017 "only accepted the `clientid` property".
fn selected_by<'a>(source: Source, name: &str, identity: &'a UserAssigned) -> Option<&'a str> {
    use Source::{AppService2017, AppService2019, Imds};
    match (source, name) {
        (AppService2019 | Imds, "client_id") | (AppService2017, "clientid") => Some(&identity.client_id),
        (AppService2019 | Imds, "object_id") | (AppService2019, "principal_id") => Some(&identity.object_id),
        (AppService2019, "mi_res_id") | (Imds, "msi_res_id") => Some(&identity.resource_id),
        _ => None,
    }
}

/// The token that the platform has for `purpose`, or a new one, which it keeps from now on: "The back-end services for
/// managed identities maintain a cache per resource URI for around 24 hours … it is not possible to force a managed
/// identity's token to be refreshed before its expiry" (Microsoft Learn, "Managed identities for App Service").
fn kept(issuer: &Issuer<'_>, purpose: Purpose, identity: &UserAssigned, now: i64) -> Kept {
    let kept = issuer.emulator.lock().tokens.kept(&purpose, now);
    if let Some(kept) = kept {
        return kept;
    }
    let expires = now.saturating_add(issuer.settings.lifetime.unwrap_or(LIFETIME));
    let life = Life { issued: now, expires };
    let token = issuer.token(&purpose.resource, life, || {
        signing::claims(&purpose.resource, &identity.object_id, &identity.client_id, &[], life)
    });
    issuer.emulator.lock().tokens.keep(purpose, Kept { token, life }, now)
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
    /// A fault that only names a status.
    Status(u16),
}

pub(super) fn refuse(source: Source, failure: Failure) -> Response<Bytes> {
    match source {
        Source::AppService2019 => app_service(failure, false),
        Source::AppService2017 => app_service(failure, true),
        Source::Imds => imds(failure),
        Source::CloudShell | Source::ClientSecret => cloud_shell(failure),
    }
}

/// The texts for a missing identity and for an unknown resource are those of the service (MSAL for .NET,
/// `ManagedIdentityTests`; Azure/azure-sdk-for-net issue 44685, its "occured" too; for 2017 MicrosoftDocs/azure-docs
/// issue 43543; "App Service, wrong resource: vague", MSAL for Python, `managed_identity.py`). A wrong credential is told
/// in plain text in 2017 (Azure/azure-sdk-for-net issue 46932); for 2019 that is not documented: here it is an empty 401.
fn app_service(failure: Failure, of_2017: bool) -> Response<Bytes> {
    let unexpected = "An unexpected error occured while fetching the AAD Token.";
    let (status, message) = match failure {
        Failure::Credential if of_2017 => {
            return reply::whole(StatusCode::UNAUTHORIZED, reply::TEXT, "Invalid secret token header: .");
        }
        Failure::Credential => return reply::empty(StatusCode::UNAUTHORIZED),
        Failure::Method => (405, "The method is not allowed."),
        Failure::Version => (400, "The api-version is missing or not supported."),
        Failure::ResourceMissing => (400, "The resource is missing."),
        Failure::UnknownResource => (500, unexpected),
        Failure::Status(status) if status != 400 => (status, unexpected),
        _ if of_2017 => (400, "No MSI found for specified ClientId/ResourceId."),
        _ => (400, super::wording::NO_IDENTITY),
    };
    let id = random::guid();
    // The names of 2017 begin with capitals.
    let body = if of_2017 {
        json!({"StatusCode": status, "Message": message, "CorrelationId": id})
    } else {
        json!({"statusCode": status, "message": message, "correlationId": id})
    };
    let mut response = reply::json(reply::status(status), &body);
    let id = id.parse().expect("hexadecimal digits can stand in a header");
    response.headers_mut().insert("x-correlation-id", id);
    response
}

/// The table of errors gives the names; "Identity not found" is from Azure/azure-sdk-for-net issue 37278, the missing
/// resource from Azure/aad-pod-identity pull request 450, the bad version from section "Versioning".
fn imds(failure: Failure) -> Response<Bytes> {
    let (status, error, description) = match failure {
        Failure::Version => {
            let newest: Vec<&str> = API_VERSIONS.split(' ').take(3).collect();
            return served(400, &json!({"error": BAD_VERSION, "newest-versions": newest}));
        }
        Failure::Method => (405, "invalid_request", "The method is not allowed"),
        Failure::Credential => (400, "bad_request_102", "Required metadata header not specified"),
        Failure::Forwarded => (400, "invalid_request", "The request came through a proxy"),
        Failure::Duplicate => (400, "invalid_request", "A query variable is there more than once"),
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
    served(status, &json!({"error": error, "error_description": description}))
}

fn served(status: u16, body: &Value) -> Response<Bytes> {
    let mut response = reply::json(reply::status(status), body);
    response.headers_mut().insert("server", HeaderValue::from_static("IMDS/150.870.65.1015"));
    response
}

/// Only the error for an unknown audience is documented.
fn cloud_shell(failure: Failure) -> Response<Bytes> {
    let (status, code, message) = match failure {
        Failure::Method => (405, "MethodNotAllowed", "The method is not allowed."),
        Failure::Credential => (400, "BadRequest", "Required metadata header not specified."),
        Failure::NotAForm => (415, "UnsupportedMediaType", "The request is not a form."),
        Failure::ResourceMissing | Failure::UnknownResource => {
            (400, "AudienceNotSupported", "Audience is not a supported MSI token audience.")
        }
        Failure::Status(status) => (status, "InternalServerError", "The token could not be acquired."),
        _ => (400, "BadRequest", "An identity cannot be selected."),
    };
    reply::json(reply::status(status), &json!({"error": {"code": code, "message": message}}))
}

/// Seconds: 24 hours, for as long as the platform keeps a token.
const LIFETIME: i64 = 24 * 60 * 60;

const AMBIGUOUS: &str = "Multiple user assigned identities exist, please specify the clientId / resourceId of \
                         the identity in the token request";
const UNKNOWN_RESOURCE: &str = "AADSTS50001: The application was not found in the tenant. This can happen if \
                                the application has not been installed by the administrator of the tenant or \
                                consented to by any user in the tenant.";
const BAD_VERSION: &str = "Bad request. api-version is invalid or was not specified in the request. For more \
                           information refer to aka.ms/azureimds";

/// The newest first (section "Supported API versions"). The older ones have no tokens (section "Endpoint categories").
const API_VERSIONS: &str = "2025-04-07 2024-07-17 2024-03-15 2023-11-15 2023-07-01 2021-12-13 2021-11-15 \
    2021-11-01 2021-10-01 2021-08-01 2021-05-01 2021-03-01 2021-02-01 2021-01-01 2020-12-01 2020-10-01 \
    2020-09-01 2020-07-15 2020-06-01 2019-11-01 2019-08-15 2019-08-01 2019-06-04 2019-06-01 2019-04-30 \
    2019-03-11 2019-02-01 2018-10-01 2018-04-02 2018-02-01";
