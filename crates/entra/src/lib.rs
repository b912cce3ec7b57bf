//! Signs tokens as Entra ID does, and publishes the keys for that, for the emulator and for tests.
//!
//! Sources: Microsoft, "Access token claims reference" and "Signing key rollover in the Microsoft identity platform"; RFC
//! 7515, 7517 and 7518. The private keys are made by each process for itself and are written nowhere.

use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rsa::PrivateKey;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A key that tokens are signed with.
#[derive(Clone, Copy)]
pub struct SigningKey {
    private: &'static PrivateKey,
}

impl SigningKey {
    /// One of [`KEYS`] keys, which are the same for as long as this process lives. Each is made when it is first needed.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers.
    pub fn number(number: usize) -> Self {
        Self { private: &POOL[number % KEYS] }
    }

    /// Its name: like Entra's, a digest of the key itself.
    pub fn id(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(&Sha256::digest(self.private.n_bytes())[..20])
    }

    /// The modulus of the public key: bytes, the most significant first.
    pub fn modulus(self) -> Box<[u8]> {
        self.private.n_bytes()
    }

    /// What the directory of `tenant` publishes of it.
    pub fn published(self, tenant: &str) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.id(),
            "x5t": self.id(),
            "n": BASE64_URL_SAFE_NO_PAD.encode(self.private.n_bytes()),
            "e": BASE64_URL_SAFE_NO_PAD.encode(self.private.e_bytes()),
            "cloud_instance_name": "microsoftonline.com",
            "issuer": format!("https://login.microsoftonline.com/{tenant}/v2.0"),
        })
    }

    /// The header that Entra gives to a token that is signed with this key.
    pub fn header(self) -> Value {
        json!({"typ": "JWT", "alg": "RS256", "x5t": self.id(), "kid": self.id()})
    }

    /// A token with this header and these claims, whatever they say, signed with RS256.
    pub fn token(self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    /// The same of texts, which need not even be JSON.
    ///
    /// # Panics
    ///
    /// If the system has no random numbers.
    pub fn token_of(self, header: &str, claims: &str) -> String {
        let signed =
            format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature = self.private.pkcs1v15_sign::<Sha256>(signed.as_bytes());
        let signature = signature.expect("a key of 2048 bits can sign a digest");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// The document of the keys of `tenant`.
pub fn document(tenant: &str, keys: impl IntoIterator<Item = SigningKey>) -> Value {
    json!({"keys": keys.into_iter().map(|it| it.published(tenant)).collect::<Vec<_>>()})
}

/// An application in a tenant, as tokens of it have it.
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    /// The tenant's id.
    pub tenant: &'a str,
    /// Whom its token is for.
    pub audience: &'a str,
    /// The object id of its identity.
    pub oid: &'a str,
    /// Its application id.
    pub appid: &'a str,
    /// Its roles in the application that the token is for.
    pub roles: &'a [&'a str],
}

impl Application<'_> {
    /// The claims of a token of the first version that it is given at `now`, in Unix seconds, for a day, as managed
    /// identities get it.
    pub fn claims(&self, now: u64) -> Value {
        let issuer = format!("https://sts.windows.net/{}/", self.tenant);
        let mut claims = json!({
            "aud": self.audience,
            "iss": issuer,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME,
            "aio": "k2BgYNizOS4u4F",
            "appid": self.appid,
            "appidacr": "2",
            "idp": issuer,
            "idtyp": "app",
            "oid": self.oid,
            "rh": "1.AAAA",
            "sub": self.oid,
            "tid": self.tenant,
            "uti": "uTi0uTi0uTi0",
            "ver": "1.0",
        });
        if !self.roles.is_empty() {
            claims["roles"] = self.roles.into();
        }
        claims
    }

    /// The same of the second version.
    pub fn claims_v2(&self, now: u64) -> Value {
        let mut claims = self.claims(now);
        claims["iss"] = format!("https://login.microsoftonline.com/{}/v2.0", self.tenant).into();
        claims["ver"] = "2.0".into();
        claims["azp"] = self.appid.into();
        claims["azpacr"] = "2".into();
        if let Some(claims) = claims.as_object_mut() {
            for name in ["appid", "appidacr", "idp"] {
                claims.remove(name);
            }
        }
        claims
    }
}

/// How many keys there are: enough for a tenant that changes its own twice, with one that will sign and one that did, and
/// for somebody else.
pub const KEYS: usize = 6;

/// A day and five minutes, in seconds, as managed identities have it (Microsoft, "Managed identities for Azure resources
/// frequently asked questions").
const LIFETIME: u64 = 86_700;

static POOL: [LazyLock<PrivateKey>; KEYS] = [const { LazyLock::new(generate) }; KEYS];

fn generate() -> PrivateKey {
    PrivateKey::new(&mut getrandom::SysRng, 2048).expect("the system has random numbers")
}

#[test]
fn a_token_has_three_parts_and_the_key_its_name() {
    let key = SigningKey::number(0);
    let token = key.token(&key.header(), &json!({"a": 1}));
    assert_eq!(token.split('.').count(), 3);
    assert_ne!(key.id(), SigningKey::number(1).id());
    assert_eq!(document("t", [key])["keys"][0]["kid"], key.id());
}
