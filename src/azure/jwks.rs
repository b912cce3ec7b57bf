//! The JWKS of an issuer of callers' tokens: its public signing keys.
//!
//! Sources: RFC 7517 (JSON Web Key); RFC 7518, sections 3.3, 3.4, 6.2.1 and 6.3.1; Microsoft, "Signing key
//! rollover in the Microsoft identity platform".

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use rsa::{BoxedUint, PublicKey};
use sha2::Sha256;

use super::{Answer, CallError};
use crate::error::{Error, Service};
use crate::json::{Json, Object};

/// The public signing keys of an issuer.
pub struct SigningKeys(Vec<SigningKey>);

struct SigningKey {
    id: String,
    key: Key,
}

/// A key with its one algorithm: a token cannot choose another one for it.
enum Key {
    Rsa(PublicKey),
    P256(VerifyingKey),
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA with P-256 and SHA-256.
    Es256,
}

impl SigningKeys {
    /// Parses the answer of the address of a JWKS.
    pub(crate) fn parse(answer: Result<Answer, CallError>, unix_time: u64) -> Result<Self, Error> {
        let answer = Answer::from_call(Service::Jwks, answer, unix_time)?;
        match answer.status() {
            200 => Self::of(&answer).ok_or(Error::JwksUnusable),
            _ => Err(Error::JwksUnusable),
        }
    }

    /// Parses a JWKS. Keys that cannot sign with a known [`Algorithm`] are skipped. A list without any other
    /// key is a JWKS, too: the issuer has withdrawn its keys.
    fn of(answer: &Answer) -> Option<Self> {
        let document = answer.json()?;
        let keys = document.get("keys").as_list()?.iter().take(MAX_KEYS);
        Some(Self(keys.filter_map(|key| SigningKey::parse(key.as_object()?)).collect()))
    }

    /// Whether there is a key with this id.
    pub fn contains(&self, key_id: &str) -> bool {
        self.0.iter().any(|known| known.id == key_id)
    }

    /// Whether the key `key_id` has made `signature` over `signed` with `algorithm`.
    pub fn verify(&self, key_id: &str, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let key = self.0.iter().find(|known| known.id == key_id);
        key.is_some_and(|key| key.verify(algorithm, signed, signature))
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

impl SigningKey {
    /// Parses a key that can sign with a known algorithm.
    fn parse(key: &Object) -> Option<Self> {
        let may_be = |name, texts: &[&str]| match key.get(name) {
            Json::Null => true,
            value => value.as_text().is_some_and(|text| texts.contains(&text)),
        };
        let id = key.get("kid").as_text().filter(|id| !id.is_empty())?.to_owned();
        let (algorithm, parsed) = match key.get("kty").as_text()? {
            "RSA" => ("RS256", Key::Rsa(rsa_key(key)?)),
            "EC" => ("ES256", Key::P256(p256_key(key)?)),
            _ => return None,
        };
        (may_be("use", &USES) && may_be("alg", &[algorithm])).then_some(Self { id, key: parsed })
    }

    fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match (&self.key, algorithm) {
            (Key::Rsa(key), Algorithm::Rs256) => key.pkcs1v15_verify::<Sha256>(signed, signature).is_ok(),
            (Key::P256(key), Algorithm::Es256) => {
                Signature::from_slice(signature).is_ok_and(|signature| key.verify(signed, &signature).is_ok())
            }
            (Key::Rsa(_), Algorithm::Es256) | (Key::P256(_), Algorithm::Rs256) => false,
        }
    }
}

fn rsa_key(key: &Object) -> Option<PublicKey> {
    let (modulus, exponent) = (bytes(key, "n")?, bytes(key, "e")?);
    if exponent != EXPONENT || modulus.len() > MAX_BITS.div_ceil(8) {
        return None;
    }
    let integer = BoxedUint::from_be_slice_vartime;
    let bits = MIN_BITS..=MAX_BITS;
    PublicKey::new_with_size_limits(integer(&modulus), integer(&exponent), bits).ok()
}

fn p256_key(key: &Object) -> Option<VerifyingKey> {
    if key.get("crv").as_text() != Some("P-256") {
        return None;
    }
    let point = [vec![UNCOMPRESSED], coordinate(key, "x")?, coordinate(key, "y")?].concat();
    VerifyingKey::from_sec1_bytes(&point).ok()
}

/// A coordinate of P-256 has exactly 32 bytes (RFC 7518, section 6.2.1.2).
fn coordinate(key: &Object, name: &str) -> Option<Vec<u8>> {
    bytes(key, name).filter(|bytes| bytes.len() == 32)
}

fn bytes(key: &Object, name: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(key.get(name).as_text()?).ok()
}

/// The values of `use` that a key may have. SPIFFE's bundles have one of their own (SPIFFE, "JWT-SVID", section
/// 6.1).
const USES: [&str; 2] = ["sig", "jwt-svid"];

/// The usual exponent, 65537. Entra ID's keys and those of Kubernetes have it, too.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// RFC 7518, section 3.3: at least 2048 bits for RS256. Entra ID's keys have 2048.
const MIN_BITS: usize = 2048;

/// A larger key would only cost time to verify with.
const MAX_BITS: usize = 4096;

/// The first byte of a point with both coordinates (SEC 1, section 2.3.3).
const UNCOMPRESSED: u8 = 4;

/// Entra ID publishes some five to ten keys at a time.
const MAX_KEYS: usize = 64;
