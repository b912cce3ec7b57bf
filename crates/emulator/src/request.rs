//! A parsed request, and the service that it is for.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use serde::Serialize;

use crate::cloud::{HostRole, host_role};
use crate::settings::Source;

pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) scheme: &'static str,
    /// Host and port, as the client sent them.
    pub(crate) authority: String,
    pub(crate) path: String,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) host_role: HostRole,
    pub(crate) kind: Kind,
}

/// The service that a request is for, by its host and its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Vault,
    /// A token endpoint of this source.
    Token(Source),
    /// Entra's OpenID configuration of a tenant.
    Discovery,
    /// Entra's JWKS of a tenant.
    SigningKeys,
    /// The public documents of the issuer of client assertions.
    AssertionIssuer,
    /// The public documents of an issuer of callers' tokens.
    OidcIssuer,
    /// The emulator's control routes, which the journal does not record.
    Control,
    Nothing,
}

impl Request {
    /// Parses a request. Returns `None` without a valid host in the URI or in the `Host` header.
    pub(crate) fn parse(parts: Parts, body: Bytes) -> Option<Self> {
        let authority = match parts.uri.authority() {
            Some(authority) => authority.to_string(),
            None => parts.headers.get(header::HOST)?.to_str().ok()?.to_owned(),
        };
        let host = authority.parse::<http::uri::Authority>().ok()?;
        let scheme = if parts.uri.scheme() == Some(&http::uri::Scheme::HTTPS) { "https" } else { "http" };
        let host_role = host_role(scheme, host.host());
        let path = parts.uri.path().to_owned();
        let query = pairs(parts.uri.query().unwrap_or_default().as_bytes());
        let kind = kind(host_role, &segments(&path), &query);
        let Parts { method, headers, .. } = parts;
        let mut request = Self { method, scheme, authority, path, query, headers, body, host_role, kind };
        if kind == Kind::Token(Source::ClientSecret)
            && request.form().is_some_and(|form| find(&form, "client_assertion").is_some())
        {
            request.kind = Kind::Token(Source::WorkloadIdentity);
        }
        Some(request)
    }

    /// Splits the path at its slashes. A slash at the end is ignored.
    pub(crate) fn segments(&self) -> Vec<&str> {
        segments(&self.path)
    }

    /// Returns the first query parameter `name`, unless its value is empty.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        find(&self.query, name)
    }

    /// Returns the header `name`, if it was sent once and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?.to_str().ok()?;
        values.next().is_none().then_some(first)
    }

    /// Parses the body as a form, if the `Content-Type` is that of a form.
    pub(crate) fn form(&self) -> Option<Vec<(String, String)>> {
        let media_type = self.header("content-type")?.split(';').next()?.trim();
        media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded").then(|| pairs(&self.body))
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

/// Returns the value of the first pair `name`, unless it is empty.
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

fn kind(host_role: HostRole, segments: &[&str], query: &[(String, String)]) -> Kind {
    let loopback = matches!(host_role, HostRole::Loopback);
    let vault = loopback || matches!(host_role, HostRole::Vault(_));
    let entra = loopback || matches!(host_role, HostRole::Entra);
    let imds = loopback || matches!(host_role, HostRole::Imds);
    let google = loopback || matches!(host_role, HostRole::GoogleMetadata);
    let github = loopback || matches!(host_role, HostRole::GithubActions);
    let is_arc =
        loopback && find(query, "api-version").is_some_and(|version| ARC_VERSIONS.contains(&version));
    match segments {
        ["secrets" | "deletedsecrets", ..] if vault => Kind::Vault,
        ["metadata", "identity", "oauth2", "token"] if is_arc => Kind::Token(Source::AzureArc),
        ["metadata", "identity", "oauth2", "token"] if imds => Kind::Token(Source::Imds),
        // App Service sets `/MSI/token/` on Windows and `/msi/token` on Linux.
        [msi, "token"] if loopback && msi.eq_ignore_ascii_case("msi") => match find(query, "api-version") {
            Some("2017-09-01") => Kind::Token(Source::AppService2017),
            _ => Kind::Token(Source::AppService2019),
        },
        ["oauth2", "token"] if loopback => Kind::Token(Source::CloudShell),
        [_, "oauth2", "v2.0", "token"] if entra => Kind::Token(Source::ClientSecret),
        [_, "v2.0", ".well-known", "openid-configuration"] if entra => Kind::Discovery,
        [_, "discovery", "v2.0", "keys"] if entra => Kind::SigningKeys,
        ["oidc", ".well-known", "openid-configuration"] | ["oidc", "keys"] if loopback => {
            Kind::AssertionIssuer
        }
        ["oidc", _, ".well-known", "openid-configuration"] | ["oidc", _, "keys"] if loopback => {
            Kind::OidcIssuer
        }
        ["github", "idtoken"] if github => Kind::Token(Source::GithubActions),
        ["computeMetadata", "v1", "instance", "service-accounts", "default", "identity"] if google => {
            Kind::Token(Source::GoogleCloud)
        }
        ["emulator", ..] if loopback => Kind::Control,
        // Key Vault refuses other paths, after it has checked the token.
        _ if matches!(host_role, HostRole::Vault(_)) => Kind::Vault,
        _ => Kind::Nothing,
    }
}

/// The versions with which clients call the agent of Azure Arc, on the path that it shares with IMDS: of the
/// documents' samples ("Authenticate against Azure resources with Azure Arc-enabled servers") and of
/// `azure_identity` for Rust. On loopback, requests to IMDS have other versions.
const ARC_VERSIONS: [&str; 3] = ["2019-11-01", "2020-06-01", "2021-02-01"];
