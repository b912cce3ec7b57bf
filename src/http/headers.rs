//! Headers as hosts have them: a short list, in order.
//!
//! A map would hash every name of a request and of an answer, and hosts want a list again. In a cached read,
//! that was a fifth of the work of the core.

use std::fmt;

/// The headers of a request or of an answer. Names that the gateway writes are in lower case; names are found
/// in any case.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// An empty list, with room for the headers of an answer.
    pub fn new() -> Self {
        Self(Vec::with_capacity(TYPICAL_COUNT))
    }

    /// The value of each header called `name`, in order. A value that is not visible ASCII, spaces and tabs
    /// is `None`.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = Option<&'a str>> {
        self.0.iter().filter(move |(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| text(value))
    }

    /// The value of the first header called `name`.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.all(name).next().flatten()
    }

    pub fn has(&self, name: &str) -> bool {
        self.names().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// The names, as they came.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub fn add(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.to_owned(), value.into()));
    }

    pub const fn len(&self) -> usize {
        self.0.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The size of all names and values, in bytes.
    pub fn bytes(&self) -> usize {
        let sizes = self.0.iter().map(|(name, value)| name.len().saturating_add(value.len()));
        sizes.fold(0, usize::saturating_add)
    }

    pub fn into_list(self) -> Vec<(String, Vec<u8>)> {
        self.0
    }

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

/// Writes the names only, as a value may be a caller's key.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

/// The text of a header (RFC 9110, section 5.5), without obsolete characters.
fn text(value: &[u8]) -> Option<&str> {
    let visible = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
    if visible { str::from_utf8(value).ok() } else { None }
}

/// The headers of most answers: type, caching, sniffing, version, age, cache status, length, and one for
/// errors.
const TYPICAL_COUNT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_headers_in_any_case_and_in_order() {
        let headers = Headers::from_iter([("A", "1"), ("b", "2"), ("a", "3")]);
        assert_eq!(headers.all("a").collect::<Vec<_>>(), [Some("1"), Some("3")]);
        assert_eq!((headers.first("B"), headers.first("c")), (Some("2"), None));
        assert_eq!((headers.has("B"), headers.has("c"), headers.len(), headers.bytes()), (true, false, 3, 6));
    }

    #[test]
    fn a_value_that_is_not_text_is_none() {
        for (value, text) in [
            ("a b\t~".as_bytes(), Some("a b\t~")),
            (b"", Some("")),
            (b"a\r\nb", None),
            (b"a\0", None),
            (b"\x7F", None),
            ("ä".as_bytes(), None),
            (b"\xFF", None),
        ] {
            let headers = Headers::from_iter([("a", value)]);
            assert_eq!(headers.all("a").collect::<Vec<_>>(), [text], "{value:?}");
            assert_eq!(headers.first("a"), text, "{value:?}");
        }
    }

    #[test]
    fn debug_output_has_no_value() {
        let headers = Headers::from_iter([("x-functions-key", "marker")]);
        assert_eq!(format!("{headers:?}"), r#"["x-functions-key"]"#);
    }
}
