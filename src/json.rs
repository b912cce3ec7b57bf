//! A JSON object where there has to be one.

use core::fmt;
use core::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

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
