//! Client assertions: signed tokens of the emulated issuers, and the public documents of an issuer.
//!
//! Sources: Kubernetes documentation, "Configure Service Accounts for Pods", section "Service account issuer
//! discovery"; OpenID Connect Discovery 1.0.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::identity::Issuer;
use crate::request::Request;
use crate::signing::{Lifetime, PublishedKeys};
use crate::{Emulator, facts, now, response};

impl Emulator {
    /// Signs a client assertion of `issuer` by RS256. All issuers share one set of keys, other than that of
    /// callers' tokens. Times are Unix seconds.
    pub fn assertion(
        &self,
        issuer: &str,
        subject: &str,
        audience: &str,
        issued: i64,
        expires: i64,
    ) -> String {
        let lifetime = Lifetime { issued, expires };
        Issuer::new(self).issue_assertion(&claims(issuer, subject, audience, lifetime))
    }

    /// Signs the token that the kubelet writes into the gateway's pod, valid for an hour from now.
    pub fn cluster_assertion(&self) -> String {
        let issued = now();
        let (issuer, subject) = (facts::CLUSTER_ISSUER, facts::CLUSTER_SUBJECT);
        self.assertion(issuer, subject, facts::EXCHANGE_AUDIENCE, issued, issued.saturating_add(3_600))
    }

    /// Rotates the keys of client assertions: adds a new key to the issuers' JWKS, signs with it, and removes
    /// the oldest of three keys. Entra refuses an assertion whose key was removed (AADSTS7000272).
    pub fn rotate_assertion_keys(&self) {
        self.lock().assertion_keys.rotate();
    }
}

pub(crate) fn claims(issuer: &str, subject: &str, audience: &str, lifetime: Lifetime) -> Value {
    // Kubernetes writes a list, the other issuers a text ("Managing Service Accounts", sample of a token).
    let is_service_account = subject.starts_with("system:serviceaccount:");
    let audience = if is_service_account { json!([audience]) } else { json!(audience) };
    let Lifetime { issued, expires } = lifetime;
    json!({"iss": issuer, "sub": subject, "aud": audience, "iat": issued, "nbf": issued, "exp": expires})
}

/// Returns a public document of the cluster's issuer, with addresses at the host of the request.
pub(crate) fn document(request: &Request, keys: PublishedKeys) -> Response<Bytes> {
    if request.method != Method::GET {
        return response::empty(StatusCode::METHOD_NOT_ALLOWED);
    }
    let body = match request.segments().as_slice() {
        ["oidc", "keys"] => json!({"keys": keys.keys().map(|key| jwk(&key)).collect::<Vec<_>>()}),
        _ => json!({
            "issuer": facts::CLUSTER_ISSUER,
            "jwks_uri": format!("{}://{}/oidc/keys", request.scheme, request.authority),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }),
    };
    response::json(StatusCode::OK, &body)
}

/// Returns a public key with the members that Kubernetes writes.
fn jwk(key: &testkit::entra::SigningKey) -> Value {
    let entra = key.published(facts::TENANT);
    json!({"use": "sig", "kty": "RSA", "kid": entra["kid"], "alg": "RS256", "n": entra["n"], "e": entra["e"]})
}
