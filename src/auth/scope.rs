//! The scope of a caller: the secrets that it may read.

use crate::model::SecretName;

/// A pattern of secret names. It ignores case, as Key Vault does.
#[derive(Debug)]
pub(super) enum Pattern {
    Exactly(String),
    /// Every name that begins with this.
    Prefix(String),
}

impl Pattern {
    pub(super) const fn everything() -> Self {
        Self::Prefix(String::new())
    }

    /// Parses a name, or the prefix of names with a `*` behind it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some("") => Some(Self::everything()),
            Some(prefix) => SecretName::parse(prefix).map(|_| Self::Prefix(prefix.to_ascii_lowercase())),
            None => SecretName::parse(text).map(|_| Self::Exactly(text.to_ascii_lowercase())),
        }
    }

    pub(super) fn matches(&self, name: &SecretName) -> bool {
        match self {
            Self::Exactly(exact) => name.is_same_as(exact),
            Self::Prefix(prefix) => {
                name.as_str().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            }
        }
    }
}
