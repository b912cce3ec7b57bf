//! The access token of a caller: the gateway takes none that the tenant has not signed, whatever it says of itself.
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
    // A head of 32 KiB is refused as a whole, whatever is in it.
    if token.len() > 30 * 1024 {
        return Corpus::Reject;
    }
    // Blanks between the scheme and the token are not a part of it.
    let token = token.trim_start_matches(' ');

    // What has the form of a token has three parts, and asks for nothing but the one algorithm, as another parser sees it.
    let read = Jwt::parse(token).filter(|_| token.bytes().all(|it| matches!(it, b'\t' | b' '..=b'~')));
    if let Some(jwt) = &read {
        let header = token.split('.').next().unwrap();
        let header = BASE64_URL_SAFE_NO_PAD.decode(header).expect("base64url");
        if let Ok(header) = serde_json::from_slice::<Value>(&header) {
            assert_eq!(header["alg"], "RS256");
            assert_eq!(header["kid"], jwt.key_id());
            for name in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "enc", "zip"] {
                assert!(header.get(name).is_none(), "{name}");
            }
        }
        assert_eq!(token.split('.').count(), 3);
        assert!(token.len() <= 16 * 1024);
    }

    let scene = Scene::new(TENANT, None);
    let reply = scene.ask_with_token(token.as_bytes(), ASKED);
    let good = GOOD_TOKENS.contains(&token);
    assert_eq!(reply.status().as_u16(), if good { 200 } else { 401 });
    assert_eq!(scene.sent().len(), if good { 3 } else { usize::from(read.is_some()) });
    for (call, _) in scene.sent().iter() {
        assert!(call.headers().iter().all(|(_, value)| value.expose().len() < 100), "the token goes on");
    }
    scene.keeps_to_itself();
    Corpus::Keep
});
