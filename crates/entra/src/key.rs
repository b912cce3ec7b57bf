//! The keys that sign tokens.

use std::fmt;
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

/// A key that tokens are signed with.
#[derive(Clone)]
pub struct SigningKey(Arc<Parts>);

struct Parts {
    private: PrivateKey,
    public: PublicKey,
    /// Entra's is the SHA-1 thumbprint of the certificate, so that `kid` and `x5t` are the same.
    id: String,
    /// A certificate for it, signed by itself, as DER.
    certificate: Vec<u8>,
}

impl SigningKey {
    /// The key of this number. The whole process has the same ones, as each takes a while to make; they are made when
    /// they are first needed.
    pub fn number(number: usize) -> Self {
        static MADE: Mutex<Vec<SigningKey>> = Mutex::new(Vec::new());
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        while made.len() <= number {
            made.push(Self::generate());
        }
        made[number].clone()
    }

    /// A key of somebody else, which has no number.
    pub fn stranger() -> Self {
        static STRANGER: LazyLock<SigningKey> = LazyLock::new(SigningKey::generate);
        STRANGER.clone()
    }

    fn generate() -> Self {
        let private = PrivateKey::new(&mut getrandom::SysRng, BITS).expect("the system has random bytes");
        let public = private.to_public_key();
        let certificate = certificate(&private, &public).expect("a certificate can be signed");
        let thumbprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &certificate);
        let id = BASE64_URL_SAFE_NO_PAD.encode(thumbprint);
        Self(Arc::new(Parts { private, public, id, certificate }))
    }

    /// Its id (`kid`).
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// The public key as PEM: `-----BEGIN PUBLIC KEY-----`, lines that end with a line feed.
    pub fn pem(&self) -> String {
        self.0.public.to_public_key_pem(LineEnding::LF).expect("a public key can be written")
    }

    /// The public key as DER, a `SubjectPublicKeyInfo`.
    pub fn der(&self) -> Vec<u8> {
        self.0.public.to_public_key_der().expect("a public key can be written").into_vec()
    }

    /// The public key's modulus, the most significant byte first.
    pub fn modulus(&self) -> Box<[u8]> {
        self.0.public.n_bytes()
    }

    /// What the directory of `tenant` publishes of it.
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

    /// The header that Entra gives a token that is signed with it.
    pub fn header(&self) -> Value {
        json!({"typ": "JWT", "alg": "RS256", "x5t": self.0.id, "kid": self.0.id})
    }

    /// A token of exactly this header and these claims, signed by RS256, whatever the header says.
    pub fn token(&self, header: &Value, claims: &Value) -> String {
        self.token_of(&header.to_string(), &claims.to_string())
    }

    /// The same of two texts, which need not be JSON, or may be JSON that has a member twice.
    pub fn token_of(&self, header: &str, claims: &str) -> String {
        let signed = signed(header, claims);
        let signature = sign(&self.0.private, signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token of this header and these claims, signed by HS256 with `secret`. With a public key for a secret it is the
    /// attack on whoever lets the token choose its algorithm.
    pub fn token_with_secret(header: &Value, claims: &Value, secret: &[u8]) -> String {
        let signed = signed(&header.to_string(), &claims.to_string());
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(tag))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
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

/// The size of a key, as Entra's are.
const BITS: usize = 2048;
