//! Signs tokens as OIDC issuers do: the service account tokens of Kubernetes, and ES256.
//!
//! Sources: Kubernetes documentation, "Managing Service Accounts", section "Bound service account tokens"
//! (the sample of a token); RFC 7518, sections 3.4 and 6.2.

use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use serde_json::{Value, json};

use crate::entra::SigningKey;

/// Returns the claims that the API server of a cluster signs for a pod, issued at `now` (Unix seconds) for an
/// hour. `subject` is `system:serviceaccount:<namespace>:<name>`.
pub fn service_account(issuer: &str, audience: &str, subject: &str, now: u64) -> Value {
    let mut parts = subject.split(':').skip(2);
    let (namespace, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    json!({
        "aud": [audience],
        "exp": now.saturating_add(3_607),
        "iat": now,
        "iss": issuer,
        "jti": "a1c3f7d2-5b8e-4f60-9a2d-7e4c1b0d9f38",
        "kubernetes.io": {
            "namespace": namespace,
            "pod": {"name": format!("{name}-7c9d"), "uid": "5e0a8c11-2d6f-4b7a-8f93-d1c2e3b4a596"},
            "serviceaccount": {"name": name, "uid": "0b7d9e24-6a1c-4f58-b3e7-92c4d5f6a8b1"},
        },
        "nbf": now,
        "sub": subject,
    })
}

/// Returns a public key of RS256 with the members that Kubernetes writes.
pub fn published(key: &SigningKey) -> Value {
    let entra = key.published("");
    json!({"use": "sig", "kty": "RSA", "kid": entra["kid"], "alg": "RS256", "n": entra["n"], "e": entra["e"]})
}

/// Returns the header of a token that Kubernetes signs with `key`: it has no `typ`.
pub fn header(key: &SigningKey) -> Value {
    json!({"alg": "RS256", "kid": key.id()})
}

/// A key of ES256. A process generates it once.
#[derive(Clone)]
pub struct EcKey(Arc<Pairs>);

/// The same key, for signatures of fixed length, as tokens have them, and for those in ASN.1.
struct Pairs {
    fixed: EcdsaKeyPair,
    asn1: EcdsaKeyPair,
}

impl EcKey {
    /// Returns the key of this process.
    pub fn first() -> Self {
        static FIRST: LazyLock<EcKey> = LazyLock::new(EcKey::generate);
        FIRST.clone()
    }

    /// Returns a key that no issuer publishes.
    pub fn stranger() -> Self {
        static STRANGER: LazyLock<EcKey> = LazyLock::new(EcKey::generate);
        STRANGER.clone()
    }

    fn generate() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            .expect("the system has random bytes");
        let pair = |algorithm| {
            EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).expect("the key is one of P-256")
        };
        let (fixed, asn1) = (pair(&ECDSA_P256_SHA256_FIXED_SIGNING), pair(&ECDSA_P256_SHA256_ASN1_SIGNING));
        Self(Arc::new(Pairs { fixed, asn1 }))
    }

    pub const fn id(&self) -> &'static str {
        "an-ec-key"
    }

    pub fn published(&self) -> Value {
        let point = self.0.fixed.public_key().as_ref();
        let (x, y) = point[1..].split_at(32);
        let encode = |bytes| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let (x, y): (String, String) = (encode(x), encode(y));
        json!({"kty": "EC", "crv": "P-256", "kid": self.id(), "x": x, "y": y})
    }

    pub fn header(&self) -> Value {
        json!({"alg": "ES256", "kid": self.id(), "typ": "JWT"})
    }

    /// Signs this header and these claims by ES256, whatever the header contains.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        sign(&self.0.fixed, header, claims)
    }

    /// The same with a signature in ASN.1, as TLS has it and as tokens must not.
    pub fn token_with_asn1(&self, header: &Value, claims: &Value) -> String {
        sign(&self.0.asn1, header, claims)
    }
}

fn sign(pair: &EcdsaKeyPair, header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).expect("the system has random bytes");
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}
