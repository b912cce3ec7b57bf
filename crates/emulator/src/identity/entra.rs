//! Entra: the token endpoint for an application with a client secret or a client assertion, and the public
//! documents.
//!
//! Source: Microsoft Learn, "Microsoft identity platform and the OAuth 2.0 client credentials flow".

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{Issuer, assertion, expiry};
use crate::request::{Kind, Request, find};
use crate::settings::{ExpiresIn, ExpiresOn, Source};
use crate::signing::{self, Lifetime, PublishedKeys};
use crate::{facts, now, random, response};

pub(super) fn answer(request: &Request, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    let settings = &issuer.settings;
    let (client_id, audience) = match check_request(request, issuer, now) {
        Ok(accepted) => accepted,
        Err(error) => return error_response(&error),
    };
    let expires = now.saturating_add(settings.lifetime.unwrap_or(LIFETIME));
    let lifetime = Lifetime { issued: now, expires };
    let token = issuer.issue(&audience, lifetime, || {
        let mut claims = signing::claims(&audience, facts::OBJECT_ID, &client_id, &[], lifetime);
        if request.kind == Kind::Token(Source::ClientSecret) {
            // The application authenticated with a client secret.
            claims["appidacr"] = "1".into();
        }
        claims
    });
    let left = expires.saturating_sub(now);
    let mut body = json!({"token_type": "Bearer", "ext_expires_in": left, "access_token": token});
    expiry::write(&mut body, settings, (ExpiresOn::Absent, ExpiresIn::Number), expires, now);
    with_cache_control("no-store, no-cache", response::json(StatusCode::OK, &body))
}

