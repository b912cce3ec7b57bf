//! A JSON object where there has to be one.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Reads JSON that was made outside. A byte order mark before it is skipped: some clients of .NET write one, and Azure's services send
/// one now and then (RFC 8259, section 8.1, lets a parser ignore it).
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a [u8]) -> serde_json::Result<T> {
    serde_json::from_slice(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text))
}

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// What an object says. A struct of Serde's can be read from a list as well, whose members stand in the order of our
/// fields; nobody means that, so it is refused.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        from.deserialize_map(Fields(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_order_mark_is_skipped() {
        for (text, number) in
            [("7", Some(7)), ("\u{feff}7", Some(7)), ("\u{feff}\u{feff}7", None), ("7\u{feff}", None)]
        {
            assert_eq!(parse::<u8>(text.as_bytes()).ok(), number, "{text:?}");
        }
    }

    #[test]
    fn only_an_object_is_an_object() {
        #[derive(Debug, PartialEq, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Pair {
            left: u8,
            right: Option<u8>,
        }
        for (text, pair) in [
            (r#"{"left":1,"right":2}"#, Some(Pair { left: 1, right: Some(2) })),
            (r#" {"left":1}"#, Some(Pair { left: 1, right: None })),
            (r#"{"left":1,"other":2}"#, None),
            (r#"{"left":1,"left":1}"#, None),
            (r#"{"left":1}{}"#, None),
            ("[1,2]", None),
            ("[1]", None),
            ("1", None),
            ("null", None),
        ] {
            let read = serde_json::from_str::<Object<Pair>>(text).ok().map(|it| it.0);
            assert_eq!(read, pair, "{text}");
        }
    }
}
