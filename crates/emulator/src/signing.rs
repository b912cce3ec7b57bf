//! Access tokens of a gateway's callers, and the keys that sign them.
//!
//! Sources: Microsoft Learn, "Signing key rollover in the Microsoft identity platform", "Access tokens in the
//! Microsoft identity platform" and "Access token claims reference".

use serde_json::Value;
use testkit::entra::{Application, SigningKey};

use crate::{Emulator, facts};

impl Emulator {
    /// Returns the claims of a version 1 token for a test to change and to [sign](Emulator::sign): issued at
    /// `now` (Unix seconds) for 24 hours to the managed identity `oid` of the application `appid`.
    pub fn caller_claims(now: i64, audience: &str, oid: &str, appid: &str, roles: &[&str]) -> Value {
        application(audience, oid, appid, roles).claims(now.unsigned_abs())
    }

    /// Returns the claims of a version 2 token, whose audience is usually an application id.
    pub fn caller_claims_v2(now: i64, audience: &str, oid: &str, appid: &str, roles: &[&str]) -> Value {
        application(audience, oid, appid, roles).claims_v2(now.unsigned_abs())
    }

    /// Signs this header and these claims with the current key by RS256, whatever the header contains.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.current_key().token(header, claims)
    }

    /// Signs a token with a key that no JWKS contains.
    pub fn sign_as_stranger(&self, header: &Value, claims: &Value) -> String {
        SigningKey::stranger().token(header, claims)
    }

    /// Signs a token by HS256. With the public key as the secret this is the algorithm confusion attack.
    pub fn sign_with_secret(&self, header: &Value, claims: &Value, secret: &[u8]) -> String {
        SigningKey::token_with_secret(header, claims, secret)
    }

    /// Returns the header of Entra's tokens for the current key.
    pub fn signing_header(&self) -> Value {
        self.current_key().header()
    }

    /// Returns the current public key as PEM, with LF line ends.
    pub fn signing_key_pem(&self) -> String {
        self.current_key().pem()
    }

    /// Rotates the signing keys: adds a new key to the JWKS, signs with it, and removes the oldest key.
    pub fn rotate_signing_keys(&self) {
        self.lock().published_keys.rotate();
    }

    fn current_key(&self) -> SigningKey {
        // The lock is released first, because generating a key takes long.
        let keys = self.lock().published_keys;
        keys.current()
    }
}

/// The start and the end of a token, in Unix seconds.
#[derive(Clone, Copy)]
pub(crate) struct Lifetime {
    pub(crate) issued: i64,
    pub(crate) expires: i64,
}

/// Returns version 2 claims of a managed identity.
pub(crate) fn claims_v2(audience: &str, oid: &str, appid: &str, lifetime: Lifetime) -> Value {
    let mut claims = application(audience, oid, appid, &[]).claims_v2(lifetime.issued.unsigned_abs());
    claims["exp"] = lifetime.expires.into();
    claims
}

/// Returns version 1 claims for a managed identity or another application with a certificate.
pub(crate) fn claims(audience: &str, oid: &str, appid: &str, roles: &[&str], lifetime: Lifetime) -> Value {
    let mut claims = application(audience, oid, appid, roles).claims(lifetime.issued.unsigned_abs());
    claims["exp"] = lifetime.expires.into();
    claims
}

fn application<'a>(audience: &'a str, oid: &'a str, appid: &'a str, roles: &'a [&'a str]) -> Application<'a> {
    Application { tenant: facts::TENANT, audience, oid, appid, roles }
}

/// The keys in one JWKS of an emulator: consecutive numbers of the keys of this process.
#[derive(Clone, Copy, Default)]
pub(crate) struct PublishedKeys {
    oldest: usize,
}

impl PublishedKeys {
    /// Returns a set of keys that contains none of another set, unless that is rotated very often.
    pub(crate) fn from_number(oldest: usize) -> Self {
        Self { oldest }
    }

    /// Adds a new key, and removes the oldest.
    pub(crate) fn rotate(&mut self) {
        self.oldest += 1;
    }

    pub(crate) fn keys(self) -> impl DoubleEndedIterator<Item = SigningKey> {
        (self.oldest..self.oldest + KEY_COUNT).map(SigningKey::number)
    }

    /// Returns the newest key, which signs. The older keys verify earlier tokens.
    pub(crate) fn current(self) -> SigningKey {
        SigningKey::number(self.oldest + KEY_COUNT - 1)
    }

    /// Returns the JWKS, oldest key first: RFC 7517, with the members that Entra adds.
    pub(crate) fn document(self) -> Value {
        testkit::entra::document(facts::TENANT, self.keys())
    }
}

/// The number of keys in the JWKS. Entra publishes more, but each takes time to generate.
const KEY_COUNT: usize = 3;
