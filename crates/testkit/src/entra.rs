//! Signs access tokens as Entra ID does, and publishes the JWKS.
//!
//! Sources: Microsoft Learn, "Signing key rollover in the Microsoft identity platform", "Access tokens in the
//! Microsoft identity platform" and "Access token claims reference"; RFC 7515 (JWS), 7517 (JWK) and 7518
//! (JWA). A process generates its private keys and keeps them in memory only.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DnType, KeyPair};
use ring::{digest, hmac};
use rsa::pkcs8::spki::der::pem::LineEnding;
use rsa::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{PrivateKey, PublicKey};
use serde_json::{Value, json};
use sha2::Sha256;

/// An application in a tenant, as in the claims of its tokens.
#[derive(Clone, Copy, Debug)]
pub struct Application<'a> {
    pub tenant: &'a str,
    pub audience: &'a str,
    pub oid: &'a str,
    pub appid: &'a str,
    pub roles: &'a [&'a str],
}

impl Application<'_> {
    /// Returns version 1 claims, issued at `now` (Unix seconds) to an application with a certificate, like a
    /// managed identity.
    pub fn claims(&self, now: u64) -> Value {
        let issuer = format!("https://sts.windows.net/{}/", self.tenant);
        let issued = now.saturating_sub(ALLOWANCE);
        let mut claims = json!({
            "aud": self.audience,
            "iss": issuer,
            "iat": issued,
            "nbf": issued,
            "exp": now.saturating_add(LIFETIME),
            "aio": "k2BgYPhZ4bVq4P7sYlmJ9RjWzG0LAA==",
            "appid": self.appid,
            "appidacr": "2",
            "idp": issuer,
            "idtyp": "app",
            "oid": self.oid,
            "rh": "1.AVwAXE8bbwsvbk-dDDpbjn0cQg.",
            "sub": self.oid,
            "tid": self.tenant,
            "uti": "Zr1aVbqk0k6l3y8nQ2wSAA",
            "ver": "1.0",
        });
        if !self.roles.is_empty() {
            claims["roles"] = self.roles.into();
        }
        claims
    }

    /// Returns version 2 claims, whose audience is usually an application id.
    pub fn claims_v2(&self, now: u64) -> Value {
        let mut claims = self.claims(now);
        claims["iss"] = format!("https://login.microsoftonline.com/{}/v2.0", self.tenant).into();
        claims["ver"] = "2.0".into();
        let members = claims.as_object_mut().expect("claims are an object");
        for (older, newer) in [("appid", "azp"), ("appidacr", "azpacr")] {
            let value = members.remove(older).unwrap_or_default();
            members.insert(newer.to_owned(), value);
        }
        // The tenant is its own identity provider, and `idtyp` is an optional claim.
        members.retain(|name, _| !["idp", "idtyp"].contains(&name.as_str()));
        claims
    }
}

/// The lifetime in seconds: 24 hours, as of a managed identity's tokens.
const LIFETIME: u64 = 24 * 60 * 60;

/// The seconds by which a token is valid before its issue, for clocks that are late: the samples of the
/// claims reference last 3,900 seconds, with an `expires_in` of 3,599.
const ALLOWANCE: u64 = 5 * 60;

/// Returns the JWKS of `tenant`: RFC 7517, with the members that Entra adds.
pub fn document(tenant: &str, keys: impl IntoIterator<Item = SigningKey>) -> Value {
    json!({"keys": keys.into_iter().map(|key| key.published(tenant)).collect::<Vec<_>>()})
}

#[derive(Clone)]
pub struct SigningKey(Arc<Parts>);

struct Parts {
    private: PrivateKey,
    public: PublicKey,
    /// The SHA-1 thumbprint of the certificate, as in Entra, so that `kid` and `x5t` are equal.
    id: String,
    /// The self-signed certificate as DER.
    certificate: Vec<u8>,
}

impl SigningKey {
    /// Returns the key with this number. A process generates each key once, at its first use.
    pub fn number(number: usize) -> Self {
        static MADE: Mutex<BTreeMap<usize, SigningKey>> = Mutex::new(BTreeMap::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(number).or_insert_with(Self::generate).clone()
    }

    /// Returns a key that no tenant publishes.
    pub fn stranger() -> Self {
        static STRANGER: LazyLock<SigningKey> = LazyLock::new(SigningKey::generate);
        STRANGER.clone()
    }

    fn generate() -> Self {
        let private = PrivateKey::new(&mut getrandom::SysRng, BITS).expect("the system has random bytes");
        let public = private.to_public_key();
        let pkcs8 = private.to_pkcs8_der().expect("a private key can be encoded");
        let pair = KeyPair::try_from(pkcs8.as_bytes()).expect("ring accepts a key of this size");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "Key Vault emulator (do not trust elsewhere)");
        let certificate = params.self_signed(&pair).expect("a certificate can be signed").der().to_vec();
        let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate);
        let id = BASE64_URL_SAFE_NO_PAD.encode(thumbprint);
        Self(Arc::new(Parts { private, public, id, certificate }))
    }

    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Returns the public key as PEM, with LF line ends.
    pub fn pem(&self) -> String {
        self.0.public.to_public_key_pem(LineEnding::LF).expect("a public key can be encoded")
    }

    pub fn der(&self) -> Vec<u8> {
        self.0.public.to_public_key_der().expect("a public key can be encoded").into_vec()
    }

    pub fn published(&self, tenant: &str) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.0.id,
            "x5t": self.0.id,
            "n": BASE64_URL_SAFE_NO_PAD.encode(self.0.public.n_bytes()),
            "e": BASE64_URL_SAFE_NO_PAD.encode(self.0.public.e_bytes()),
            "x5c": [BASE64_STANDARD.encode(&self.0.certificate)],
            "cloud_instance_name": "microsoftonline.com",
            "issuer": format!("https://login.microsoftonline.com/{tenant}/v2.0"),
        })
    }

    pub fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": "RS256", "x5t": self.0.id, "kid": self.0.id})
    }

    /// Whether the signature of this token is one of this key by RS256, whatever the header contains.
    pub fn verifies(&self, token: &str) -> bool {
        let Some((signed, signature)) = token.rsplit_once('.') else { return false };
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap_or_default();
        self.0.public.pkcs1v15_verify::<Sha256>(signed.as_bytes(), &signature).is_ok()
    }

    /// Signs this header and these claims by RS256, whatever the header contains.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    /// Signs a token of two texts, which need not be JSON, or can have duplicate members.
    pub fn token_of(&self, header: &str, claims: &str) -> String {
        let signed = signed(header, claims);
        let signature =
            self.0.private.pkcs1v15_sign::<Sha256>(signed.as_bytes()).expect("the key is large enough");
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// Signs a token by HS256. With a public key as the secret this is the algorithm confusion attack.
    pub fn token_with_secret(header: &Value, claims: &Value, secret: &[u8]) -> String {
        let signed = signed(&header.to_string(), &claims.to_string());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
    }
}

fn signed(header: &str, claims: &str) -> String {
    format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims))
}

const BITS: usize = 2048;
