//! The addresses of calls: scheme, authority, path and query, parsed once.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::Uri;
use http::uri::Scheme;

/// The address of a call. It has no user information, no fragment, and only visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    tls: bool,
    authority: String,
    path_and_query: String,
}

impl Endpoint {
    /// Parses an absolute `http` or `https` URL without user information and fragment.
    pub fn parse(text: &str) -> Option<Self> {
        if text.contains(['#', '@']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let uri: Uri = text.parse().ok()?;
        let tls = match uri.scheme()? {
            scheme if *scheme == Scheme::HTTPS => true,
            scheme if *scheme == Scheme::HTTP => false,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| is_host(authority.host()))?;
        // In `[::1]text:80`, the `http` crate takes `text` neither for the host nor for the port.
        let port = authority.as_str().strip_prefix(authority.host())?;
        if !port.is_empty() && port.strip_prefix(':').is_none_or(|port| !is_port(port)) {
            return None;
        }
        let path_and_query = uri.path_and_query().map_or("/", |path_and_query| path_and_query.as_str());
        let slash = if path_and_query.starts_with('/') { "" } else { "/" };
        Some(Self {
            tls,
            authority: authority.as_str().to_ascii_lowercase(),
            path_and_query: format!("{slash}{path_and_query}"),
        })
    }

    /// The scheme and the authority, as text.
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.authority)
    }

    /// Whether `uri` has this scheme and this authority, as text.
    pub fn is_origin_of(&self, uri: &Uri) -> bool {
        let scheme = if self.tls { Scheme::HTTPS } else { Scheme::HTTP };
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        uri.scheme() == Some(&scheme) && self.authority.eq_ignore_ascii_case(authority)
    }

    /// Whether the scheme is `https`.
    pub const fn is_tls(&self) -> bool {
        self.tls
    }

    /// The host and, if given, the port, in lower case.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The path, which starts with a slash, and the query if there is one.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// The host, in lower case, an IPv6 address in its brackets.
    pub fn host(&self) -> &str {
        match self.authority.rfind(']') {
            Some(end) => self.authority.get(..=end).unwrap_or_default(),
            None => self.authority.split(':').next().unwrap_or_default(),
        }
    }

    /// The port, if it is given.
    pub fn port(&self) -> Option<&str> {
        self.authority.strip_prefix(self.host())?.strip_prefix(':')
    }

    /// Whether the address is a bare origin: no path but the root, and no query.
    pub fn is_origin(&self) -> bool {
        self.path_and_query == "/"
    }

    /// Whether the host is a loopback address, or the name that stands for one (RFC 6761, section 6.3).
    pub fn is_loopback(&self) -> bool {
        let host = self.host();
        host == "localhost"
            || host == "[::1]"
            || host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback())
    }

    /// Whether both have the same scheme, host and port.
    pub(super) fn has_origin_of(&self, other: &Self) -> bool {
        // A port that is given is a number.
        let port = |endpoint: &Self| endpoint.port().and_then(|port| port.parse::<u16>().ok());
        let usual = if self.tls { 443 } else { 80 };
        let (own, others) = (port(self).unwrap_or(usual), port(other).unwrap_or(usual));
        self.tls == other.tls && self.host() == other.host() && own == others
    }

    /// The same origin with another path and query.
    pub(super) fn at(&self, path_and_query: String) -> Self {
        Self { tls: self.tls, authority: self.authority.clone(), path_and_query }
    }

    /// The same address with `pairs` appended to the query, encoded as a form.
    pub(super) fn with_query(&self, pairs: &[(&str, &str)]) -> Self {
        let (path, query) = self.path_and_query.split_once('?').unwrap_or((&self.path_and_query, ""));
        let query =
            form_urlencoded::Serializer::for_suffix(format!("{path}?{query}"), path.len().saturating_add(1))
                .extend_pairs(pairs)
                .finish();
        self.at(query)
    }
}

/// Whether a host is this machine, or one that only this machine can reach, as the metadata service is. For a
/// host of the gateway: no proxy may get a call to these.
pub fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_local_v4 = |v4: Ipv4Addr| v4.is_loopback() || v4.is_link_local() || v4.is_unspecified();
    let is_local_v6 = |v6: Ipv6Addr| v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified();
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => is_local_v4(address),
        Ok(IpAddr::V6(address)) => is_local_v6(address),
        Err(_) => host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost"),
    }
}

/// Whether `text` is a number from 1 to 65535, in digits.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse().is_ok_and(|port: u16| port > 0)
}

