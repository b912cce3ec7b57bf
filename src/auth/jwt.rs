//! A JSON Web Token as Entra ID makes them for applications: signed with RS256, and nothing else.
//!
//! Sources: RFC 7515 (JSON Web Signature), RFC 7519 (JSON Web Token), RFC 8725 (best current practices); Microsoft, "Access
//! token claims reference". What a token says of itself counts for nothing until its signature has been verified, and it
//! never chooses how that is done: there is one algorithm, and the key is one that the tenant publishes.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use sha2::{Digest, Sha256};

use crate::azure::jwks::SigningKeys;

/// A token whose header is one that we take. Nothing in it is believed yet.
pub struct Jwt<'a> {
    text: &'a str,
    /// The header and the claims as they were signed.
    signed: &'a str,
    claims: &'a str,
    key_id: String,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Accepts `text` if it has the form of a token and a header that asks for nothing but RS256.
    pub fn parse(text: &'a str) -> Option<Self> {
        if text.len() > LONGEST_TOKEN {
            return None;
        }
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.').filter(|it| !it.1.contains('.'))?;
        let header = Members::read(header)?;
        // Who brings a key along, or wants to be read in another way, is not what Entra ID makes.
        if FOREIGN.iter().any(|it| header.0.contains_key(*it)) || header.text("alg")? != "RS256" {
            return None;
        }
        match header.0.get("typ") {
            None => {}
            Some(Member::Text(kind)) if kind.eq_ignore_ascii_case("JWT") => {}
            Some(_) => return None,
        }
        let key_id = header.text("kid").filter(|it| !it.is_empty())?.to_owned();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self { text, signed, claims, key_id, signature })
    }

    /// What the key is called that it claims to be signed with.
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// What tells this token from any other.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.text).into()
    }

    /// The claims, if the signature is one of `keys`.
    pub(super) fn verify(&self, keys: &SigningKeys) -> Option<Members> {
        let verified = keys.have_signed(&self.key_id, self.signed.as_bytes(), &self.signature);
        verified.then(|| Members::read(self.claims)).flatten()
    }
}

/// The members of a JSON object, as far as they can be of use. A name that comes twice makes the whole object
/// unreadable, since nobody could say which one counts.
pub(super) struct Members(BTreeMap<String, Member>);

enum Member {
    Text(String),
    Number(u64),
    Texts(Vec<String>),
    Other,
}

impl Members {
    fn read(part: &str) -> Option<Self> {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    }

    /// Whether there is a member of this name at all.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The text of this name.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name)? {
            Member::Text(text) => Some(text),
            Member::Number(_) | Member::Texts(_) | Member::Other => None,
        }
    }

    /// The whole number of this name.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        match self.0.get(name)? {
            Member::Number(number) => Some(*number),
            Member::Text(_) | Member::Texts(_) | Member::Other => None,
        }
    }

    /// The list of texts of this name; an empty one, if there is none. `None` if it is something else.
    pub(super) fn texts(&self, name: &str) -> Option<&[String]> {
        match self.0.get(name) {
            None => Some(&[]),
            Some(Member::Texts(texts)) => Some(texts),
            Some(Member::Text(_) | Member::Number(_) | Member::Other) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name comes twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        from.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Member {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Anything;

        impl<'de> Visitor<'de> for Anything {
            type Value = Member;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Member, E> {
                Ok(Member::Text(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Member, E> {
                Ok(Member::Number(number))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_unit<E>(self) -> Result<Member, E> {
                Ok(Member::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Member, A::Error> {
                let mut texts = Some(Vec::new());
                while let Some(member) = list.next_element()? {
                    texts = match (texts, member) {
                        (Some(mut texts), Member::Text(text)) => {
                            texts.push(text);
                            Some(texts)
                        }
                        _ => None,
                    };
                }
                Ok(texts.map_or(Member::Other, Member::Texts))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Member, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Member::Other)
            }
        }

        from.deserialize_any(Anything)
    }
}

/// Members of a header that bring a key or the address of one, or that change how the token is read (RFC 7515, section
/// 4.1; RFC 7516; RFC 7797). Entra ID uses none of them.
const FOREIGN: [&str; 8] = ["jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip"];

/// In bytes. Tokens of applications have some two thousand; Entra ID puts at most 200 groups into one (Microsoft, "Access
/// token claims reference", "Groups overage claim"), which makes some ten thousand in all.
const LONGEST_TOKEN: usize = 16 * 1024;
