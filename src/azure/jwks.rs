//! The JWKS endpoint of a tenant: where it publishes its signing keys, and what the answers mean.
//!
//! Sources: Microsoft, "Access tokens in the Microsoft identity platform", section "Validate tokens";
//! "Signing key rollover in the Microsoft identity platform"; RFC 7517 (JSON Web Key); RFC 7518, section
//! 6.3.1.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rsa::{BoxedUint, PublicKey};
use sha2::Sha256;

use super::vault::Vault;
use super::{Answer, Call, CallError, Endpoint};
use crate::env::Lookup;
use crate::error::{Error, Service, SettingError};
use crate::json::{Json, Object};

/// The JWKS endpoint of one tenant. No secret is sent there.
pub struct JwksEndpoint {
    keys: Endpoint,
    issuer_v1: &'static str,
    issuer_v2: &'static str,
}

/// The public signing keys of a tenant, by key id.
pub struct SigningKeys(Vec<(String, PublicKey)>);

impl JwksEndpoint {
    pub const fn endpoint(&self) -> &Endpoint {
        &self.keys
    }

    /// The endpoint of `tenant`, in the cloud of `vault`.
    pub(crate) fn parse(settings: Lookup<'_>, vault: &Vault, tenant: &str) -> Result<Self, SettingError> {
        let cloud = vault.cloud();
        Ok(Self {
            keys: cloud.authority(settings)?.at(format!("/{tenant}/discovery/v2.0/keys")),
            issuer_v1: cloud.issuer_v1,
            issuer_v2: cloud.issuer_v2,
        })
    }

    /// The issuers of the tenant's tokens, in version 1 and in version 2 of tokens.
    pub(crate) fn issuers(&self, tenant: &str) -> [String; 2] {
        [format!("{}/{tenant}/", self.issuer_v1), format!("{}/{tenant}/v2.0", self.issuer_v2)]
    }

    /// The request for the JWKS.
    pub(crate) fn call(&self) -> Call {
        Call::get(Service::Jwks, self.keys.clone())
    }

    /// Parses the answer of the endpoint.
    pub(crate) fn parse_keys(
        answer: Result<Answer, CallError>,
        unix_time: u64,
    ) -> Result<SigningKeys, Error> {
        let answer = Answer::from_call(Service::Jwks, answer, unix_time)?;
        match answer.status() {
            200 => SigningKeys::parse(&answer).ok_or(Error::JwksUnusable),
            _ => Err(Error::JwksUnusable),
        }
    }
}

impl fmt::Debug for JwksEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwksEndpoint(..)")
    }
}

impl SigningKeys {
    /// Parses a JWKS with at least one key that can sign with RS256. Other keys are skipped.
    fn parse(answer: &Answer) -> Option<Self> {
        let document = answer.json()?;
        let keys = document.get("keys").as_list()?.iter().take(MAX_KEYS);
        let keys: Vec<_> = keys.filter_map(|key| parse_key(key.as_object()?)).collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Whether there is a key with this id.
    pub fn contains(&self, key_id: &str) -> bool {
        self.0.iter().any(|(known, _)| known == key_id)
    }

    /// Whether the key `key_id` has made `signature` over `signed` (RSASSA-PKCS1-v1_5 with SHA-256).
    pub fn verify(&self, key_id: &str, signed: &[u8], signature: &[u8]) -> bool {
        let key = self.0.iter().find(|(known, _)| known == key_id);
        key.is_some_and(|(_, key)| key.pkcs1v15_verify::<Sha256>(signed, signature).is_ok())
    }
}

/// Parses a key that can sign with RS256, with its id.
fn parse_key(key: &Object) -> Option<(String, PublicKey)> {
    let has = |name, text| key.get(name).as_text() == Some(text);
    let may_have = |name, text| matches!(key.get(name), Json::Null) || has(name, text);
    if !has("kty", "RSA") || !may_have("use", "sig") || !may_have("alg", "RS256") {
        return None;
    }
    let key_id = key.get("kid").as_text().filter(|key_id| !key_id.is_empty())?.to_owned();
    let number = |name| BASE64_URL_SAFE_NO_PAD.decode(key.get(name).as_text()?).ok();
    let (modulus, exponent) = (number("n")?, number("e")?);
    if exponent != EXPONENT || modulus.len() > MAX_BITS.div_ceil(8) {
        return None;
    }
    let integer = BoxedUint::from_be_slice_vartime;
    let bits = MIN_BITS..=MAX_BITS;
    let key = PublicKey::new_with_size_limits(integer(&modulus), integer(&exponent), bits);
    Some((key_id, key.ok()?))
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

/// The usual exponent, 65537. Entra ID's keys have it, too.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// RFC 7518, section 3.3: at least 2048 bits for RS256. Entra ID's keys have 2048.
const MIN_BITS: usize = 2048;

/// A larger key would only cost time to verify with.
const MAX_BITS: usize = 4096;

/// Entra ID publishes some five to ten keys at a time.
const MAX_KEYS: usize = 64;
