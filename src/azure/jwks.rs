//! The directory of a tenant: where it publishes the keys that its tokens are signed with, and what it answers.
//!
//! Sources: Microsoft, "Access tokens in the Microsoft identity platform", section "Validate tokens"; "Signing key rollover
//! in the Microsoft identity platform"; RFC 7517 (JSON Web Key); RFC 7518, section 6.3.1.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rsa::{BoxedUint, PublicKey};
use serde::Deserialize;
use sha2::Sha256;

use super::vault::Vault;
use super::{Answer, Call, Endpoint};
use crate::azure::CallError;
use crate::env::Lookup;
use crate::error::{Error, FailureKind, Service, SettingError};
use crate::json::Object;

/// The directory of one tenant. Nothing that is secret goes there.
pub struct JwksEndpoint {
    keys: Endpoint,
    issuer_v1: &'static str,
    issuer_v2: &'static str,
}

/// The keys that a tenant's tokens are signed with, by name.
pub struct SigningKeys(Vec<(String, PublicKey)>);

impl JwksEndpoint {
    /// The directory of the tenant with this id, in the cloud of `vault`.
    pub(crate) fn parse(settings: Lookup<'_>, vault: &Vault, tenant: &str) -> Result<Self, SettingError> {
        let cloud = vault.cloud();
        Ok(Self {
            keys: cloud.authority(settings)?.at(format!("/{tenant}/discovery/v2.0/keys")),
            issuer_v1: cloud.issuer_v1,
            issuer_v2: cloud.issuer_v2,
        })
    }

    /// Who its tokens say that they come from, in the first and in the second version of tokens.
    pub(crate) fn issuers(&self, tenant: &str) -> [String; 2] {
        [format!("{}/{tenant}/", self.issuer_v1), format!("{}/{tenant}/v2.0", self.issuer_v2)]
    }

    /// Asks for the keys.
    pub(crate) fn call(&self) -> Call {
        Call::get(Service::Jwks, self.keys.clone())
    }

    /// What the directory's answer means.
    pub(crate) fn parse_keys(
        answer: Result<Answer, CallError>,
        unix_time: u64,
    ) -> Result<SigningKeys, Error> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(CallError::TimedOut) => return Err(Error::DeadlineExceeded),
            Err(CallError::Lost) => {
                return Err(Error::upstream(Service::Jwks, FailureKind::Unreachable, None));
            }
            Err(CallError::NotAllowed) => return Err(Error::CallNotAllowed),
            Err(CallError::TooLarge) => return Err(Error::JwksUnusable),
        };
        match answer.status() {
            200 => SigningKeys::parse(&answer).ok_or(Error::JwksUnusable),
            429 => Err(Error::upstream(Service::Jwks, FailureKind::Throttled, answer.retry_after(unix_time))),
            408 | 500..=599 => {
                Err(Error::upstream(Service::Jwks, FailureKind::Failing, answer.retry_after(unix_time)))
            }
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
    /// Reads a document with at least one key that can sign with RS256. Keys of other kinds are passed over.
    fn parse(answer: &Answer) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Object<Key>>,
        }
        #[derive(Deserialize)]
        struct Key {
            kty: Option<String>,
            #[serde(rename = "use")]
            purpose: Option<String>,
            alg: Option<String>,
            kid: Option<String>,
            n: Option<String>,
            e: Option<String>,
        }
        impl Key {
            fn parse(self) -> Option<(String, PublicKey)> {
                let fits = self.kty.is_some_and(|it| it == "RSA")
                    && self.purpose.is_none_or(|it| it == "sig")
                    && self.alg.is_none_or(|it| it == "RS256");
                let name = self.kid.filter(|it| fits && !it.is_empty())?;
                let number = |text: Option<String>| BASE64_URL_SAFE_NO_PAD.decode(text?).ok();
                let (modulus, exponent) = (number(self.n)?, number(self.e)?);
                if exponent != EXPONENT || modulus.len() > MOST_BITS.div_ceil(8) {
                    return None;
                }
                let integer = BoxedUint::from_be_slice_vartime;
                let bits = LEAST_BITS..=MOST_BITS;
                let key = PublicKey::new_with_size_limits(integer(&modulus), integer(&exponent), bits);
                Some((name, key.ok()?))
            }
        }
        let document: Document = answer.json()?;
        let keys = document.keys.into_iter().take(MOST_KEYS).filter_map(|Object(key)| key.parse());
        let keys: Vec<_> = keys.collect();
        (!keys.is_empty()).then_some(Self(keys))
    }

    /// Whether there is a key of this name.
    pub fn have(&self, name: &str) -> bool {
        self.0.iter().any(|it| it.0 == name)
    }

    /// Whether `signature` is the one of the key `name` on `signed` (RSASSA-PKCS1-v1_5 with SHA-256).
    pub fn have_signed(&self, name: &str, signed: &[u8], signature: &[u8]) -> bool {
        let key = self.0.iter().find(|it| it.0 == name);
        key.is_some_and(|it| it.1.pkcs1v15_verify::<Sha256>(signed, signature).is_ok())
    }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKeys({})", self.0.len())
    }
}

/// What everybody's keys have, 65537; Entra's, too.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// RFC 7518, section 3.3: at least 2048 bits for RS256. Entra's keys have 2048.
const LEAST_BITS: usize = 2048;

/// A larger one would only cost time to verify with.
const MOST_BITS: usize = 4096;

/// Entra publishes some five to ten at a time.
const MOST_KEYS: usize = 64;
