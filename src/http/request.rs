//! Requests of callers: the route, and for the main route the secret's name and perhaps its version.

use std::fmt;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, Method, Uri, Version};

use crate::error::Error;
use crate::http::headers::Headers;
use crate::http::response::Reply;
use crate::json::{Json, Object};
use crate::model::{SecretName, SecretRequest, SecretVersion};

/// A request without its body. Its headers and its query may contain the caller's key.
pub struct Head {
    pub method: Method,
    /// The path and the query, as they came.
    pub target: String,
    pub headers: Headers,
}

/// The routes that the gateway answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The main route: reads a secret.
    Secret,
    /// Reads several secrets.
    Secrets,
    /// Says that the component runs.
    Health,
    /// Says whether a secret could be read.
    Ready,
    /// The OpenAPI description of all routes.
    OpenApi,
    /// The metrics of this instance.
    Metrics,
}

impl Head {
    /// The path, `/` if the target has none. A target in absolute form may have none (RFC 9112, section
    /// 3.2.2, and RFC 9110, section 4.2.3).
    pub fn path(&self) -> &str {
        match self.target.split('?').next() {
            None | Some("") => "/",
            Some(path) => path,
        }
    }

    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// The route, if it answers the method. HEAD is answered like GET.
    pub fn route(&self) -> Result<Route, Error> {
        if self.headers.bytes().saturating_add(self.target.len()) > MAX_HEAD {
            return Err(Error::HeadersTooLarge);
        }
        let route = match self.path() {
            "/healthz" => Route::Health,
            "/readyz" => Route::Ready,
            "/openapi.json" => Route::OpenApi,
            "/metrics" => Route::Metrics,
            path if path == "/" || is_function(path, "GetKeyVaultSecret") => Route::Secret,
            path if is_function(path, "GetKeyVaultSecrets") => Route::Secrets,
            _ => return Err(Error::NoRoute),
        };
        match (route, &self.method) {
            (Route::Secret | Route::Secrets, &Method::POST) => Ok(route),
            (Route::Secret | Route::Secrets, _) => Err(Error::WrongMethod("POST")),
            // Hosts send the head of an answer to HEAD, and leave out its body (RFC 9110, section 9.3.2).
            (_, &Method::GET | &Method::HEAD) => Ok(route),
            _ => Err(Error::WrongMethod("GET, HEAD")),
        }
    }

    /// Refuses a body that is not JSON or larger than `limit`, as far as the headers say it, before any of it is
    /// read.
    pub fn check_content(&self, limit: usize) -> Result<(), Error> {
        let content_type = self.headers.first("content-type").unwrap_or_default();
        // The header is a list, which may have empty elements (RFC 9110, sections 8.4 and 5.6.1).
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
        let length = self.headers.first("content-length").and_then(|text| text.parse::<u64>().ok());
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        if length.is_some_and(|length| length > limit) { Err(Error::BodyTooLarge) } else { Ok(()) }
    }

    /// Whether the caller requests a refresh with `Cache-Control: no-cache` (RFC 9111, section 5.2.1.4).
    pub fn has_no_cache(&self) -> bool {
        let values = self.headers.all("cache-control").flatten();
        let mut directives = values.flat_map(|value| value.split(','));
        directives.any(|directive| directive.trim().eq_ignore_ascii_case("no-cache"))
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

/// The host that a request is for: that of its target, or of its one `Host` field (RFC 9112, section 3.2).
/// For a host that is not Wasmtime's.
///
/// # Errors
///
/// Fails if there is no host, except in HTTP/1.0, more than one, or one that is not valid.
pub fn authority(target: &Uri, headers: &HeaderMap, version: Version) -> Result<Option<Authority>, Reply> {
    let mut fields = headers.get_all(HOST).iter();
    let found = match (target.authority(), fields.next(), fields.next()) {
        (_, _, Some(_)) => None,
        (Some(authority), _, None) => Some(Some(authority.clone())),
        (None, Some(field), None) => Authority::try_from(field.as_bytes()).ok().map(Some),
        (None, None, None) => (version == Version::HTTP_10).then_some(None),
    };
    let has_user = |authority: &Authority| authority.as_str().contains('@');
    found.filter(|found| !found.as_ref().is_some_and(has_user)).ok_or_else(Reply::invalid_host)
}

/// The body of a request for one secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SingleRequest {
    pub secret: SecretRequest,
    /// Whether the details are asked for.
    pub details: bool,
}

/// The body of a request for several secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchRequest {
    /// The names as they are written, or nothing for those that no secret can have, and what is asked for under
    /// them or what is wrong with that, in the order of the request.
    pub items: Vec<(String, Result<SecretRequest, Error>)>,
    /// Whether the details are asked for.
    pub details: bool,
}

