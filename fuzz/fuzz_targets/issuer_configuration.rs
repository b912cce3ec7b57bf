//! The configuration of an OIDC issuer: it leads to the issuer's own origin, and to no other.
//!
//! An input is a byte for the status, a line with `Retry-After`, and the body.

#![no_main]

use http::Uri;
use keyvault_gateway_fuzz::*;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(response) = parse_response(data) else { return Corpus::Reject };
    let gateway = TestGateway::new(WITH_ISSUERS, Some((Service::Jwks, response.clone())));
    let reply = gateway.post_with_token(ISSUER_TOKENS[0].as_bytes(), REQUEST);

    // The JWKS endpoint gives the same answer, which is a JWKS only if it has the issuer's key.
    expect_outcome_of_issuer(outcome(&reply), response.status);
    let sent = gateway.sent();
    let is_first = |call: &Call| call.endpoint().path_and_query() == "/.well-known/openid-configuration";
    assert!(is_first(&sent[0].0));
    for (call, _) in sent.iter().filter(|(call, _)| call.service() == Service::Jwks && !is_first(call)) {
        let to = call.endpoint();
        assert!(to.is_tls() && to.authority() == "oidc.example", "{to:?}");
        // Another parser finds the same issuer and address.
        if let Ok(document) = serde_json::from_slice::<Value>(&response.body) {
            assert_eq!(document["issuer"], ISSUER);
            let uri: Uri = document["jwks_uri"].as_str().unwrap().parse().unwrap();
            assert_eq!(uri.host().map(str::to_ascii_lowercase).as_deref(), Some("oidc.example"));
            assert_eq!(uri.path_and_query().unwrap(), to.path_and_query());
        }
    }
    drop(sent);
    gateway.expect_no_leak();
    Corpus::Keep
});
