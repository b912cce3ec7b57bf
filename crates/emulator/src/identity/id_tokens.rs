//! Endpoints that issue client assertions outside Azure: GitHub Actions and Google Cloud's metadata server.
//!
//! Sources: GitHub Docs, "OpenID Connect reference"; Google Cloud, "Verifying the identity of instances",
//! section "Obtaining the instance identity token", and "View and query VM metadata". Texts of errors are our
//! own.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode};
use serde_json::json;

use super::{Issuer, credential};
use crate::journal::Credential;
use crate::request::Request;
use crate::settings::Source;
use crate::signing::Lifetime;
use crate::{assertions, facts, response};

/// Answers `GET …?api-version=2.0&audience=…` of a job with the permission `id-token: write`.
pub(super) fn github(request: &Request, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    if credential(request, Source::GithubActions, issuer, now) != Credential::Right {
        return github_error(401);
    }
    if request.method != Method::GET || request.parameter("api-version") != Some("2.0") {
        return github_error(400);
    }
    // "By default, this is the URL of the repository owner".
    let audience = request.parameter("audience").unwrap_or("https://github.com/example");
    let subject = (facts::GITHUB_ISSUER, facts::GITHUB_SUBJECT);
    let token = issue(subject, audience, issuer, now, GITHUB_LIFETIME);
    response::json(StatusCode::OK, &json!({"value": token}))
}

pub(super) fn github_error(status: u16) -> Response<Bytes> {
    let message = "The ID token request is not accepted.";
    response::json(response::status_code(status), &json!({"message": message}))
}

/// Answers `GET …/service-accounts/default/identity?audience=…`.
pub(super) fn google(request: &Request, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    if credential(request, Source::GoogleCloud, issuer, now) != Credential::Right {
        return google_text(403, "The header Metadata-Flavor: Google is missing.");
    }
    if request.method != Method::GET {
        return google_text(405, "The method is not allowed.");
    }
    let Some(audience) = request.parameter("audience") else {
        return google_text(400, "The parameter audience is missing.");
    };
    let subject = (facts::GOOGLE_ISSUER, facts::GOOGLE_SUBJECT);
    google_text(200, &issue(subject, audience, issuer, now, GOOGLE_LIFETIME))
}

pub(super) fn google_text(status: u16, text: &str) -> Response<Bytes> {
    let response = response::with_body(response::status_code(status), response::TEXT, text.to_owned());
    let flavor = (HeaderName::from_static("metadata-flavor"), HeaderValue::from_static("Google"));
    response::with_header(response, flavor.0, flavor.1)
}

fn issue(
    (iss, subject): (&str, &str),
    audience: &str,
    issuer: &Issuer<'_>,
    now: i64,
    seconds: i64,
) -> String {
    let lifetime = Lifetime { issued: now, expires: now.saturating_add(seconds) };
    issuer.issue_assertion(&assertions::claims(iss, subject, audience, lifetime))
}

/// Seconds. A job's token lives about five minutes (Azure/login issue 372), Google's an hour.
const GITHUB_LIFETIME: i64 = 5 * 60;
const GOOGLE_LIFETIME: i64 = 60 * 60;
