//! The keys that sign tokens: those that Entra publishes, and one that nobody does.
//!
//! Sources: Microsoft Learn, "Signing key rollover in the Microsoft identity platform" and "Access tokens in the
//! Microsoft identity platform".

use serde_json::Value;
use testkit::entra::SigningKey;

use crate::{Emulator, facts};

impl Emulator {
    /// A token of exactly this header and these claims, signed by RS256 with the current key, whatever the header
    /// says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_raw(&header.to_string(), &claims.to_string())
    }

    /// The same of two texts, which need not be JSON, or may be JSON that has a member twice.
    pub fn sign_raw(&self, header: &str, claims: &str) -> String {
        self.current_key().token_of(header, claims)
    }

    /// The same with a key of somebody else, which no document has, whatever the header says.
    pub fn sign_as_stranger(&self, header: &Value, claims: &Value) -> String {
        SigningKey::stranger().token(header, claims)
    }

    /// The same by HS256 with `secret`. With the public key for a secret it is the attack on whoever lets the token
    /// choose its algorithm.
    pub fn sign_with_secret(&self, header: &Value, claims: &Value, secret: &[u8]) -> String {
        SigningKey::token_with_secret(header, claims, secret)
    }

    /// The header that Entra gives a token that is signed with the current key.
    pub fn signing_header(&self) -> Value {
        self.current_key().header()
    }

    /// The id (`kid`) of the current key.
    pub fn signing_key_id(&self) -> String {
        self.current_key().id().to_owned()
    }

    /// The current public key as PEM: `-----BEGIN PUBLIC KEY-----`, lines that end with a line feed.
    pub fn signing_key_pem(&self) -> String {
        self.current_key().pem()
    }

    /// The current public key as DER, a `SubjectPublicKeyInfo`.
    pub fn signing_key_der(&self) -> Vec<u8> {
        self.current_key().der()
    }

    /// A new key signs from now on. It joins those that Entra publishes, and the oldest leaves them.
    pub fn rotate_signing_keys(&self) {
        self.lock().published.rotate();
    }

    fn current_key(&self) -> SigningKey {
        // Making a key takes its time, for which nobody else has to wait.
        let published = self.lock().published;
        published.current()
    }
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
