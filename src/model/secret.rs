//! Secrets: their names, versions and values; and text that must never be printed.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use zeroize::{Zeroize, Zeroizing};

/// The name of a secret, as Key Vault allows it: 1 to 127 letters, digits and hyphens.
///
/// Source: Microsoft, "About keys, secrets, and certificates", section "Object identifiers". The type has one
/// constructor, so a name is safe in a URL, in a log line and in a message.
///
/// ```
/// # use keyvault_gateway::model::SecretName;
/// let name = SecretName::parse("db-password");
/// assert_eq!(name.map(|name| name.to_string()).as_deref(), Some("db-password"));
/// ```
///
/// Only `parse` makes a name, and a name does not change:
///
/// ```compile_fail,E0423
/// # use keyvault_gateway::model::SecretName;
/// fn literal() -> SecretName { SecretName("../keys".to_owned()) }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::model::SecretName;
/// fn from() -> SecretName { "../keys".into() }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::model::SecretName;
/// fn from_str() -> SecretName { "../keys".parse().unwrap() }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::model::SecretName;
/// fn deserialize() -> SecretName { serde_json::from_str("\"../keys\"").unwrap() }
/// ```
/// ```compile_fail,E0599
/// # use keyvault_gateway::model::SecretName;
/// fn default() -> SecretName { SecretName::default() }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::model::SecretName;
/// fn field(name: &mut SecretName) { name.0.push_str("/../keys") }
/// ```
/// ```compile_fail,E0599
/// # use keyvault_gateway::model::SecretName;
/// fn text(name: &mut SecretName) { name.as_str().push_str("/../keys") }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SecretName(String);

impl SecretName {
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=MAX_NAME_LENGTH).contains(&text.len());
        let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (fits && allowed).then(|| Self(text.to_owned()))
    }

    /// The name, in the case in which the caller wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether Key Vault takes both for the same secret: it ignores case in names.
    pub fn is_same_as(&self, other: &str) -> bool {
        self.0.eq_ignore_ascii_case(other)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The version of a secret: 32 hexadecimal digits, which Key Vault generates.
///
/// Source: Microsoft, "About keys, secrets, and certificates", section "Object identifiers".
///
/// Only `parse` makes a version:
///
/// ```compile_fail,E0423
/// # use keyvault_gateway::model::SecretVersion;
/// fn literal() -> SecretVersion { SecretVersion("..".to_owned()) }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretVersion(String);

impl SecretVersion {
    /// Parses a version in any case, into lower case, as Key Vault writes it.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() == VERSION_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        valid.then(|| Self(text.to_ascii_lowercase()))
    }

    /// The version, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Text or bytes that must never be printed: a secret's value, a token, a key.
///
/// It has no `Display` and no `Serialize`, its `Debug` does not show the value, and its memory is overwritten
/// when it is dropped. The value is visible only at an [`expose`](Self::expose), where it leaves for its one
/// destination.
///
/// ```
/// # use keyvault_gateway::model::Redacted;
/// let hidden = Redacted::new("value".to_owned());
/// assert_eq!((hidden.expose().as_str(), format!("{hidden:?}").as_str()), ("value", "Redacted(..)"));
/// let parsed: Redacted = serde_json::from_str("\"value\"").unwrap();
/// assert_eq!(parsed.expose(), hidden.expose());
/// ```
///
/// The value has no other way out, and there is no copy:
///
/// ```compile_fail,E0599
/// # use keyvault_gateway::model::Redacted;
/// fn copy(hidden: Redacted) -> Redacted { hidden.clone() }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::model::Redacted;
/// fn format(hidden: Redacted) -> String { format!("{hidden}") }
/// ```
/// ```compile_fail,E0599
/// # use keyvault_gateway::model::Redacted;
/// fn to_string(hidden: Redacted) -> String { hidden.to_string() }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::model::Redacted;
/// fn json(hidden: Redacted) -> String { serde_json::to_string(&hidden).unwrap() }
/// ```
/// ```compile_fail,E0277
/// # use keyvault_gateway::model::Redacted;
/// #[derive(serde::Serialize)] struct Line { secret: Redacted }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::model::Redacted;
/// fn field(hidden: Redacted) { let _ = hidden.0; }
/// ```
/// ```compile_fail,E0532
/// # use keyvault_gateway::model::Redacted;
/// fn pattern(hidden: &Redacted) { let Redacted(_inner) = hidden; }
/// ```
/// ```compile_fail,E0308
/// # use keyvault_gateway::model::Redacted;
/// fn dereference(hidden: &Redacted) -> &str { hidden }
/// ```
/// ```compile_fail,E0599
/// # use keyvault_gateway::model::Redacted;
/// fn as_ref(hidden: &Redacted) -> &str { hidden.as_ref() }
/// ```
/// ```compile_fail,E0369
/// # use keyvault_gateway::model::Redacted;
/// fn compare(hidden: &Redacted<Vec<u8>>) -> bool { *hidden == *hidden }
/// ```
/// ```compile_fail,E0507
/// # use keyvault_gateway::model::Redacted;
/// fn take(hidden: &Redacted) -> String { *hidden.expose() }
/// ```
pub struct Redacted<T: Zeroize = String>(Zeroizing<T>);

impl<T: Zeroize> Redacted<T> {
    pub fn new(value: T) -> Self {
        Self(Zeroizing::new(value))
    }

    pub fn expose(&self) -> &T {
        &self.0
    }

    /// Takes the value out. From then on only its new owner can overwrite it.
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
const MAX_NAME_LENGTH: usize = 127;

const VERSION_DIGITS: usize = 32;

/// A secret as Key Vault returned it.
#[derive(Debug)]
pub struct Secret {
    pub value: Redacted,
    pub version: SecretVersion,
    pub details: Details,
    plain: bool,
}

/// What Key Vault says of a version of a secret, besides its value. Times are seconds since
/// 1970-01-01T00:00:00Z.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Details {
    pub content_type: Option<String>,
    pub created: Option<u64>,
    pub updated: Option<u64>,
    pub not_before: Option<u64>,
    pub expires: Option<u64>,
    pub enabled: Option<bool>,
    pub tags: Vec<(String, String)>,
}

impl Details {
    /// What the texts take, in bytes.
    pub fn bytes(&self) -> usize {
        let list = self.tags.len().saturating_mul(size_of::<(String, String)>());
        let tags = self.tags.iter().map(|(name, text)| name.len().saturating_add(text.len()));
        let content_type = self.content_type.as_ref().map_or(0, String::len);
        tags.fold(list.saturating_add(content_type), usize::saturating_add)
    }
}

/// Nothing of them is logged: a tag may say more than a log should.
impl fmt::Debug for Details {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Details(..)")
    }
}

impl Secret {
    pub(crate) fn new(value: Redacted, version: SecretVersion, details: Details) -> Self {
        let plain = value.expose().bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
        Self { value, version, details, plain }
    }

    /// Whether the value needs no escapes in JSON (RFC 8259, section 7).
    pub(crate) const fn is_plain(&self) -> bool {
        self.plain
    }
}

/// The secret that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRequest {
    pub name: SecretName,
    /// The version; the latest, if there is none.
    pub version: Option<SecretVersion>,
}

/// The key of a cached secret: its name in lower case, as Key Vault's names do not depend on case, and its
/// version if the caller pinned one.
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
    fn parses_only_names_that_key_vault_allows() {
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
    fn parses_versions_and_writes_them_in_lower_case() {
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
