//! What a secret is called, and text that must not show.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// The name of a secret, as Key Vault allows it: 1 to 127 letters, digits and hyphens.
///
/// Source: Microsoft, "About keys, secrets, and certificates", section "Object identifiers". The type has one
/// door, so a name that exists can stand in a URL, in a log line and in a message as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretName(String);

impl SecretName {
    /// Accepts `text` if it is a name.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=LONGEST_NAME).contains(&text.len());
        let allowed = text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
        (fits && allowed).then(|| Self(text.to_owned()))
    }

    /// The name, in the case in which it was asked for.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Key Vault takes both for the same secret: its names do not depend on case.
    pub fn is_same_as(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The version of a secret: 32 hexadecimal digits, which Key Vault makes up.
///
/// Source: Microsoft, "About keys, secrets, and certificates", section "Object identifiers".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretVersion(String);

impl SecretVersion {
    /// Accepts `text` if it is a version. Key Vault writes versions in lower case, so this does too.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == VERSION_DIGITS && text.bytes().all(|it| it.is_ascii_hexdigit());
        valid.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The version, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text or bytes that must not show: a secret's value, a token, a key.
///
/// It has no `Display` and no `Serialize`, its `Debug` is blind, and its memory is overwritten when it is
/// dropped. The value is seen only at an [`expose`](Self::expose), where it leaves for its one destination.
pub struct Redacted<T: Zeroize = String>(Zeroizing<T>);

impl<T: Zeroize> Redacted<T> {
    /// Hides `value`.
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, for good. Nobody overwrites it any more, unless whoever takes it does.
    pub fn release(mut self) -> T
    where
        T: Default,
    {
        core::mem::take(&mut *self.0)
    }
}

impl<T: Zeroize> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redacted(..)")
    }
}

impl<'de> Deserialize<'de> for Redacted<String> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

/// Key Vault's limit for the name of an object, in characters.
const LONGEST_NAME: usize = 127;

const VERSION_DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    #[test]
    fn names() {
        let longest = "a".repeat(127);
        let too_long = "a".repeat(128);
        for (text, valid) in [
            ("db-password", true),
            ("Integration-Team-Blog", true),
            ("-", true),
            ("0", true),
            (&longest, true),
            (&too_long, false),
            ("", false),
            (" a", false),
            ("a_b", false),
            ("a.b", false),
            ("../keys", false),
            ("a/versions", false),
            ("a%2Fb", false),
            ("a?b", false),
            ("a\r\nb", false),
            ("a\0", false),
            ("ä", false),
            ("а", false),
        ] {
            assert_eq!(SecretName::parse(text).is_some(), valid, "{text:?}");
        }
    }

    #[test]
    fn names_are_the_same_in_any_case() {
        let name = SecretName::parse("Db-Password").unwrap();
        assert!(name.is_same_as("dB-pASSWORD"));
        assert!(!name.is_same_as("Db-Passwords"));
    }

    #[test]
    fn versions() {
        for (text, version) in [
            ("3d76eb676e0a40429c7aa2b4b7912a5d", Some("3d76eb676e0a40429c7aa2b4b7912a5d")),
            ("3D76EB676E0A40429C7AA2B4B7912A5D", Some("3d76eb676e0a40429c7aa2b4b7912a5d")),
            ("3d76eb676e0a40429c7aa2b4b7912a5", None),
            ("3d76eb676e0a40429c7aa2b4b7912a5d0", None),
            ("3d76eb676e0a40429c7aa2b4b7912a5g", None),
            ("3d76eb67-6e0a-4042-9c7a-a2b4b7912a", None),
            ("", None),
            ("versions", None),
        ] {
            assert_eq!(SecretVersion::parse(text).as_ref().map(SecretVersion::as_str), version, "{text:?}");
        }
    }

    #[test]
    fn a_redacted_value_does_not_show() {
        let hidden = Redacted::new("marker".to_owned());
        assert_eq!(format!("{hidden:?} {hidden:#?}"), "Redacted(..) Redacted(..)");
        assert_eq!(hidden.expose(), "marker");
    }

    #[test]
    fn a_redacted_value_is_overwritten_when_it_is_dropped() {
        let overwritten = Cell::new(0);
        let hidden = Redacted::new(Content(&overwritten));
        assert_eq!(overwritten.get(), 0);
        drop(hidden);
        assert_eq!(overwritten.get(), 1);
    }

    /// Counts how often it is overwritten.
    struct Content<'a>(&'a Cell<u32>);

    impl Zeroize for Content<'_> {
        fn zeroize(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
}
