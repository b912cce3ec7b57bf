//! What is asked: a route, and for the main one the name of a secret and perhaps its version.

use std::fmt;

use http::Method;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::Error;
use crate::http::headers::Headers;
use crate::json;
use crate::model::{SecretName, SecretRequest, SecretVersion};

/// A request without its body. It may hold the caller's key, in a header field and in the query.
pub struct Head {
    /// The method.
    pub method: Method,
    /// The path and the query, as they came.
    pub target: String,
    /// The header fields.
    pub headers: Headers,
}

/// What we answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The main job: a secret for its name.
    Secret,
    /// Is the component there at all?
    Health,
    /// Could it read a secret?
    Ready,
    /// The description of all this.
    OpenApi,
    /// What this instance has done so far.
    Metrics,
}

impl Head {
    /// The path.
    ///
    /// A target in absolute form may have none, which means the root (RFC 9112, section 3.2.2, and RFC 9110, section 4.2.3).
    pub fn path(&self) -> &str {
        match self.target.split('?').next() {
            None | Some("") => "/",
            Some(path) => path,
        }
    }

    /// The query.
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|it| it.1)
    }

    /// The route that is meant, if this is a method that it answers. HEAD is answered as GET.
    pub fn route(&self) -> Result<Route, Error> {
        if self.headers.bytes().saturating_add(self.target.len()) > MAX_HEAD {
            return Err(Error::HeadersTooLarge);
        }
        let route = match self.path() {
            "/healthz" => Route::Health,
            "/readyz" => Route::Ready,
            "/openapi.json" => Route::OpenApi,
            "/metrics" => Route::Metrics,
            path if path == "/" || is_function(path) => Route::Secret,
            _ => return Err(Error::NoRoute),
        };
        match (route, &self.method) {
            (Route::Secret, &Method::POST) => Ok(route),
            (Route::Secret, _) => Err(Error::WrongMethod("POST")),
            // Hosts send the head of an answer to HEAD, and leave out its body (RFC 9110, section 9.3.2).
            (_, &Method::GET | &Method::HEAD) => Ok(route),
            _ => Err(Error::WrongMethod("GET, HEAD")),
        }
    }

    /// Refuses a body that is not said to be JSON, or said to be too large, before any of it is read.
    pub fn check_content(&self) -> Result<(), Error> {
        let content_type = self.headers.first("content-type").unwrap_or_default();
        // A list, which may have empty elements (RFC 9110, sections 8.4 and 5.6.1).
        let is_plain = |coding: &str| coding.is_empty() || coding.eq_ignore_ascii_case("identity");
        let encoded = self
            .headers
            .all("content-encoding")
            .any(|codings| !codings.is_some_and(|list| list.split(',').map(str::trim).all(is_plain)));
        if !is_json(content_type) || encoded {
            return Err(Error::NotJson);
        }
        if !is_utf8(content_type) {
            return Err(Error::NotUtf8);
        }
        let length = self.headers.first("content-length").and_then(|it| it.parse::<u64>().ok());
        let largest = u64::try_from(MAX_BODY).unwrap_or(u64::MAX);
        if length.is_some_and(|it| it > largest) { Err(Error::BodyTooLarge) } else { Ok(()) }
    }

    /// Whether the caller wants Key Vault to be asked again (RFC 9111, section 5.2.1.4).
    pub fn wants_fresh(&self) -> bool {
        let values = self.headers.all("cache-control").flatten();
        values.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case("no-cache"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("method", &self.method)
            .field("path", &self.path())
            .finish_non_exhaustive()
    }
}

impl SecretRequest {
    /// Reads the body: a JSON object with `Secret` and perhaps `Version`, whose names have any case, as they had in the
    /// function before us. Twice the same name is not valid, since nobody could say which one counts.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let fields: Fields = json::parse(body).map_err(|_| Error::NotAnObject)?;
        let name = match fields.secret {
            Field::Text(text) => SecretName::parse(&text),
            Field::Absent | Field::Null | Field::Other => None,
        };
        let version = match fields.version {
            Field::Absent | Field::Null => Ok(None),
            // As with other clients of Key Vault, this is the latest version.
            Field::Text(text) if text.is_empty() => Ok(None),
            Field::Text(text) => SecretVersion::parse(&text).map(Some).ok_or(Error::NoValidVersion),
            Field::Other => Err(Error::NoValidVersion),
        };
        Ok(Self { name: name.ok_or(Error::NoValidSecret)?, version: version? })
    }
}

/// The path of the function that the gateway replaces, with the prefix that a function app has by itself, or without one
/// (`routePrefix` in `host.json`). The Functions host ignores case, and a slash at the end.
fn is_function(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    ["/api/GetKeyVaultSecret", "/GetKeyVaultSecret"].iter().any(|known| path.eq_ignore_ascii_case(known))
}

/// `application/json`, `text/json`, which the function took as well, or a type that is based on JSON (RFC 6839), with any parameters.
/// None of them is one that a web page may send to another site without asking (Fetch, "CORS-safelisted request-header").
fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if ["application/json", "text/json"].iter().any(|known| essence.eq_ignore_ascii_case(known)) {
        return true;
    }
    let based = essence.split_once('/').and_then(|(kind, subtype)| Some((kind, subtype.rsplit_once('+')?)));
    based.is_some_and(|(kind, (name, suffix))| {
        is_token(kind) && is_token(name) && suffix.eq_ignore_ascii_case("json")
    })
}

/// Whether a media type names no charset, or one that JSON can have (RFC 8259, section 8.1): UTF-8, or ASCII, which is a part of it.
fn is_utf8(content_type: &str) -> bool {
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut charsets = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    charsets.all(|(_, value)| {
        let charset = value.trim().trim_matches('"');
        ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
    })
}

/// What a media type is made of (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let in_token = |it: u8| it.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&it);
    !text.is_empty() && text.bytes().all(in_token)
}

/// The name of a property, in any case.
enum Name {
    Secret,
    Version,
    Other,
}

#[derive(Default)]
struct Fields {
    secret: Field,
    version: Field,
}

/// A property, as far as it can be one of ours.
#[derive(Default)]
enum Field {
    #[default]
    Absent,
    Null,
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key()? {
                    let field = match name {
                        Name::Secret => &mut fields.secret,
                        Name::Version => &mut fields.version,
                        Name::Other => {
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    let value = map.next_value()?;
                    *field = if matches!(field, Field::Absent) { value } else { Field::Other };
                }
                Ok(fields)
            }
        }

        from.deserialize_map(Object)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_str<E>(self, text: &str) -> Result<Name, E> {
                let is = |name| text.eq_ignore_ascii_case(name);
                Ok(if is("secret") {
                    Name::Secret
                } else if is("version") {
                    Name::Version
                } else {
                    Name::Other
                })
            }
        }

        from.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Anything;

        impl<'de> Visitor<'de> for Anything {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("anything")
            }

            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Text(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
                Ok(Field::Other)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Field, A::Error> {
                while list.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Other)
            }
        }

        from.deserialize_any(Anything)
    }
}

/// The largest body of a request, in bytes: a name, a version, and room for what others add.
pub const MAX_BODY: usize = 8 * 1024;

/// The target and the header fields of a request together, in bytes; what other servers allow, and less than the hosts'
/// 128 KiB.
const MAX_HEAD: usize = 32 * 1024;

#[cfg(test)]
mod tests;
