//! Random names: versions, identifiers, credentials and tokens.

use ring::rand::{SecureRandom, SystemRandom};

/// A version of a secret: 32 hexadecimal digits.
pub(crate) fn version() -> String {
    bytes::<16>().iter().map(|it| format!("{it:02x}")).collect()
}

/// An identifier of a request or of a party: 8-4-4-4-12 hexadecimal digits.
pub(crate) fn guid() -> String {
    let digits = version();
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

/// A credential of 40 characters that can stand in a header, an environment variable and a form.
pub(crate) fn credential() -> String {
    letters::<40>()
}

/// Something that looks like a signed token and says nothing.
pub(crate) fn token() -> String {
    format!("{TOKEN_HEADER}.eyJ{}.{}", letters::<400>(), letters::<342>())
}

/// `{"typ":"JWT","alg":"RS256"}` in base64url, as the tokens of Entra begin.
pub(crate) const TOKEN_HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9";

pub(crate) fn letters<const N: usize>() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    bytes::<N>().iter().map(|it| char::from(ALPHABET[usize::from(it & 63)])).collect()
}

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}
