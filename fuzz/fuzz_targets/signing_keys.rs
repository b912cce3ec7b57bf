//! The JWKS of the directory: a token is accepted only if its signing key is in the JWKS.
//!
//! An input is a byte for the status, a line with `Retry-After`, and the body.

#![no_main]

use keyvault_gateway_fuzz::*;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(response) = parse_response(data) else { return Corpus::Reject };
    let gateway = TestGateway::new(WITH_TENANT, Some((Service::Jwks, response.clone())));
    let reply = gateway.post_with_token(VALID_TOKENS[0].as_bytes(), REQUEST);

    let answer = outcome(&reply);
    expect_outcome_of_issuer(answer, response.status);
    assert!((1..=3).contains(&gateway.count(Service::Jwks)));
    if answer.0 == 200 {
        let keys: Value = serde_json::from_str(JWKS).unwrap();
        let modulus = keys["keys"][0]["n"].as_str().unwrap();
        let published = match serde_json::from_slice::<Value>(&response.body) {
            Ok(json) => {
                json["keys"].as_array().is_some_and(|keys| keys.iter().any(|key| key["n"] == modulus))
            }
            // A document that only the other parser refuses contains the key, perhaps with escapes.
            Err(_) => response.body.contains(&b'\\') || contains(&response.body, modulus.as_bytes()),
        };
        assert!(published, "accepted without its key");
    } else {
        assert_eq!(gateway.count(Service::Vault), 0);
    }
    gateway.expect_no_leak();
    Corpus::Keep
});
