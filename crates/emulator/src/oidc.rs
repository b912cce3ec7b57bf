//! OIDC issuers of callers' tokens: one at `/oidc/{name}` for each name that is used, with keys of its own.
//!
//! Sources: OpenID Connect Discovery 1.0, sections 3 and 4; Kubernetes documentation, "Configure Service
//! Accounts for Pods", section "Service account issuer discovery".

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use testkit::oidc::{self, EcKey};

use crate::request::Request;
use crate::signing::PublishedKeys;
use crate::{Emulator, now, response};

/// The keys of each issuer that was used, by its name.
#[derive(Default)]
pub(crate) struct OidcIssuers(BTreeMap<String, PublishedKeys>);

impl OidcIssuers {
    /// Returns the keys of the issuer `name`, which has none of another issuer.
    fn keys(&mut self, name: &str) -> &mut PublishedKeys {
        let first = FIRST_KEY * (self.0.len() + 1);
        self.0.entry(name.to_owned()).or_insert_with(|| PublishedKeys::from_number(first))
    }
}

/// A token that the control route issues.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TokenRequest {
    issuer: String,
    audience: String,
    subject: String,
}

impl TokenRequest {
    pub(crate) fn issue(&self, emulator: &Emulator) -> String {
        emulator.platform_token(&self.issuer, &self.audience, &self.subject)
    }
}

impl Emulator {
    /// Signs a token of `issuer`, such as `http://127.0.0.1:8080/oidc/cluster`, as the API server of a
    /// cluster signs it for a pod: by RS256, valid for an hour from now.
    pub fn platform_token(&self, issuer: &str, audience: &str, subject: &str) -> String {
        let claims = Self::platform_claims(issuer, audience, subject);
        self.sign_for_issuer(issuer, &claims)
    }

    /// Returns the claims of such a token for a test to change.
    pub fn platform_claims(issuer: &str, audience: &str, subject: &str) -> Value {
        oidc::service_account(issuer, audience, subject, now().unsigned_abs())
    }

    /// Signs these claims by RS256 with the current key of `issuer`, whatever they contain.
    pub fn sign_for_issuer(&self, issuer: &str, claims: &Value) -> String {
        // The lock is released first, because generating a key takes long.
        let keys = *self.lock().oidc_issuers.keys(name_of(issuer));
        let key = keys.current();
        key.token(&oidc::header(&key), claims)
    }

    /// Signs these claims by ES256. All issuers publish that key.
    pub fn sign_with_es256(&self, claims: &Value) -> String {
        let key = EcKey::first();
        key.token(&key.header(), claims)
    }

    /// Rotates the keys of `issuer`: adds a new key to its JWKS, signs with it, and removes the oldest of
    /// three.
    pub fn rotate_issuer_keys(&self, issuer: &str) {
        self.lock().oidc_issuers.keys(name_of(issuer)).rotate();
    }
}

/// Returns the configuration or the JWKS of an issuer, with addresses at the host of the request.
pub(crate) fn document(emulator: &Emulator, request: &Request) -> Response<Bytes> {
    if request.method != Method::GET {
        return response::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let segments = request.segments();
    let name = segments.get(1).copied().unwrap_or_default();
    let body = if segments.last() == Some(&"keys") {
        let keys = *emulator.lock().oidc_issuers.keys(name);
        let keys = keys.keys().map(|key| oidc::published(&key)).chain([EcKey::first().published()]);
        json!({"keys": keys.collect::<Vec<_>>()})
    } else {
        let issuer = format!("{}://{}/oidc/{name}", request.scheme, request.authority);
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/keys"),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256", "ES256"],
        })
    };
    response::json(StatusCode::OK, &body)
}

/// Returns the name of an issuer: the last segment of its address.
fn name_of(issuer: &str) -> &str {
    issuer.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
}

/// The number of the first key of the first issuer. The keys of client assertions have lower numbers.
const FIRST_KEY: usize = 10_000;
