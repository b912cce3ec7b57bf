//! The token of a caller: the gateway accepts only tokens that the tenant or the issuer has signed.
//!
//! An input is the token.

#![no_main]

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keyvault_gateway::auth::jwt::Jwt;
use keyvault_gateway_fuzz::*;

fuzz_target!(|token: &[u8]| -> Corpus {
    let token = marked(token);
    let Ok(token) = str::from_utf8(&token) else { return Corpus::Reject };
    // The gateway refuses every head of more than 32 KiB.
    if token.len() > 30 * 1024 {
        return Corpus::Reject;
    }
    // Spaces between the scheme and the token are not part of the token.
    let token = token.trim_start_matches(' ');

    // A parsed token has three parts, RS256 or ES256 and no other source for its key, as another JSON parser
    // reads it.
    let parsed = Jwt::parse(token).filter(|_| token.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')));
    if let Some(jwt) = &parsed {
        let header = token.split('.').next().unwrap();
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).expect("base64url");
        if let Ok(header) = serde_json::from_slice::<Value>(&header) {
            assert!(header["alg"] == "RS256" || header["alg"] == "ES256");
            assert_eq!(header["kid"], jwt.key_id());
            for name in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "enc", "zip"] {
                assert!(header.get(name).is_none(), "{name}");
            }
        }
        assert_eq!(token.split('.').count(), 3);
        assert!(token.len() <= 16 * 1024);
    }

    let gateway = TestGateway::new(WITH_ISSUERS, None);
    let reply = gateway.post_with_token(token.as_bytes(), REQUEST);
    let valid = VALID_TOKENS.contains(&token) || ISSUER_TOKENS.contains(&token);
    assert_eq!(reply.status().as_u16(), if valid { 200 } else { 401 });
    // The issuer that the token names is called for its keys, and for its configuration before that.
    let keys = match parsed.as_ref().and_then(Jwt::issuer) {
        Some(ISSUER) => 2,
        Some(issuer) => usize::from(is_tenant(issuer)),
        None => 0,
    };
    assert_eq!(gateway.sent().len(), if valid { keys + 2 } else { keys });
    for (call, _) in gateway.sent().iter() {
        assert!(call.headers().iter().all(|(_, value)| value.expose().len() < 100), "the token was sent on");
    }
    gateway.expect_no_leak();
    Corpus::Keep
});

fn is_tenant(issuer: &str) -> bool {
    [
        "https://sts.windows.net/6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42/",
        "https://login.microsoftonline.com/6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42/v2.0",
    ]
    .contains(&issuer)
}
