//! The directory's answer: a caller is let in only if the key that has signed its token is there, and nothing of the answer
//! is in a reply.
//!
//! An input is a byte for the status, a line with `Retry-After`, and the body.

#![no_main]

use keyvault_gateway_fuzz::*;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(made) = response(data) else { return Corpus::Reject };
    let scene = Scene::new(TENANT, Some((Service::Directory, made.clone())));
    let reply = scene.ask_with_token(GOOD_TOKENS[0].as_bytes(), ASKED);

    let answer = outcome(&reply);
    let right: &[_] = match made.status {
        200 => &[(200, "OK"), (401, "Unauthorized"), (502, "IdentityError")],
        429 => &[(503, "IdentityThrottled")],
        408 | 500..=599 => &[(503, "Unavailable")],
        _ => &[(502, "IdentityError")],
    };
    assert!(right.contains(&answer), "{answer:?} after a {}", made.status);
    assert!((1..=3).contains(&scene.count(Service::Directory)));
    if answer.0 == 200 {
        let keys: Value = serde_json::from_str(KEYS).unwrap();
        let modulus = keys["keys"][0]["n"].as_str().unwrap();
        let published = match serde_json::from_slice::<Value>(&made.body) {
            Ok(json) => json["keys"].as_array().is_some_and(|it| it.iter().any(|it| it["n"] == modulus)),
            // What that parser refuses for something else has the key as it is, but for escapes.
            Err(_) => made.body.contains(&b'\\') || has(&made.body, modulus.as_bytes()),
        };
        assert!(published, "let in without a key");
    } else {
        assert_eq!(scene.count(Service::Vault), 0);
    }
    scene.keeps_to_itself();
    Corpus::Keep
});
