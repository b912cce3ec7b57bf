//! JSON from outside: one type for all requests, answers, tokens and settings.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use crate::model::Redacted;

/// A JSON value from outside, as far as the gateway uses it.
///
/// A derived parser for each kind of answer would be 60 KiB of code more. Most of that is messages that
/// nothing shows, as they quote the input, and the printing of floating-point numbers in them.
pub(crate) enum Json {
    Null,
    /// A whole number that is not negative.
    Number(u64),
    Text(Redacted),
    List(Vec<Self>),
    Object(Object),
    Bool(bool),
    /// Another number.
    Other,
}

/// The members of a JSON object, in their order.
pub(crate) struct Object(Vec<(String, Json)>);

impl Json {
    /// Parses JSON. The error of the parser is dropped, as it quotes the input.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// Parses a body. A byte order mark before it is skipped: some .NET clients write one, and Azure's
    /// services sometimes do (RFC 8259, section 8.1, lets a parser ignore it).
    pub(crate) fn parse_body(text: &[u8]) -> Option<Self> {
        Self::parse(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
    }

    pub(crate) fn as_text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text.expose()) } else { None }
    }

    pub(crate) const fn as_number(&self) -> Option<u64> {
        if let Self::Number(number) = self { Some(*number) } else { None }
    }

    pub(crate) fn as_list(&self) -> Option<&[Self]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }

    pub(crate) const fn as_object(&self) -> Option<&Object> {
        if let Self::Object(object) = self { Some(object) } else { None }
    }

    pub(crate) const fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The texts of a list. `None` if it is something else, or has something else in it.
    pub(crate) fn texts(&self) -> Option<Vec<String>> {
        self.as_list()?.iter().map(|text| text.as_text().map(str::to_owned)).collect()
    }
}

impl Object {
    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Whether there is a member of this name, whatever its value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.members().any(|(known, _)| known == name)
    }

    /// The value of this name: [`Json::Null`] if there is none, and [`Json::Other`] if there are two, as
    /// another parser may take the other one.
    pub(crate) fn get(&self, name: &str) -> &Json {
        let mut values = self.members().filter(|(known, _)| *known == name).map(|(_, value)| value);
        match (values.next(), values.next()) {
            (None, _) => &Json::Null,
            (Some(value), None) => value,
            (Some(_), Some(_)) => &Json::Other,
        }
    }

    /// Takes the text of this name out.
    pub(crate) fn take_text(&mut self, name: &str) -> Option<Redacted> {
        self.get(name).as_text()?;
        let (_, value) = self.0.iter_mut().find(|(known, _)| known == name)?;
        if let Json::Text(text) = std::mem::replace(value, Json::Null) { Some(text) } else { None }
    }
}

/// Names and texts that are written as a JSON object, in their order.
pub(crate) struct Texts<'a>(pub(crate) &'a [(String, String)]);

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, text)| (name, text)))
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct AnyValue;

        impl<'de> Visitor<'de> for AnyValue {
            type Value = Json;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<Json, E> {
                Ok(Json::Null)
            }

            fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
                Ok(Json::Bool(value))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Json, E> {
                Ok(Json::Other)
            }

            fn visit_u64<E>(self, number: u64) -> Result<Json, E> {
                Ok(Json::Number(number))
            }

            fn visit_str<E>(self, text: &str) -> Result<Json, E> {
                Ok(Json::Text(Redacted::new(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
                let mut list = Vec::new();
                while let Some(value) = access.next_element()? {
                    list.push(value);
                }
                Ok(Json::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Json, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = access.next_entry()? {
                    members.push(member);
                }
                Ok(Json::Object(Object(members)))
            }
        }

        from.deserialize_any(AnyValue)
    }
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_order_mark_is_skipped() {
        for (text, number) in
            [("7", Some(7)), ("\u{feff}7", Some(7)), ("\u{feff}\u{feff}7", None), ("7\u{feff}", None)]
        {
            assert_eq!(
                Json::parse_body(text.as_bytes()).and_then(|json| json.as_number()),
                number,
                "{text:?}"
            );
        }
        assert!(Json::parse("\u{feff}7".as_bytes()).is_none());
    }

    #[test]
    fn values_have_one_kind() {
        for (text, kind) in [
            ("null", "null"),
            ("true", "bool"),
            ("false", "bool"),
            ("-1", "other"),
            ("1.5", "other"),
            ("1e3", "other"),
            ("18446744073709551615", "number"),
            ("18446744073709551616", "other"),
            (r#""a\nb""#, "text"),
            ("[1, [2]]", "list"),
            (r#"{"a": {}}"#, "object"),
            ("", "invalid"),
            ("{}{}", "invalid"),
            ("[1,]", "invalid"),
            ("NaN", "invalid"),
            ("\"a\nb\"", "invalid"),
            ("\"\u{0}\"", "invalid"),
            (r#""\ud800""#, "invalid"),
        ] {
            let actual = match Json::parse(text.as_bytes()) {
                None => "invalid",
                Some(Json::Null) => "null",
                Some(Json::Number(_)) => "number",
                Some(Json::Text(_)) => "text",
                Some(Json::List(_)) => "list",
                Some(Json::Object(_)) => "object",
                Some(Json::Bool(_)) => "bool",
                Some(Json::Other) => "other",
            };
            assert_eq!(actual, kind, "{text:?}");
        }
        assert!(Json::parse(b"\"\xFF\"").is_none());
        assert!(Json::parse("[".repeat(100_000).as_bytes()).is_none());
    }

    #[test]
    fn a_name_that_comes_twice_has_no_value() {
        let Some(Json::Object(mut object)) =
            Json::parse(br#"{"once":"a","twice":"b","\u0074wice":"b","number":7,"null":null}"#)
        else {
            panic!("no object")
        };
        let text = |name| object.get(name).as_text();
        assert_eq!(
            ["once", "twice", "number", "null", "none"].map(text),
            [Some("a"), None, None, None, None]
        );
        assert_eq!(["once", "twice", "null", "none"].map(|name| object.has(name)), [true, true, true, false]);
        assert!(matches!(object.get("twice"), Json::Other) && matches!(object.get("none"), Json::Null));
        let mut take = |name| object.take_text(name).map(Redacted::release);
        assert_eq!(
            ["once", "once", "twice", "number"].map(&mut take),
            [Some("a".to_owned()), None, None, None]
        );
    }

    #[test]
    fn lists_of_texts() {
        for (text, texts) in [
            ("[]", Some(vec![])),
            (r#"["a","b"]"#, Some(vec!["a", "b"])),
            (r#"["a",7]"#, None),
            (r#""a""#, None),
            ("null", None),
        ] {
            let actual = Json::parse(text.as_bytes()).and_then(|json| json.texts());
            assert_eq!(actual, texts.map(|texts| texts.into_iter().map(str::to_owned).collect()), "{text}");
        }
    }
}