impl SingleRequest {
    /// Parses the body: a JSON object with `Secret` and perhaps `Version` and `Details`. The names may have any
    /// case, as in the function that the gateway replaces. Two values for one name are invalid, as it is
    /// ambiguous which of them counts.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let Some(Json::Object(members)) = Json::parse_body(body) else { return Err(Error::NotAnObject) };
        Ok(Self { secret: SecretRequest::of(&members)?, details: wants_details(&members)? })
    }
}

impl BatchRequest {
    /// Parses the body: a JSON object with `Secrets`, a list of names and of objects with `Secret` and perhaps
    /// `Version`, and perhaps `Details`. A name or a version that is not valid is an error of its item.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let Some(Json::Object(members)) = Json::parse_body(body) else { return Err(Error::NotAnObject) };
        let secrets = values(&members, "secrets");
        let [Json::List(list)] = secrets.as_slice() else { return Err(Error::NoValidSecrets) };
        if !(1..=MAX_ITEMS).contains(&list.len()) {
            return Err(Error::NoValidSecrets);
        }
        let shown =
            |name: &str| SecretName::parse(name).map_or_else(String::new, |name| name.as_str().to_owned());
        let item = |item: &Json| match item {
            Json::Text(name) => {
                let request =
                    SecretName::parse(name.expose()).map(|name| SecretRequest { name, version: None });
                Some((shown(name.expose()), request.ok_or(Error::NoValidSecret)))
            }
            Json::Object(members) => match values(members, "secret").as_slice() {
                [Json::Text(name)] => Some((shown(name.expose()), SecretRequest::of(members))),
                _ => None,
            },
            _ => None,
        };
        let items = list.iter().map(item).collect::<Option<_>>().ok_or(Error::NoValidSecrets)?;
        Ok(Self { items, details: wants_details(&members)? })
    }
}

/// The values of all members with this name, in any case.
fn values<'a>(members: &'a Object, name: &str) -> Vec<&'a Json> {
    let members = members.members().filter(|(known, _)| known.eq_ignore_ascii_case(name));
    members.map(|(_, value)| value).collect()
}

fn wants_details(members: &Object) -> Result<bool, Error> {
    match values(members, "details").as_slice() {
        [] | [Json::Null] => Ok(false),
        [Json::Bool(details)] => Ok(*details),
        _ => Err(Error::NoValidDetails),
    }
}

impl SecretRequest {
    fn of(members: &Object) -> Result<Self, Error> {
        let name = match values(members, "secret").as_slice() {
            [Json::Text(text)] => SecretName::parse(text.expose()),
            _ => None,
        };
        let version = match values(members, "version").as_slice() {
            [] | [Json::Null] => Ok(None),
            // As in other clients of Key Vault, an empty version means the latest one.
            [Json::Text(text)] if text.expose().is_empty() => Ok(None),
            [Json::Text(text)] => SecretVersion::parse(text.expose()).map(Some).ok_or(Error::NoValidVersion),
            _ => Err(Error::NoValidVersion),
        };
        Ok(Self { name: name.ok_or(Error::NoValidSecret)?, version: version? })
    }
}

/// Whether `path` is that of the function `name`, with the default prefix of function apps or without one
/// (`routePrefix` in `host.json`). The Functions host ignores case, and a slash at the end.
fn is_function(path: &str, name: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let start = path.len().saturating_sub(name.len());
    path.split_at_checked(start).is_some_and(|(prefix, last)| {
        last.eq_ignore_ascii_case(name) && (prefix == "/" || prefix.eq_ignore_ascii_case("/api/"))
    })
}

/// Whether a media type is `application/json`, `text/json`, which the function accepted as well, or one that
/// is based on JSON (RFC 6839), with any parameters. A web page cannot send any of them to another site
/// without a preflight request (Fetch, "CORS-safelisted request-header").
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

/// Whether a media type has no charset, or one that JSON can have (RFC 8259, section 8.1): UTF-8, or its
/// subset ASCII.
fn is_utf8(content_type: &str) -> bool {
    let parameters = content_type.split(';').skip(1).filter_map(|parameter| parameter.split_once('='));
    let mut charsets = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    charsets.all(|(_, value)| {
        let charset = value.trim().trim_matches('"');
        ["utf-8", "utf8", "us-ascii"].iter().any(|known| charset.eq_ignore_ascii_case(known))
    })
}

/// Whether `text` is a token, of which media types are made (RFC 9110, section 5.6.2).
fn is_token(text: &str) -> bool {
    let in_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(in_token)
}

/// The largest body of a request, in bytes: a name, a version, and room for other members.
pub const MAX_BODY: usize = 8 * 1024;

/// The largest body of a request for several secrets, in bytes.
pub const MAX_BATCH_BODY: usize = 32 * 1024;

/// How many secrets a request may ask for: what an application reads at its start.
pub const MAX_ITEMS: usize = 50;

/// The largest target and headers of a request together, in bytes: as much as other servers allow, and less
/// than the 128 KiB of hosts.
const MAX_HEAD: usize = 32 * 1024;

#[cfg(test)]
mod tests;
