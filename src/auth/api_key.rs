//! The API keys of callers.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::http::headers::Headers;
use crate::model::Redacted;

/// The SHA-256 of an API key. Keys of any length compare in the same time, and the key itself is not stored.
#[derive(PartialEq, Eq)]
pub(super) struct KeyHash([u8; 32]);

impl KeyHash {
    pub(super) fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Parses 64 hexadecimal digits.
    pub(super) fn parse(hex: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let whole = hex.len() == hash.len().saturating_mul(2);
        (whole && base16ct::mixed::decode(hex, &mut hash).is_ok()).then_some(Self(hash))
    }

    /// Whether both are hashes of the same key, in constant time.
    pub(super) fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The API key of a request: the header, or else `code` in the query, as in Azure Functions. Two headers or
/// two `code`s count as none, as it is ambiguous which of them counts.
///
/// Source: Microsoft, "Work with access keys in Azure Functions".
pub(super) fn presented(headers: &Headers, query: Option<&str>) -> Option<Redacted> {
    let mut keys = headers.all(HEADER);
    let key = match (keys.next(), keys.next()) {
        (Some(key), None) => key?.to_owned(),
        (Some(_), Some(_)) => return None,
        (None, _) => {
            let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
            let mut codes = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("code"));
            match (codes.next(), codes.next()) {
                (Some((_, code)), None) => code.into_owned(),
                _ => return None,
            }
        }
    };
    Some(Redacted::new(key)).filter(|key| !key.expose().is_empty())
}

/// The header that carries an API key.
pub(super) const HEADER: &str = "x-functions-key";
