//! All settings at once: with all that is accepted, calls are sound and go where the settings say, and no secret shows.
//!
//! An input has a line `NAME=value` for each setting.

#![no_main]

use core::net::Ipv4Addr;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use keyvault_gateway_fuzz::*;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(text) else { return Corpus::Reject };
    let settings: Vec<(&str, String)> = text
        .lines()
        .filter_map(|it| it.split_once('='))
        .map(|(name, value)| {
            // What must not show is marked; of the others some are shown.
            let bytes = if SECRETS.contains(&name) { marked(value.as_bytes()) } else { value.into() };
            (name, String::from_utf8(bytes).unwrap_or_default())
        })
        .collect();
    let value = |name: &str| settings.iter().rfind(|it| it.0 == name).map_or("", |it| it.1.as_str());
    let key = Some(value("GATEWAY_KEY")).filter(|it| !it.is_empty());
    let scene = Scene::new(settings.iter().map(|(name, value)| (*name, value.as_str())), None);

    let anonymous = value("GATEWAY_ALLOW_ANONYMOUS").eq_ignore_ascii_case("true");
    for wrong in [None, Some(WRONG_KEY)] {
        let reply = scene.ask(wrong, ASKED);
        shows_nothing(&reply);
        match reply.status().as_u16() {
            200 => assert!(anonymous, "{wrong:?} was let in"),
            401 => assert!(!anonymous, "an anonymous caller was not let in"),
            500 => {}
            status => panic!("{status}"),
        }
        assert_eq!(scene.sent().is_empty(), reply.status() != 200, "a call for {wrong:?}");
    }

    let reply = scene.ask(key, ASKED);
    shows_nothing(&reply);
    scene.keeps_to_itself();
    match reply.status().as_u16() {
        200 => assert!(key.is_some() || anonymous, "a caller without a key was let in"),
        401 => assert!(key.is_none() && !anonymous, "a caller was not let in"),
        500 => {
            let body = text_of(&reply);
            let start = r#"{"error":{"code":"ConfigurationError","message":"The setting "#;
            let name = body.strip_prefix(start).and_then(|it| it.split(' ').next()).unwrap_or_default();
            assert!(!name.is_empty() && PAGE.contains(&format!("`{name}`")), "{body}");
        }
        status => panic!("{status}"),
    }
    assert_eq!(scene.sent().is_empty(), reply.status() != 200);

    for (call, _) in scene.sent().iter() {
        check_form(call);
        let (to, body) = (call.endpoint(), call.body().expose());
        let host = to.authority();
        let goes_to = |name: &str| authority(value(name)) == host;
        match call.upstream() {
            Service::Vault => {
                assert!(goes_to("KeyVaultUri") || goes_to("KEY_VAULT_URI"), "{host}");
                assert!(to.is_tls() || is_loopback(host), "{host}");
                let fields = call.headers().iter().map(|it| it.1.expose().as_bytes());
                let mut all = fields.chain([to.path_and_query().as_bytes(), body]);
                assert!(!all.any(has_mark), "the vault is told a secret");
            }
            Service::Identity => {
                let set = ENDPOINTS.iter().any(|name| goes_to(name));
                assert!(set || ELSEWHERE.contains(&host), "{host}");
                assert!(call.headers().iter().all(|it| it.0 != "authorization"), "a token leaves");
                let tells_secret = has(body, b"client_secret=");
                assert!(to.is_tls() || is_loopback(host) || !tells_secret, "{host}");
            }
            Service::Directory => panic!("no request has a token"),
        }
    }
    Corpus::Keep
});

/// Fails if a host could not send this as it is.
fn check_form(call: &Call) {
    let (to, scheme) = (call.endpoint(), if call.endpoint().is_tls() { "https" } else { "http" });
    let uri = Uri::builder().scheme(scheme).authority(to.authority()).path_and_query(to.path_and_query());
    let uri = uri.build().expect("an address");
    assert_eq!(uri.path_and_query().map(PathAndQuery::as_str), Some(to.path_and_query()));
    for (name, value) in call.headers() {
        HeaderName::from_lowercase(name.as_bytes()).expect("the name of a field");
        HeaderValue::from_str(value.expose()).expect("the value of a field");
    }
    assert_eq!(call.method() == "POST", !call.body().expose().is_empty());
}

/// Host and port of an address, as text.
fn authority(text: &str) -> String {
    let rest = text.split_once("://").map_or("", |it| it.1);
    rest.split(['/', '?']).next().unwrap_or_default().to_ascii_lowercase()
}

fn is_loopback(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|it| it.is_ascii_digit()) => host,
        _ => authority,
    };
    let is_v4 = host.parse().is_ok_and(|it: Ipv4Addr| it.is_loopback());
    is_v4 || ["localhost", "[::1]"].contains(&host)
}

/// It is no setting's key, and no hash of it is in the corpus.
const WRONG_KEY: &str = "a-wrong-key";

const SECRETS: [&str; 5] =
    ["GATEWAY_KEY", "GATEWAY_STORE_KEY", "IDENTITY_HEADER", "MSI_SECRET", "AZURE_CLIENT_SECRET"];

const ENDPOINTS: [&str; 4] =
    ["IDENTITY_ENDPOINT", "MSI_ENDPOINT", "AZURE_AUTHORITY_HOST", "AZURE_POD_IDENTITY_AUTHORITY_HOST"];

/// Where tokens come from if no setting says so.
const ELSEWHERE: [&str; 4] =
    ["169.254.169.254", "login.microsoftonline.com", "login.chinacloudapi.cn", "login.microsoftonline.us"];

/// The page that documents every setting, as a test of the repository claims.
const PAGE: &str = include_str!("../../docs/settings.md");
