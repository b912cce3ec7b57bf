//! The key of a caller.

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::http::headers::Headers;
use crate::model::Redacted;

/// The SHA-256 of a key. Keys of any length compare in the same time, and the key itself is not kept.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of `key`.
    pub(super) fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// Accepts 64 hexadecimal digits.
    pub(super) fn parse(hex: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let whole = hex.len() == hash.len().saturating_mul(2);
        (whole && base16ct::mixed::decode(hex, &mut hash).is_ok()).then_some(Self(hash))
    }

    /// Whether both are of the same key, in a time that does not tell.
    pub(super) fn is(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The key of a request: the header field, or else `code` in the query, as Azure Functions have it. Two of a kind are as
/// good as none, since nobody could say which one counts.
///
/// Source: Microsoft, "Work with access keys in Azure Functions".
pub(super) fn presented(fields: &Headers, query: Option<&str>) -> Option<Redacted> {
    let mut keys = fields.all(FIELD);
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
    Some(Redacted::new(key)).filter(|it| !it.expose().is_empty())
}

/// The header field that a key comes in.
pub(super) const FIELD: &str = "x-functions-key";
