//! `GATEWAY_OIDC`: the gateway calls a listed issuer only, and accepts a token for the listed audience only.

#![no_main]

use http::Uri;
use keyvault_gateway_fuzz::*;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(text) else { return Corpus::Reject };
    let settings = [WITH_ISSUERS[0], ("GATEWAY_OIDC", text), WITH_ISSUERS[3], ("GATEWAY_CALLERS", CALLERS)];
    let gateway = TestGateway::new(settings, None);
    let reply = gateway.post_with_token(ISSUER_TOKENS[1].as_bytes(), REQUEST);
    let body = text_of(&reply);
    if reply.status() == 500 {
        assert!(
            body.contains("The setting GATEWAY_OIDC ") || body.contains("The setting GATEWAY_CALLERS "),
            "{body}"
        );
        assert!(gateway.sent().is_empty());
        return Corpus::Keep;
    }
    // Another JSON parser finds one entry for the issuer of the caller.
    let parsed: Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).unwrap();
    let [entry] = parsed.as_array().unwrap().as_slice() else { panic!("an issuer without a caller") };
    assert_eq!(entry["issuer"], ISSUER);
    let audience = entry["audience"].as_str().unwrap();
    assert!(audience != ISSUER && !audience.starts_with("api://AzureADTokenExchange"), "{audience}");
    if reply.status() == 200 {
        assert_eq!(audience, "keyvault-gateway");
    }
    let uri: Uri = entry["jwks_uri"].as_str().unwrap_or(ISSUER).parse().unwrap();
    let is_loopback =
        ["localhost", "[::1]"].contains(&uri.host().unwrap()) || uri.host().unwrap().starts_with("127.");
    assert!(uri.scheme_str() == Some("https") || is_loopback, "{uri}");
    for (call, _) in gateway.sent().iter().filter(|(call, _)| call.service() == Service::Jwks) {
        let to = call.endpoint();
        assert_eq!(to.authority(), uri.authority().unwrap().as_str().to_ascii_lowercase());
        assert_eq!(to.is_tls(), uri.scheme_str() == Some("https"));
    }
    gateway.expect_no_leak();
    Corpus::Keep
});

const CALLERS: &str = r#"[{"name":"account","iss":"https://oidc.example",
    "sub":["system:serviceaccount:billing:app"],"secrets":["*"]}]"#;
