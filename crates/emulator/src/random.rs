//! Random identifiers, credentials and tokens.

use ring::rand::{SecureRandom, SystemRandom};

/// Generates the version of a secret: 32 hexadecimal digits.
pub(crate) fn version() -> String {
    bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Generates a GUID: 8-4-4-4-12 hexadecimal digits.
pub(crate) fn guid() -> String {
    let digits = version();
    format!("{}-{}-{}-{}-{}", &digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..])
}

/// Generates text with the form of a signed JWT and without content.
pub(crate) fn opaque_token() -> String {
    format!("{TOKEN_HEADER}.eyJ{}.{}", text::<400>(), text::<342>())
}

/// `{"typ":"JWT","alg":"RS256"}` in base64url, the start of each of Entra's tokens.
pub(crate) const TOKEN_HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9";

/// Generates `N` characters that are valid in a header, an environment variable and a form.
pub(crate) fn text<const N: usize>() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    bytes::<N>().iter().map(|byte| char::from(ALPHABET[usize::from(byte & 63)])).collect()
}

fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}
