//! Entra: its token endpoint, for an application with a secret, and what is public.
//!
//! Source: Microsoft Learn, "Microsoft identity platform and the OAuth 2.0 client credentials flow".

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use serde_json::json;

use super::{Issuer, expiry};
use crate::request::{Ask, find};
use crate::settings::{ExpiresIn, ExpiresOn};
use crate::signing::{self, Life, Published};
use crate::{facts, now, random, reply};

pub(super) fn answer(ask: &Ask, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    let settings = &issuer.settings;
    let audience = match check(ask, issuer) {
        Ok(granted) => granted,
        Err(failure) => return refuse(&failure),
    };
    let expires = now.saturating_add(settings.lifetime.unwrap_or(LIFETIME));
    let life = Life { issued: now, expires };
    let token = issuer.token(&audience, life, || {
        let mut claims = signing::claims(&audience, facts::OBJECT_ID, facts::APP_ID, &[], life);
        // It proved itself with a secret.
        claims["appidacr"] = "1".into();
        claims
    });
    let left = expires.saturating_sub(now);
    let mut body = json!({"token_type": "Bearer", "ext_expires_in": left, "access_token": token});
    expiry::write(&mut body, settings, (ExpiresOn::Absent, ExpiresIn::Number), expires, now);
    with_cache_control("no-store, no-cache", reply::json(StatusCode::OK, &body))
}

/// The OpenID configuration of a tenant, with the addresses that the client came by.
pub(crate) fn configuration(ask: &Ask) -> Response<Bytes> {
    if let Err(failure) = check_public(ask) {
        return refuse(&failure);
    }
    let base = format!("{}://{}/{}", ask.scheme, ask.authority, facts::TENANT);
    let body = json!({
        "token_endpoint": format!("{base}/oauth2/v2.0/token"),
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "authorization_endpoint": format!("{base}/oauth2/v2.0/authorize"),
        "device_authorization_endpoint": format!("{base}/oauth2/v2.0/devicecode"),
        "issuer": format!("{base}/v2.0"),
        "jwks_uri": format!("{base}/discovery/v2.0/keys"),
        "response_types_supported": ["code", "id_token", "code id_token", "id_token token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
    });
    reply::json(StatusCode::OK, &body)
}

pub(crate) fn signing_keys(ask: &Ask, published: Published) -> Response<Bytes> {
    if let Err(failure) = check_public(ask) {
        return refuse(&failure);
    }
    // Entra's own words; a new key is published long before it signs.
    with_cache_control("max-age=86400, private", reply::json(StatusCode::OK, &published.document()))
}

fn check_public(ask: &Ask) -> Result<(), Failure> {
    if ask.method == Method::GET { check_tenant(ask) } else { Err(only("GET")) }
}

fn check_tenant(ask: &Ask) -> Result<(), Failure> {
    let known = ask.segments().first().is_some_and(|name| name.eq_ignore_ascii_case(facts::TENANT));
    if known { Ok(()) } else { Err(no_tenant()) }
}

/// The failure of the token endpoint, or of the public documents, that has this status.
pub(crate) fn error(status: u16, public: bool) -> Response<Bytes> {
    refuse(&match (status, public) {
        (400, true) => no_tenant(),
        (405, true) => only("GET"),
        (400, false) => no_application(facts::APP_ID),
        (401, false) => wrong_secret(),
        _ => failure(status, "temporarily_unavailable", 90_033, "A transient error has occurred."),
    })
}

/// The audience that is asked for.
fn check(ask: &Ask, issuer: &Issuer<'_>) -> Result<String, Failure> {
    if ask.method != Method::POST {
        return Err(only("POST"));
    }
    check_tenant(ask)?;
    let form = ask.form().unwrap_or_default();
    let field = |name| {
        let text = format!("The request body must contain the following parameter: '{name}'.");
        find(&form, name).ok_or_else(|| failure(400, "invalid_request", 900_144, text))
    };
    if field("grant_type")? != "client_credentials" {
        let text = "The app requested an unsupported grant type.";
        return Err(failure(400, "unsupported_grant_type", 70_003, text));
    }
    let id = field("client_id")?;
    if !id.eq_ignore_ascii_case(facts::APP_ID) {
        return Err(no_application(id));
    }
    let secret = find(&form, "client_secret");
    if secret.ok_or_else(|| failure(401, "invalid_client", 7_000_216, MISSING_SECRET))?
        != issuer.keys().client
    {
        return Err(wrong_secret());
    }
    let audience = field("scope")?.strip_suffix("/.default");
    let audience = audience.ok_or_else(|| failure(400, "invalid_scope", 1_002_012, BAD_SCOPE))?;
    if !issuer.knows(audience) {
        let tenant = facts::TENANT;
        let text =
            format!("The resource principal named in the scope was not found in the tenant named {tenant}.");
        return Err(failure(400, "invalid_resource", 500_011, text));
    }
    Ok(audience.to_owned())
}

/// Why Entra gives nothing: status, error, code and text. The codes are those of "Microsoft Entra authentication and
/// authorization error codes".
struct Failure(u16, &'static str, u32, String);

fn failure(status: u16, error: &'static str, code: u32, text: impl Into<String>) -> Failure {
    Failure(status, error, code, text.into())
}

fn only(method: &str) -> Failure {
    failure(405, "invalid_request", 900_561, format!("The endpoint only accepts {method} requests."))
}

fn no_tenant() -> Failure {
    failure(400, "invalid_request", 90_002, "Tenant not found.")
}

fn no_application(id: &str) -> Failure {
    let tenant = facts::TENANT;
    let text = format!("Application with identifier '{id}' was not found in the directory '{tenant}'.");
    failure(400, "unauthorized_client", 700_016, text)
}

fn wrong_secret() -> Failure {
    failure(401, "invalid_client", 7_000_215, format!("{WRONG_SECRET} '{}'.", facts::APP_ID))
}

fn refuse(Failure(status, error, code, text): &Failure) -> Response<Bytes> {
    let (trace, correlation) = (random::guid(), random::guid());
    let timestamp = expiry::written("[year]-[month]-[day] [hour]:[minute]:[second]Z", now());
    let body = json!({
        "error": error,
        "error_description":
            format!("AADSTS{code}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"),
        "error_codes": [code],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={code}"),
    });
    with_cache_control("no-store, no-cache", reply::json(reply::status(*status), &body))
}

fn with_cache_control(value: &'static str, mut response: Response<Bytes>) -> Response<Bytes> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(value));
    response
}

const MISSING_SECRET: &str = "'client_assertion', 'client_secret' or 'request' is required for the \
                              'client_credentials' grant type.";
const WRONG_SECRET: &str = "Invalid client secret provided. Ensure the secret being sent in the request is the client \
                            secret value, not the client secret ID, for a secret added to app";
const BAD_SCOPE: &str = "The provided value for scope is not valid. Client credential flows must have a scope value \
                         with /.default suffixed to the resource identifier (application ID URI).";

/// Seconds: `"expires_in":3599`, as Entra answers an application without continuous access evaluation.
const LIFETIME: i64 = 3_599;
