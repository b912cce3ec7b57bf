//! All settings at once: valid settings give valid calls to configured addresses, and no secret leaks.
//!
//! An input has a line `NAME=value` for each setting.

#![no_main]

use std::net::Ipv4Addr;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use keyvault_gateway_fuzz::*;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(text) else { return Corpus::Reject };
    let settings: Vec<(&str, String)> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| {
            // Secrets are marked. Other values may appear in errors and logs.
            let bytes = if SECRETS.contains(&name) { marked(value.as_bytes()) } else { value.into() };
            (name, String::from_utf8(bytes).unwrap_or_default())
        })
        .collect();
    let value = |name: &str| {
        settings.iter().rfind(|setting| setting.0 == name).map_or("", |setting| setting.1.as_str())
    };
    let key = Some(value("GATEWAY_KEY")).filter(|key| !key.is_empty());
    let gateway = TestGateway::new(settings.iter().map(|(name, value)| (*name, value.as_str())), None);

    let anonymous = value("GATEWAY_ALLOW_ANONYMOUS").eq_ignore_ascii_case("true");
    for wrong in [None, Some(WRONG_KEY)] {
        let reply = gateway.post(wrong, REQUEST);
        expect_no_mark(&reply);
        match reply.status().as_u16() {
            200 => assert!(anonymous, "{wrong:?} was accepted"),
            401 => assert!(!anonymous, "an anonymous caller was rejected"),
            500 => {}
            status => panic!("{status}"),
        }
        assert_eq!(gateway.sent().is_empty(), reply.status() != 200, "a call for {wrong:?}");
    }

    let reply = gateway.post(key, REQUEST);
    expect_no_mark(&reply);
    gateway.expect_no_leak();
    match reply.status().as_u16() {
        200 => assert!(key.is_some() || anonymous, "a caller without a key was accepted"),
        401 => assert!(key.is_none() && !anonymous, "a caller was rejected"),
        500 => {
            let body = text_of(&reply);
            let start = r#"{"error":{"code":"ConfigurationError","message":"The setting "#;
            let name = body.strip_prefix(start).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            assert!(!name.is_empty() && PAGE.contains(&format!("`{name}`")), "{body}");
        }
        status => panic!("{status}"),
    }
    assert_eq!(gateway.sent().is_empty(), reply.status() != 200);

    for (call, _) in gateway.sent().iter() {
        check_form(call);
        let (to, body) = (call.endpoint(), call.body().expose());
        let host = to.authority();
        let goes_to = |name: &str| authority(value(name)) == host;
        match call.service() {
            Service::Vault => {
                assert!(goes_to("KeyVaultUri") || goes_to("KEY_VAULT_URI"), "{host}");
                assert!(to.is_tls() || is_loopback(host), "{host}");
                let fields = call.headers().iter().map(|header| header.1.expose().as_bytes());
                let mut all = fields.chain([to.path_and_query().as_bytes(), body]);
                assert!(!all.any(has_mark), "a secret was sent to the vault");
            }
            Service::TokenSource => {
                let set = ENDPOINTS.iter().any(|name| goes_to(name));
                assert!(set || DEFAULT_SOURCES.contains(&host), "{host}");
                assert!(call.headers().iter().all(|header| header.0 != "authorization"), "a token was sent");
                let sends_secret = contains(body, b"client_secret=");
                assert!(to.is_tls() || is_loopback(host) || !sends_secret, "{host}");
            }
            Service::Jwks => panic!("no request has an access token"),
        }
    }
    Corpus::Keep
});

/// Fails if the call is not valid HTTP.
fn check_form(call: &Call) {
    let (to, scheme) = (call.endpoint(), if call.endpoint().is_tls() { "https" } else { "http" });
    let uri = Uri::builder().scheme(scheme).authority(to.authority()).path_and_query(to.path_and_query());
    let uri = uri.build().expect("a URI");
    assert_eq!(uri.path_and_query().map(PathAndQuery::as_str), Some(to.path_and_query()));
    for (name, value) in call.headers() {
        HeaderName::from_lowercase(name.as_bytes()).expect("a field name");
        HeaderValue::from_str(value.expose()).expect("a field value");
    }
    assert_eq!(call.method() == "POST", !call.body().expose().is_empty());
}

/// The host and port of a URI.
fn authority(text: &str) -> String {
    let rest = text.split_once("://").map_or("", |parts| parts.1);
    rest.split(['/', '?']).next().unwrap_or_default().to_ascii_lowercase()
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let is_v4 = host.parse().is_ok_and(|address: Ipv4Addr| address.is_loopback());
    is_v4 || ["localhost", "[::1]"].contains(&host)
}

/// A key that no input contains, and no hash of which is in the corpus.
const WRONG_KEY: &str = "a-wrong-key";

const SECRETS: [&str; 5] =
    ["GATEWAY_KEY", "GATEWAY_STORE_KEY", "IDENTITY_HEADER", "MSI_SECRET", "AZURE_CLIENT_SECRET"];

const ENDPOINTS: [&str; 4] =
    ["IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_AUTHORITY_HOST", "AZURE_POD_IDENTITY_AUTHORITY_HOST"];

/// The token sources that need no setting.
const DEFAULT_SOURCES: [&str; 4] =
    ["169.254.169.254", "login.microsoftonline.com", "login.chinacloudapi.cn", "login.microsoftonline.us"];

/// The page that documents every setting (`tests/deployments.rs`).
const PAGE: &str = include_str!("../../docs/reference/settings.md");