/// Whether `text` is a name, an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => {
            !text.is_empty()
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-')
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hosts_are_this_machine_and_its_link() {
        for (host, expected) in [
            ("127.0.0.1", true),
            ("169.254.169.254", true),
            ("[::1]", true),
            ("[fe80::1]", true),
            ("[::ffff:127.0.0.1]", true),
            ("0.0.0.0", true),
            ("a.LOCALHOST", true),
            ("10.0.0.1", false),
            ("[fd00::1]", false),
            ("localhost.example", false),
        ] {
            assert_eq!(is_local(host), expected, "{host}");
        }
    }

    #[test]
    fn an_origin_is_compared_as_a_whole() {
        let known =
            ["https://my-vault.vault.azure.net/", "http://127.0.0.1:41741/MSI/token/"].map(Endpoint::parse);
        for (uri, expected) in [
            ("https://MY-VAULT.vault.azure.net/secrets/a", true),
            ("http://127.0.0.1:41741/other", true),
            ("http://my-vault.vault.azure.net/secrets/a", false),
            ("https://my-vault.vault.azure.net:8443/", false),
            ("https://my-vault.vault.azure.net.attacker.example/", false),
            ("https://my-vault.vault.azure.net@attacker.example/", false),
            ("https://127.0.0.1:41741/", false),
            ("http://127.0.0.1/", false),
            ("/secrets/a", false),
        ] {
            let uri = uri.parse().unwrap();
            assert_eq!(known.iter().flatten().any(|known| known.is_origin_of(&uri)), expected, "{uri}");
        }
    }

    #[test]
    fn parses_absolute_http_addresses() {
        for (text, parts) in [
            ("http://localhost:42356/msi/token", Some((false, "localhost:42356", "/msi/token"))),
            ("http://127.0.0.1:41741/MSI/token/", Some((false, "127.0.0.1:41741", "/MSI/token/"))),
            ("http://172.16.2.6:8081/msi/token?x=1", Some((false, "172.16.2.6:8081", "/msi/token?x=1"))),
            ("https://My-Vault.Vault.Azure.Net", Some((true, "my-vault.vault.azure.net", "/"))),
            ("HTTPS://a:443/", Some((true, "a:443", "/"))),
            ("http://[::1]:80/x", Some((false, "[::1]:80", "/x"))),
            ("http://a?x=1", Some((false, "a", "/?x=1"))),
            ("http://a*/", None),
            ("http://a,b/", None),
            ("http://a%2Fb/", None),
            ("http://[x]/", None),
            ("http://[::1]error:1/", None),
            ("http://[::1]error/", None),
            ("http://[::1]:/", None),
            ("http://[::1", None),
            ("http://a:+1/", None),
            ("http://a:080/", Some((false, "a:080", "/"))),
            ("http://a:1:2/", None),
            ("http://a:0/", None),
            ("http://a:/", None),
            ("http://a:x/", None),
            ("http://a:65536/", None),
            ("http://user@a/", None),
            ("http://user:pass@a/", None),
            ("http://a/#part", None),
            ("http://a b/", None),
            ("http://a/\r\nx: y", None),
            ("http:///path", None),
            ("ftp://a/", None),
            ("//a/", None),
            ("/path", None),
            ("a.vault.azure.net", None),
            ("", None),
        ] {
            let endpoint = Endpoint::parse(text);
            let parsed = endpoint
                .as_ref()
                .map(|endpoint| (endpoint.is_tls(), endpoint.authority(), endpoint.path_and_query()));
            assert_eq!(parsed, parts, "{text:?}");
        }
    }

    #[test]
    fn recognizes_loopback_hosts() {
        for (text, loopback) in [
            ("http://127.0.0.1", true),
            ("http://127.8.8.8:1", true),
            ("http://localhost:1", true),
            ("http://[::1]:1", true),
            ("http://128.0.0.1", false),
            ("http://127.0.0.1.example.com", false),
            ("http://localhost.example.com", false),
            ("http://[::2]", false),
            ("http://0.0.0.0", false),
        ] {
            assert_eq!(Endpoint::parse(text).unwrap().is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn appends_pairs_to_the_query() {
        let pairs = [("api-version", "1"), ("resource", "https://vault.azure.net")];
        let joined = "api-version=1&resource=https%3A%2F%2Fvault.azure.net";
        for (text, path_and_query) in [
            ("http://a", format!("/?{joined}")),
            ("http://a/msi/token", format!("/msi/token?{joined}")),
            ("http://a/msi/token/", format!("/msi/token/?{joined}")),
            ("http://a/msi/token?", format!("/msi/token?{joined}")),
            ("http://a/msi/token?x=1", format!("/msi/token?x=1&{joined}")),
        ] {
            assert_eq!(
                Endpoint::parse(text).unwrap().with_query(&pairs).path_and_query(),
                path_and_query,
                "{text}"
            );
        }
    }

    #[test]
    fn splits_host_and_port() {
        for (text, host, port) in [
            ("http://a.b:80", "a.b", Some("80")),
            ("http://a.b", "a.b", None),
            ("http://[::1]:80", "[::1]", Some("80")),
            ("http://[::1]", "[::1]", None),
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.host(), endpoint.port()), (host, port), "{text}");
        }
    }
}