/// Returns the OpenID configuration of a tenant, with addresses at the host of the request.
pub(crate) fn configuration(request: &Request) -> Response<Bytes> {
    if let Err(error) = check_public(request) {
        return error_response(&error);
    }
    let base = format!("{}://{}/{}", request.scheme, request.authority, facts::TENANT);
    let body = json!({
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "issuer": format!("{base}/v2.0"),
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    response::json(StatusCode::OK, &body)
}

pub(crate) fn jwks(request: &Request, keys: PublishedKeys) -> Response<Bytes> {
    if let Err(error) = check_public(request) {
        return error_response(&error);
    }
    // Entra's value: it publishes a new key long before that key signs.
    with_cache_control("max-age=86400, private", response::json(StatusCode::OK, &keys.document()))
}

fn check_public(request: &Request) -> Result<(), EntraError> {
    if request.method == Method::GET { check_tenant(request) } else { Err(wrong_method("GET")) }
}

fn check_tenant(request: &Request) -> Result<(), EntraError> {
    let is_known = request.segments().first().is_some_and(|name| name.eq_ignore_ascii_case(facts::TENANT));
    if is_known { Ok(()) } else { Err(tenant_not_found()) }
}

/// Builds the error with this status of the token endpoint, or of the public documents.
pub(crate) fn error_with_status(status: u16, public: bool) -> Response<Bytes> {
    error_response(&match (status, public) {
        (400, true) => tenant_not_found(),
        (405, true) => wrong_method("GET"),
        (400, false) => application_not_found(facts::APP_ID),
        (401, false) => invalid_secret(),
        _ => entra_error(status, "temporarily_unavailable", 90_033, "A transient error has occurred."),
    })
}

/// Checks a token request, and returns the application's id and the audience.
fn check_request(request: &Request, issuer: &Issuer<'_>, now: i64) -> Result<(String, String), EntraError> {
    if request.method != Method::POST {
        return Err(wrong_method("POST"));
    }
    check_tenant(request)?;
    let form = request.form().unwrap_or_default();
    let field = |name| {
        let text = format!("The request body must contain the following parameter: '{name}'.");
        find(&form, name).ok_or_else(|| entra_error(400, "invalid_request", 900_144, text))
    };
    if field("grant_type")? != "client_credentials" {
        let text = "The app requested an unsupported grant type.";
        return Err(entra_error(400, "unsupported_grant_type", 70_003, text));
    }
    let id = field("client_id")?;
    let mut applications = issuer.settings.federated_credentials.iter().map(|known| &*known.client_id);
    let is_federated = applications.any(|known| known.eq_ignore_ascii_case(id));
    if !is_federated && !id.eq_ignore_ascii_case(facts::APP_ID) {
        return Err(application_not_found(id));
    }
    let secret = find(&form, "client_secret");
    if let Some(text) = find(&form, "client_assertion") {
        if field("client_assertion_type")? != assertion::TYPE {
            // Entra's text (AzureAD/azure-activedirectory-library-for-ruby pull request 53).
            let text = "Unexpected client assertion type.";
            return Err(entra_error(400, "invalid_request", 90_011, text));
        }
        assertion::check(text, id, issuer, now)?;
    } else if secret.ok_or_else(|| entra_error(401, "invalid_client", 7_000_216, MISSING_SECRET))?
        != issuer.emulator.credentials.client_secret
    {
        return Err(invalid_secret());
    }
    let audience = field("scope")?.strip_suffix("/.default");
    let audience = audience.ok_or_else(|| entra_error(400, "invalid_scope", 1_002_012, BAD_SCOPE))?;
    if !issuer.knows(audience) {
        let tenant = facts::TENANT;
        let text =
            format!("The resource principal named in the scope was not found in the tenant named {tenant}.");
        return Err(entra_error(400, "invalid_resource", 500_011, text));
    }
    Ok((id.to_ascii_lowercase(), audience.to_owned()))
}

/// Status, error, code and text, from "Microsoft Entra authentication and authorization error codes".
pub(super) struct EntraError(u16, &'static str, u32, String);

pub(super) fn entra_error(
    status: u16,
    error: &'static str,
    code: u32,
    text: impl Into<String>,
) -> EntraError {
    EntraError(status, error, code, text.into())
}

fn wrong_method(method: &str) -> EntraError {
    entra_error(405, "invalid_request", 900_561, format!("The endpoint only accepts {method} requests."))
}

fn tenant_not_found() -> EntraError {
    entra_error(400, "invalid_request", 90_002, "Tenant not found.")
}

fn application_not_found(id: &str) -> EntraError {
    let tenant = facts::TENANT;
    let text = format!("Application with identifier '{id}' was not found in the directory '{tenant}'.");
    entra_error(400, "unauthorized_client", 700_016, text)
}

fn invalid_secret() -> EntraError {
    entra_error(401, "invalid_client", 7_000_215, format!("{WRONG_SECRET} '{}'.", facts::APP_ID))
}

pub(super) fn error_response(EntraError(status, error, code, text): &EntraError) -> Response<Bytes> {
    let response = response::json(response::status_code(*status), &error_body(error, *code, text));
    with_cache_control("no-store, no-cache", response)
}

/// Builds the body of an error with the members of Entra's errors.
pub(super) fn error_body(error: &str, code: u32, text: &str) -> Value {
    let (trace, correlation) = (random::guid(), random::guid());
    let timestamp = expiry::format_time("[year]-[month]-[day] [hour]:[minute]:[second]Z", now());
    let ids = format!("Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}");
    json!({
        "error": error,
        "error_description": format!("AADSTS{code}: {text} {ids}"),
        "error_codes": [code],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    })
}

fn with_cache_control(value: &'static str, response: Response<Bytes>) -> Response<Bytes> {
    response::with_header(response, header::CACHE_CONTROL, HeaderValue::from_static(value))
}

const MISSING_SECRET: &str = "'client_assertion', 'client_secret' or 'request' is required for the \
                              'client_credentials' grant type.";
const WRONG_SECRET: &str = "Invalid client secret provided. Ensure the secret being sent in the request is \
                            the client secret value, not the client secret ID, for a secret added to app";
const BAD_SCOPE: &str = "The provided value for scope is not valid. Client credential flows must have a \
                         scope value with /.default suffixed to the resource identifier (application ID \
                         URI).";

/// Seconds, for applications without continuous access evaluation: Entra sends `"expires_in":3599`.
const LIFETIME: i64 = 3_599;
