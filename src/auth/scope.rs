//! Which secrets a caller may have.

use crate::model::SecretName;

/// Names of secrets, in any case, as Key Vault has them.
#[derive(Debug)]
pub(super) enum Pattern {
    /// This name.
    Exactly(String),
    /// Every name that starts like this.
    Prefix(String),
}

impl Pattern {
    /// Every name.
    pub(super) const fn everything() -> Self {
        Self::Prefix(String::new())
    }

    /// Accepts a name, or the start of one with a `*` behind it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some("") => Some(Self::everything()),
            Some(prefix) => SecretName::parse(prefix).map(|_| Self::Prefix(prefix.to_ascii_lowercase())),
            None => SecretName::parse(text).map(|_| Self::Exactly(text.to_ascii_lowercase())),
        }
    }

    /// Whether it has `name` in it.
    pub(super) fn fits(&self, name: &SecretName) -> bool {
        match self {
            Self::Exactly(exact) => name.is_same_as(exact),
            Self::Prefix(prefix) => {
                name.as_str().get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix))
            }
        }
    }
}
