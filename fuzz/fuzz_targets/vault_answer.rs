//! The vault's answer: an accepted answer has the requested secret, and no other answer leaks.
//!
//! An input is a byte for the version of the request, one for the status, a line with `Retry-After`, and the
//! body.

#![no_main]

use keyvault_gateway_fuzz::*;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((version, rest)) = pick(data, &[None, Some(VERSION)]) else { return Corpus::Reject };
    let Some(response) = parse_response(rest) else { return Corpus::Reject };
    let gateway = TestGateway::new(WITH_API_KEY, Some((Service::Vault, response.clone())));
    let request = json!({ "Secret": NAME, "Version": version }).to_string();

    let reply = gateway.post(Some("right"), request.as_bytes());
    let (tokens, secrets) = (gateway.count(Service::TokenSource), gateway.count(Service::Vault));
    // A refused token is replaced once.
    assert_eq!(tokens, if response.status == 401 { 2 } else { 1 });
    // With the new token there are up to three attempts, if the refusal may be temporary.
    assert!((1..=3 + usize::from(response.status == 401)).contains(&secrets), "{secrets} calls");
    gateway.expect_no_leak();

    let answer = outcome(&reply);
    let expected: &[_] = match response.status {
        200 => &[(200, "OK"), (502, "VaultError")],
        401 => &[(502, "VaultError"), (503, "Unavailable")],
        403 => &[(403, "SecretDisabled"), (403, "VaultAccessDenied")],
        404 => &[(404, "SecretNotFound"), (502, "VaultError")],
        429 => &[(503, "VaultThrottled")],
        408 | 500..=599 => &[(503, "Unavailable")],
        _ => &[(502, "VaultError")],
    };
    assert!(expected.contains(&answer), "{answer:?} after a {}", response.status);
    if answer.0 != 200 {
        return Corpus::Keep;
    }

    let body: Value = serde_json::from_slice(reply.body().expose()).unwrap();
    assert_eq!(body["Secret"], NAME);
    let etag = reply.headers().first("etag").unwrap().trim_matches('"');
    assert_eq!(etag.len(), 32);
    assert!(etag.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{etag:?}");
    assert!(version.is_none_or(|version| version == etag), "{etag} is not the requested version");
    if let Ok(json) = serde_json::from_slice::<Value>(&response.body) {
        let object = json.as_object().expect("an answer with a secret is an object");
        assert_eq!(object["value"], body["Value"]);
        let id = object["id"].as_str().unwrap().to_ascii_lowercase();
        let path = format!("secrets/{}/{etag}", NAME.to_ascii_lowercase());
        assert!(id == path || id.ends_with(&format!("/{path}")), "{id}");
    }

    // The next request gets the same value from the cache.
    let again = gateway.post(Some("right"), request.as_bytes());
    assert_eq!(again.body().expose(), reply.body().expose());
    assert_eq!(gateway.count(Service::Vault), secrets);
    Corpus::Keep
});

const NAME: &str = "Db-Password";
