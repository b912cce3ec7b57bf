//! The tokens that callers of a gateway bring, and the keys that sign them.
//!
//! Sources: Microsoft Learn, "Signing key rollover in the Microsoft identity platform", "Access tokens in the Microsoft
//! identity platform" and "Access token claims reference".

use serde_json::Value;
use testkit::entra::{Application, SigningKey};

use crate::{Emulator, facts};

impl Emulator {
    /// The claims of the token with which the managed identity `oid` of the application `appid` calls `audience`, in which it
    /// has these roles, for a test to change and to [sign](Emulator::sign). It is of version 1, as an audience that asks for
    /// nothing else gets it, given out at `now`, in Unix seconds, and good for 24 hours.
    pub fn caller_claims(now: i64, audience: &str, oid: &str, appid: &str, roles: &[&str]) -> Value {
        application(audience, oid, appid, roles).claims(now.unsigned_abs())
    }

    /// The same of version 2, in which the audience is usually the id of an application.
    pub fn caller_claims_v2(now: i64, audience: &str, oid: &str, appid: &str, roles: &[&str]) -> Value {
        application(audience, oid, appid, roles).claims_v2(now.unsigned_abs())
    }

    /// A token of exactly this header and these claims, signed by RS256 with the current key, whatever the header says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.current_key().token(header, claims)
    }

    /// The same with a foreign key, which no document has.
    pub fn sign_as_stranger(&self, header: &Value, claims: &Value) -> String {
        SigningKey::stranger().token(header, claims)
    }

    /// The same by HS256 with `secret`. With the public key for a secret it is the attack on verifiers that let the token
    /// choose its algorithm.
    pub fn sign_with_secret(&self, header: &Value, claims: &Value, secret: &[u8]) -> String {
        SigningKey::token_with_secret(header, claims, secret)
    }

    /// The header that Entra gives a token that is signed with the current key.
    pub fn signing_header(&self) -> Value {
        self.current_key().header()
    }

    /// The current public key as PEM: `-----BEGIN PUBLIC KEY-----`, lines that end with a line feed.
    pub fn signing_key_pem(&self) -> String {
        self.current_key().pem()
    }

    pub fn signing_key_der(&self) -> Vec<u8> {
        self.current_key().der()
    }

    /// A new key signs from now on. It joins those that Entra publishes, and the oldest leaves them.
    pub fn rotate_signing_keys(&self) {
        self.lock().published.rotate();
    }

    fn current_key(&self) -> SigningKey {
        // Making a key takes its time, for which no other request waits.
        let published = self.lock().published;
        published.current()
    }
}

/// When a token is made and when it ends, in Unix seconds.
#[derive(Clone, Copy)]
pub(crate) struct Life {
    pub(crate) issued: i64,
    pub(crate) expires: i64,
}

/// The claims of version 1 for an application that proved itself with a certificate, as managed identities do.
pub(crate) fn claims(audience: &str, oid: &str, appid: &str, roles: &[&str], life: Life) -> Value {
    let mut claims = application(audience, oid, appid, roles).claims(life.issued.unsigned_abs());
    claims["exp"] = life.expires.into();
    claims
}

fn application<'a>(audience: &'a str, oid: &'a str, appid: &'a str, roles: &'a [&'a str]) -> Application<'a> {
    Application { tenant: facts::TENANT, audience, oid, appid, roles }
}

/// The keys that one emulator's Entra publishes: so many in a row of all those that the process makes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Published {
    rotations: usize,
}

impl Published {
    /// The one that signs: the newest. The older ones have signed what is still about.
    pub(crate) fn current(self) -> SigningKey {
        SigningKey::number(self.rotations + PUBLISHED - 1)
    }

    /// The document of the keys, oldest first: RFC 7517, with the members that Entra adds.
    pub(crate) fn document(self) -> Value {
        let keys = (self.rotations..).take(PUBLISHED).map(SigningKey::number);
        testkit::entra::document(facts::TENANT, keys)
    }

    fn rotate(&mut self) {
        self.rotations += 1;
    }
}

/// How many keys are published at a time. Entra has some more; each has to be made.
const PUBLISHED: usize = 3;
