//! Header fields as hosts have them: a short list, in order.
//!
//! A map would have to hash each name of a request and of an answer, and hosts want a list again. In a warm read that was a
//! fifth of what the core did.

use std::fmt;

/// The header fields of a request or of an answer. Their names are in lower case where we wrote them, and are found in any
/// case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// None yet, with room for as many as an answer has.
    pub fn new() -> Self {
        Self(Vec::with_capacity(FIELDS_OF_AN_ANSWER))
    }

    /// The text of each field called `name`, in order: none for one whose value is not visible ASCII, spaces and tabs.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = Option<&'a str>> {
        self.0.iter().filter(move |it| it.0.eq_ignore_ascii_case(name)).map(|it| text(&it.1))
    }

    /// The text of the first field called `name`.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next().flatten()
    }

    /// Whether there is a field called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|it| it.eq_ignore_ascii_case(name))
    }

    /// The names, as they came.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|it| it.0.as_str())
    }

    /// Adds a field.
    pub fn add(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.0.iter().map(|it| it.0.len().saturating_add(it.1.len())).fold(0, usize::saturating_add)
    }

    /// The names and values.
    pub fn as_list(&self) -> &[(String, Vec<u8>)] {
        &self.0
    }
}

impl<'a, V: Into<Vec<u8>>> FromIterator<(&'a str, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (&'a str, V)>>(fields: I) -> Self {
        Self(fields.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
    }
}

impl From<Vec<(String, Vec<u8>)>> for Headers {
    fn from(list: Vec<(String, Vec<u8>)>) -> Self {
        Self(list)
    }
}

/// A value may be a caller's key, so this has the names only.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// What HTTP lets a field be as text (RFC 9110, section 5.5), without what is obsolete.
fn text(value: &[u8]) -> Option<&str> {
    let visible = value.iter().all(|it| matches!(it, b'\t' | b' '..=b'~'));
    if visible { str::from_utf8(value).ok() } else { None }
}

/// Type, caching, sniffing, version, age, the cache's status, length, and one for errors.
const FIELDS_OF_AN_ANSWER: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_any_case_and_in_order() {
        let fields = Headers::from_iter([("A", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(fields.all("a").collect::<Vec<_>>(), [Some("1"), Some("3")]);
        assert_eq!((fields.first("B"), fields.first("c")), (Some("2"), None));
        assert_eq!((fields.has("B"), fields.has("c"), fields.len(), fields.bytes()), (true, false, 3, 6));
    }

    #[test]
    fn what_is_no_text_is_none() {
        for (value, text) in [
            ("a b\t~".as_bytes(), Some("a b\t~")),
            (b"", Some("")),
            (b"a\r\nb", None),
            (b"a\0", None),
            (b"\x7F", None),
            ("ä".as_bytes(), None),
            (b"\xFF", None),
        ] {
            let fields = Headers::from_iter([("a", value)]);
            assert_eq!(fields.all("a").collect::<Vec<_>>(), [text], "{value:?}");
            assert_eq!(fields.first("a"), text, "{value:?}");
        }
    }

    #[test]
    fn no_value_shows() {
        let fields = Headers::from_iter([("x-functions-key", "marker")]);
        assert_eq!(format!("{fields:?}"), r#"["x-functions-key"]"#);
    }
}
