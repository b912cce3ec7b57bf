//! The names of the gateway that an anonymous request may use: a defence against DNS rebinding.
//!
//! A web page can make its own name resolve to the gateway's address, and then read answers as its own. Its
//! requests reveal that name, in their authority and in `Origin`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::http::headers::Headers;

/// The names of `GATEWAY_ALLOWED_HOSTS`. Loopback names are always allowed.
#[derive(Debug)]
pub(super) struct AllowedHosts(Vec<String>);

impl AllowedHosts {
    /// Parses host names with commas between them.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let names =
            text.split(',').map(|name| name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty());
        let names: Vec<String> = names.collect();
        names.iter().all(|name| host_of(name) == Some(name)).then_some(Self(names))
    }

    /// Whether every name of the gateway in the request is allowed: the authority, each `Host` and each
    /// `Origin`. Some hosts do not tell the first two. A header that is not text has no allowed name.
    pub(super) fn allow(&self, authority: Option<&str>, headers: &Headers) -> bool {
        authority.is_none_or(|authority| self.has(authority))
            && headers.all("host").all(|host| host.is_some_and(|host| self.has(host)))
            && headers
                .all("origin")
                .all(|origin| origin.and_then(origin_authority).is_some_and(|authority| self.has(authority)))
    }

    fn has(&self, authority: &str) -> bool {
        let authority = authority.to_ascii_lowercase();
        host_of(&authority).is_some_and(|host| is_loopback(host) || self.0.iter().any(|name| name == host))
    }
}

/// The authority of an origin (RFC 6454, section 7.1). The origin `null` has none.
fn origin_authority(origin: &str) -> Option<&str> {
    let (scheme, authority) = origin.split_once("://")?;
    ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)).then_some(authority)
}

/// The host of an authority in lower case and without user information (RFC 9110, section 4.2): a name or an
/// address.
fn host_of(authority: &str) -> Option<&str> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            let (host, port) = authority.split_at_checked(end.checked_add(2)?)?;
            (host, port)
        }
        None => authority.split_at_checked(authority.find(':').unwrap_or(authority.len()))?,
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !host.is_empty() && host.bytes().all(in_name);
    let is_host = is_name || address(host).is_some();
    (is_host && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))).then_some(host)
}

/// Whether `host` is a loopback address, or the name that stands for one (RFC 6761, section 6.3).
fn is_loopback(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|address| address.is_loopback())
}

fn address(host: &str) -> Option<IpAddr> {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => host.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn allows_loopback_and_the_configured_names() {
        for (authority, allowed) in [
            ("localhost", true),
            ("LOCALHOST:8080", true),
            ("127.0.0.1:8080", true),
            ("127.8.8.8", true),
            ("[::1]:8080", true),
            ("gateway.internal", true),
            ("Gateway.Internal:443", true),
            ("10.0.0.7:80", true),
            ("attacker.example", false),
            ("attacker.example:8080", false),
            ("localhost.attacker.example", false),
            ("127.0.0.1.attacker.example", false),
            ("attacker@localhost", false),
            ("localhost:8080@attacker.example", false),
            ("localhost:x", false),
            ("[::1", false),
            ("[::1]x", false),
            ("[::2]", false),
            ("10.0.0.8", false),
            ("0.0.0.0", false),
            ("not-gateway.internal", false),
            ("gateway.internal.attacker.example", false),
            ("", false),
        ] {
            let hosts = AllowedHosts::parse("gateway.internal, 10.0.0.7").unwrap();
            let origin = format!("http://{authority}");
            for (authority, headers) in [
                (None, vec![("host", authority)]),
                (Some(authority), vec![]),
                (None, vec![("origin", &origin)]),
            ] {
                let allows = hosts.allow(authority, &headers.iter().copied().collect());
                assert_eq!(allows, allowed, "{authority:?} {headers:?}");
            }
        }
    }

    #[test]
    fn without_an_authority_the_headers_count() {
        let hosts = AllowedHosts::parse("").unwrap();
        for (fields, allowed) in [
            (&[][..], true),
            (&[("origin", "https://localhost:3000")], true),
            (&[("origin", "null")], false),
            (&[("origin", "file://localhost")], false),
            (&[("origin", "")], false),
            (&[("origin", "http://localhost"), ("origin", "http://attacker.example")], false),
        ] {
            assert_eq!(hosts.allow(None, &fields.iter().copied().collect()), allowed, "{fields:?}");
        }
        for (authority, host, allowed) in [
            ("attacker.example", "localhost".as_bytes(), false),
            ("localhost", b"attacker.example", false),
            ("localhost", b"attacker\xFF.example", false),
            ("localhost", b"127.0.0.1:80", true),
        ] {
            let fields = Headers::from_iter([("host", host)]);
            assert_eq!(hosts.allow(Some(authority), &fields), allowed, "{authority} {host:?}");
            assert_eq!(hosts.allow(None, &fields), allowed || host == b"localhost", "{host:?}");
        }
    }

    #[test]
    fn the_setting_takes_only_host_names() {
        for text in ["a,b.example", " A , [::2] ,", ""] {
            assert!(AllowedHosts::parse(text).is_some(), "{text:?}");
        }
        for text in ["http://a", "a:80", "a/b", "*", "a b", "*.example"] {
            assert!(AllowedHosts::parse(text).is_none(), "{text:?}");
        }
    }
}
