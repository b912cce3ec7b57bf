//! JSON Web Tokens of callers: signed with RS256 or ES256, and nothing else.
//!
//! Sources: RFC 7515 (JSON Web Signature), RFC 7519 (JSON Web Token), RFC 8725 (best current practices);
//! Microsoft, "Access token claims reference"; SPIFFE, "JWT-SVID".
//!
//! The issuer in a token selects the keys that verify it. Every other claim counts only after the signature
//! has been verified. A token does not choose how it is verified: each key has one algorithm, and its issuer
//! publishes it.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::azure::jwks::{Algorithm, SigningKeys};
use crate::error::AuthFailure;
use crate::json::{Json, Object};

/// A token with an acceptable header. Nothing in it is verified yet.
pub struct Jwt<'a> {
    text: &'a str,
    /// The header and the claims, as they were signed.
    signed: &'a str,
    claims: Members,
    algorithm: Algorithm,
    is_jose: bool,
    key_id: String,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Parses a token with three parts and with a header that asks for nothing but RS256 or ES256.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > MAX_TOKEN {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.').filter(|(_, claims)| !claims.contains('.'))?;
        let header = Members::parse(header)?;
        // No issuer's token brings a key along or asks for other processing.
        if FORBIDDEN.iter().any(|name| header.has(name)) {
            return None;
        }
        let algorithm = match header.text("alg")? {
            "RS256" => Algorithm::Rs256,
            "ES256" => Algorithm::Es256,
            _ => return None,
        };
        let is_jose = is_text(&header, "typ", "JOSE");
        if header.has("typ") && !is_jose && !is_text(&header, "typ", "JWT") {
            return None;
        }
        let key_id = header.text("kid").filter(|key_id| !key_id.is_empty())?.to_owned();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self { text, signed, claims: Members::parse(claims)?, algorithm, is_jose, key_id, signature })
    }

    /// The issuer that the token claims to be of.
    pub fn issuer(&self) -> Option<&str> {
        self.claims.text("iss")
    }

    /// The id of the key that the token claims to be signed with.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    pub(super) const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether the type is JOSE, as SPIFFE allows it (SPIFFE, "JWT-SVID", section 2.3).
    pub(super) const fn is_jose(&self) -> bool {
        self.is_jose
    }

    /// The SHA-256 of the whole token.
    pub fn digest(&self) -> [u8; 32] {
        digest(self.text)
    }

    /// The claims, if one of `keys` has made the signature.
    pub(super) fn verify(&self, keys: &SigningKeys) -> Result<&Members, AuthFailure> {
        let verified = keys.verify(&self.key_id, self.algorithm, self.signed.as_bytes(), &self.signature);
        if verified { Ok(&self.claims) } else { Err(AuthFailure::Signature) }
    }
}

/// The SHA-256 of a token, or of a text that is none.
pub fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

fn is_text(members: &Members, name: &str, text: &str) -> bool {
    members.text(name).is_some_and(|known| known.eq_ignore_ascii_case(text))
}

/// The members of a JSON object. Two members of one name make the whole object invalid, even if the gateway
/// does not use them, as another parser may take the other one.
pub(super) struct Members(Object);

impl Members {
    /// Parses a part of a token.
    fn parse(part: &str) -> Option<Self> {
        let json = Json::parse(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?)?;
        let mut names = BTreeSet::new();
        let are_unique = json.as_object()?.members().all(|(name, _)| names.insert(name));
        if let (true, Json::Object(members)) = (are_unique, json) { Some(Self(members)) } else { None }
    }

    /// Whether there is a member of this name, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.has(name)
    }

    /// The text of this name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).as_text()
    }

    /// The whole number of this name.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).as_number()
    }

    /// The list of texts of this name, empty if there is no such member. `None` if it is something else.
    pub(super) fn texts(&self, name: &str) -> Option<Vec<String>> {
        if self.has(name) { self.0.get(name).texts() } else { Some(Vec::new()) }
    }

    /// Whether the text of this name, or the only text of a list, is `text` (RFC 7519, section 4.1.3). A
    /// token with several audiences could be sent here by each of the others.
    pub(super) fn is_only(&self, name: &str, text: &str) -> bool {
        match self.0.get(name) {
            Json::List(list) => matches!(list.as_slice(), [only] if only.as_text() == Some(text)),
            value => value.as_text() == Some(text),
        }
    }
}

/// Members of a header that bring a key or the address of one, or that change how the token is processed (RFC
/// 7515, section 4.1; RFC 7516; RFC 7797). Entra ID and Kubernetes use none of them.
const FORBIDDEN: [&str; 8] = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip"];

/// The largest token, in bytes. Tokens of applications have some two thousand. Entra ID puts at most 200
/// groups into one (Microsoft, "Access token claims reference", "Groups overage claim"), which makes some ten
/// thousand in all.
const MAX_TOKEN: usize = 16 * 1024;
