//! What a secret is called, and text that must not show.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// The name of a secret, as Key Vault allows it: 1 to 127 letters, digits and hyphens.
///
/// Source: Microsoft, "About keys, secrets, and certificates", section "Object identifiers". The type has one
/// door, so a name that exists can stand in a URL, in a log line and in a message as it is.
///
/// ```
/// let name = keyvault_gateway::model::SecretName::parse("db-password");
/// assert_eq!(name.map(|name| name.to_string()).as_deref(), Some("db-password"));
/// ```
///
/// Only `parse` makes a name, and a name does not change:
///
/// ```compile_fail,E0423
/// fn literal() -> keyvault_gateway::model::SecretName { keyvault_gateway::model::SecretName("../keys".to_owned()) }
/// ```
/// ```compile_fail,E0277
/// fn from() -> keyvault_gateway::model::SecretName { "../keys".into() }
/// ```
/// ```compile_fail,E0277
/// fn from_str() -> keyvault_gateway::model::SecretName { "../keys".parse().unwrap() }
/// ```
/// ```compile_fail,E0277
/// fn deserialize() -> keyvault_gateway::model::SecretName { serde_json::from_str("\"../keys\"").unwrap() }
/// ```
/// ```compile_fail,E0599
/// fn default() -> keyvault_gateway::model::SecretName { keyvault_gateway::model::SecretName::default() }
/// ```
/// ```compile_fail,E0616
/// fn field(name: &mut keyvault_gateway::model::SecretName) { name.0.push_str("/../keys") }
/// ```
/// ```compile_fail,E0599
/// fn text(name: &mut keyvault_gateway::model::SecretName) { name.as_str().push_str("/../keys") }
/// ```
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
///
/// Only `parse` makes a version:
///
/// ```compile_fail,E0423
/// fn literal() -> keyvault_gateway::model::SecretVersion { keyvault_gateway::model::SecretVersion("..".to_owned()) }
/// ```
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
///
/// ```
/// let hidden = keyvault_gateway::model::Redacted::new("value".to_owned());
/// assert_eq!((hidden.expose().as_str(), format!("{hidden:?}").as_str()), ("value", "Redacted(..)"));
/// let read: keyvault_gateway::model::Redacted = serde_json::from_str("\"value\"").unwrap();
/// assert_eq!(read.expose(), hidden.expose());
/// ```
///
/// The value has no other way out, and no copy:
///
/// ```compile_fail,E0599
/// fn copy(hidden: keyvault_gateway::model::Redacted) -> keyvault_gateway::model::Redacted { hidden.clone() }
/// ```
/// ```compile_fail,E0277
/// fn format(hidden: keyvault_gateway::model::Redacted) -> String { format!("{hidden}") }
/// ```
/// ```compile_fail,E0599
/// fn to_string(hidden: keyvault_gateway::model::Redacted) -> String { hidden.to_string() }
/// ```
/// ```compile_fail,E0277
/// fn json(hidden: keyvault_gateway::model::Redacted) -> String { serde_json::to_string(&hidden).unwrap() }
/// ```
/// ```compile_fail,E0277
/// #[derive(serde::Serialize)] struct Line { secret: keyvault_gateway::model::Redacted }
/// ```
/// ```compile_fail,E0616
/// fn field(hidden: keyvault_gateway::model::Redacted) { let _ = hidden.0; }
/// ```
/// ```compile_fail,E0532
/// fn pattern(hidden: &keyvault_gateway::model::Redacted) { let keyvault_gateway::model::Redacted(_inner) = hidden; }
/// ```
/// ```compile_fail,E0308
/// fn dereference(hidden: &keyvault_gateway::model::Redacted) -> &str { hidden }
/// ```
/// ```compile_fail,E0599
/// fn as_ref(hidden: &keyvault_gateway::model::Redacted) -> &str { hidden.as_ref() }
/// ```
/// ```compile_fail,E0369
/// fn compare(hidden: &keyvault_gateway::model::Redacted<Vec<u8>>) -> bool { *hidden == *hidden }
/// ```
/// ```compile_fail,E0507
/// fn take(hidden: &keyvault_gateway::model::Redacted) -> String { *hidden.expose() }
/// ```
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
        std::mem::take(&mut *self.0)
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

/// A secret as Key Vault gave it.
#[derive(Debug)]
pub struct Secret {
    /// Its value.
    pub value: Redacted,
    /// Its version.
    pub version: SecretVersion,
    plain: bool,
}

impl Secret {
    pub(crate) fn new(value: Redacted, version: SecretVersion) -> Self {
        let plain = value.expose().bytes().all(|it| it >= b' ' && it != b'"' && it != b'\\');
        Self { value, version, plain }
    }

    /// Whether the value stands in JSON as it is (RFC 8259, section 7).
    pub(crate) const fn is_plain(&self) -> bool {
        self.plain
    }
}

/// What the main route is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRequest {
    /// The secret.
    pub name: SecretName,
    /// Its version; the latest, if there is none.
    pub version: Option<SecretVersion>,
}

/// The key of a cached secret: its name in lower case, as Key Vault's names do not depend on case, and its version if the caller
/// pinned one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheKey {
    name: String,
    version: Option<SecretVersion>,
}

impl CacheKey {
    pub fn of(request: &SecretRequest) -> Self {
        Self { name: request.name.as_str().to_ascii_lowercase(), version: request.version.clone() }
    }

    /// The name, in lower case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The version, if the caller pinned one.
    pub const fn version(&self) -> Option<&SecretVersion> {
        self.version.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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
