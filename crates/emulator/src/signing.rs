//! The keys that sign tokens: those that Entra publishes, and one that nobody does.
//!
//! Sources: Microsoft Learn, "Signing key rollover in the Microsoft identity platform" and "Access tokens in the
//! Microsoft identity platform"; RFC 7515 (JWS), 7517 (JWK) and 7518 (JWA). Private keys are made by the process that
//! needs them, are written nowhere, and end with it.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DnType};
use ring::{digest, hmac};
use rsa::pkcs1::EncodeRsaPublicKey as _;
use rsa::pkcs8::EncodePublicKey as _;
use rsa::pkcs8::spki::der::pem::LineEnding;
use rsa::traits::PublicKeyParts as _;
use rsa::{PrivateKey, PublicKey};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::{Emulator, facts};

impl Emulator {
    /// A token of exactly this header and these claims, signed by RS256 with the current key, whatever the header
    /// says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_raw(&header.to_string(), &claims.to_string())
    }

    /// The same of two texts, which need not be JSON, or may be JSON that has a member twice.
    pub fn sign_raw(&self, header: &str, claims: &str) -> String {
        self.current_key().token(header, claims)
    }

    /// The same with a key of somebody else, which no document has, whatever the header says.
    pub fn sign_as_stranger(&self, header: &Value, claims: &Value) -> String {
        STRANGER.token(&header.to_string(), &claims.to_string())
    }

    /// The same by HS256 with `secret`. With the public key for a secret it is the attack on whoever lets the token
    /// choose its algorithm.
    pub fn sign_with_secret(&self, header: &Value, claims: &Value, secret: &[u8]) -> String {
        let signed = signed(&header.to_string(), &claims.to_string());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
    }

    /// The header that Entra gives a token that is signed with the current key.
    pub fn signing_header(&self) -> Value {
        self.current_key().header()
    }

    /// The id (`kid`) of the current key.
    pub fn signing_key_id(&self) -> String {
        self.current_key().id.clone()
    }

    /// The current public key as PEM: `-----BEGIN PUBLIC KEY-----`, lines that end with a line feed.
    pub fn signing_key_pem(&self) -> String {
        let pem = self.current_key().public.to_public_key_pem(LineEnding::LF);
        pem.expect("a public key can be written")
    }

    /// The current public key as DER, a `SubjectPublicKeyInfo`.
    pub fn signing_key_der(&self) -> Vec<u8> {
        let der = self.current_key().public.to_public_key_der();
        der.expect("a public key can be written").into_vec()
    }

    /// A new key signs from now on. It joins those that Entra publishes, and the oldest leaves them.
    pub fn rotate_signing_keys(&self) {
        self.lock().published.rotate();
    }

    fn current_key(&self) -> Arc<SigningKey> {
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
    pub(crate) fn current(self) -> Arc<SigningKey> {
        numbered(self.rotations + PUBLISHED - 1)
    }

    /// The document of the keys, oldest first: RFC 7517, with the members that Entra adds.
    pub(crate) fn document(self) -> Value {
        let keys = (self.rotations..).take(PUBLISHED).map(|it| numbered(it).published());
        json!({"keys": keys.collect::<Vec<_>>()})
    }

    fn rotate(&mut self) {
        self.rotations += 1;
    }
}

/// A key that tokens are signed with. It has no `Debug`: it is private.
pub(crate) struct SigningKey {
    private: PrivateKey,
    public: PublicKey,
    /// Entra's is the SHA-1 thumbprint of the certificate, so that `kid` and `x5t` are the same.
    id: String,
    /// A certificate for it, signed by itself, as DER.
    certificate: Vec<u8>,
}

impl SigningKey {
    fn generate() -> Self {
        let private = PrivateKey::new(&mut getrandom::SysRng, BITS).expect("the system has random bytes");
        let public = private.to_public_key();
        let certificate = certificate(&private, &public).expect("a certificate can be signed");
        let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate);
        let id = BASE64_URL_SAFE_NO_PAD.encode(thumbprint);
        Self { private, public, id, certificate }
    }

    pub(crate) fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": "RS256", "x5t": self.id, "kid": self.id})
    }

    /// A compact JWS of these two texts.
    pub(crate) fn token(&self, header: &str, claims: &str) -> String {
        let signed = signed(header, claims);
        let signature = sign(&self.private, signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    fn published(&self) -> Value {
        json!({
            "kty": "RSA",
            "use": "sig",
            "kid": self.id,
            "x5t": self.id,
            "n": BASE64_URL_SAFE_NO_PAD.encode(self.public.n_bytes()),
            "e": BASE64_URL_SAFE_NO_PAD.encode(self.public.e_bytes()),
            "x5c": [BASE64_STANDARD.encode(&self.certificate)],
            "cloud_instance_name": "microsoftonline.com",
            "issuer": format!("https://login.microsoftonline.com/{}/v2.0", facts::TENANT),
        })
    }
}

fn signed(header: &str, claims: &str) -> String {
    format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims))
}

fn sign(key: &PrivateKey, message: &[u8]) -> Vec<u8> {
    key.pkcs1v15_sign::<Sha256>(message).expect("a key of this size can sign a digest")
}

fn certificate(private: &PrivateKey, public: &PublicKey) -> Result<Vec<u8>, rcgen::Error> {
    let public = public.to_pkcs1_der().expect("a public key can be written").into_vec();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Key Vault emulator (do not trust elsewhere)");
    Ok(params.self_signed(&Subject { private, public })?.der().to_vec())
}

/// The holder of a certificate, who signs it too.
struct Subject<'a> {
    private: &'a PrivateKey,
    /// `RSAPublicKey` as DER.
    public: Vec<u8>,
}

impl rcgen::PublicKeyData for Subject<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_RSA_SHA256
    }
}

impl rcgen::SigningKey for Subject<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(sign(self.private, message))
    }
}

/// The key of this number. All emulators of the process have the same ones, as each takes a while to make.
fn numbered(number: usize) -> Arc<SigningKey> {
    static MADE: Mutex<Vec<Arc<SigningKey>>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    while made.len() <= number {
        made.push(Arc::new(SigningKey::generate()));
    }
    Arc::clone(&made[number])
}

static STRANGER: LazyLock<SigningKey> = LazyLock::new(SigningKey::generate);

/// How many keys are published at a time. Entra has some more; each has to be made.
const PUBLISHED: usize = 3;

/// The size of a key, as Entra's are.
const BITS: usize = 2048;
