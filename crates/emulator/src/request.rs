//! What was asked: one request, read once.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use serde::Serialize;

use crate::cloud::{Place, place};
use crate::settings::Source;

pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) scheme: &'static str,
    /// Host and port, as the client wrote them.
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) place: Place,
    pub(crate) kind: Kind,
}

/// What a request is for, as its host and its path say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Vault,
    /// A token, from one of the endpoints that give them.
    Token(Source),
    /// What Entra says of itself before it is asked for a token.
    Discovery,
    SigningKeys,
    /// The emulator's own control routes. These are not in the journal.
    Control,
    Nothing,
}

impl Ask {
    /// Reads a request. The host is that of the address, if the address has one, or of the `Host` header. `None`: there is
    /// no host.
    pub(crate) fn read(parts: Parts, body: Bytes) -> Option<Self> {
        let authority = match parts.uri.authority() {
            Some(authority) => authority.to_string(),
            None => parts.headers.get(header::HOST)?.to_str().ok()?.to_owned(),
        };
        let host = authority.parse::<http::uri::Authority>().ok()?;
        let scheme = if parts.uri.scheme() == Some(&http::uri::Scheme::HTTPS) { "https" } else { "http" };
        let place = place(scheme, host.host());
        let path = parts.uri.path().to_owned();
        let query = pairs(parts.uri.query().unwrap_or_default().as_bytes());
        let kind = kind(place, &segments(&path), &query);
        let Parts { method, headers, .. } = parts;
        Some(Self { method, scheme, authority, path, query, headers, body, place, kind })
    }

    /// The path between its slashes; a slash at the end counts for nothing.
    pub(crate) fn segments(&self) -> Vec<&str> {
        segments(&self.path)
    }

    /// The value of the first query parameter of this name. An empty value is none.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// The only header of this name, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(first)
    }

    /// The fields of a form, or `None` if the body does not say that it is one.
    pub(crate) fn form(&self) -> Option<Vec<(String, String)>> {
        let kind = self.header("content-type")?.split(';').next()?.trim();
        kind.eq_ignore_ascii_case("application/x-www-form-urlencoded").then(|| pairs(&self.body))
    }

    pub(crate) fn bearer(&self) -> Option<&str> {
        let (scheme, token) = self.header("authorization")?.split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
    }

    pub(crate) fn secret(&self) -> Option<&str> {
        match (self.kind, self.segments().as_slice()) {
            (Kind::Vault, ["secrets", "restore"]) if self.method == Method::POST => None,
            (Kind::Vault, ["secrets" | "deletedsecrets", name, ..]) => Some(name),
            _ => None,
        }
    }
}

/// The value of the first pair of this name. An empty value is none.
pub(crate) fn find<'a>(pairs: &'a [(String, String)], name: &str) -> Option<&'a str> {
    let value = pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    value.filter(|value| !value.is_empty())
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

fn segments(path: &str) -> Vec<&str> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').collect()
}

fn kind(place: Place, segments: &[&str], query: &[(String, String)]) -> Kind {
    let host = matches!(place, Place::Here);
    let vault = host || matches!(place, Place::Vault(_));
    let login = host || matches!(place, Place::Login);
    let imds = host || matches!(place, Place::Imds);
    match segments {
        ["secrets" | "deletedsecrets", ..] if vault => Kind::Vault,
        ["metadata", "identity", "oauth2", "token"] if imds => Kind::Token(Source::Imds),
        // Windows writes the endpoint of the App Service as `/MSI/token/`, Linux as `/msi/token`.
        [msi, "token"] if host && msi.eq_ignore_ascii_case("msi") => match find(query, "api-version") {
            Some("2017-09-01") => Kind::Token(Source::AppService2017),
            _ => Kind::Token(Source::AppService2019),
        },
        ["oauth2", "token"] if host => Kind::Token(Source::CloudShell),
        [_, "oauth2", "v2.0", "token"] if login => Kind::Token(Source::ClientSecret),
        [_, "v2.0", ".well-known", "openid-configuration"] if login => Kind::Discovery,
        [_, "discovery", "v2.0", "keys"] if login => Kind::SigningKeys,
        ["emulator", ..] if host => Kind::Control,
        // A vault's other paths are Key Vault's to refuse: it asks for a token first.
        _ if matches!(place, Place::Vault(_)) => Kind::Vault,
        _ => Kind::Nothing,
    }
}
