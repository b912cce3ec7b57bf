//! The vault's answer: what is taken for a secret is the one that was asked for, and nothing of any other answer is
//! in a reply.
//!
//! An input is a byte that says whether a version is asked for, one for the status, a line with `Retry-After`, and the body.

#![no_main]

use keyvault_gateway_fuzz::*;

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((version, rest)) = choice(data, &[None, Some(VERSION)]) else { return Corpus::Reject };
    let Some(made) = response(rest) else { return Corpus::Reject };
    let scene = Scene::new(KEYED, Some((Service::Vault, made.clone())));
    let asked = json!({ "Secret": NAME, "Version": version }).to_string();

    let reply = scene.ask(Some("right"), asked.as_bytes());
    let (tokens, secrets) = (scene.count(Service::Identity), scene.count(Service::Vault));
    // A token that is refused is replaced once.
    assert_eq!(tokens, if made.status == 401 { 2 } else { 1 });
    // Then it is asked for up to three times, if the refusal may pass.
    assert!((1..=3 + usize::from(made.status == 401)).contains(&secrets), "{secrets} calls");
    scene.keeps_to_itself();

    let answer = outcome(&reply);
    let right: &[_] = match made.status {
        200 => &[(200, "OK"), (502, "VaultError")],
        401 => &[(502, "VaultError"), (503, "Unavailable")],
        403 => &[(403, "SecretDisabled"), (403, "VaultAccessDenied")],
        404 => &[(404, "SecretNotFound"), (502, "VaultError")],
        429 => &[(503, "VaultThrottled")],
        408 | 500..=599 => &[(503, "Unavailable")],
        _ => &[(502, "VaultError")],
    };
    assert!(right.contains(&answer), "{answer:?} after a {}", made.status);
    if answer.0 != 200 {
        return Corpus::Keep;
    }

    let body: Value = serde_json::from_slice(reply.body().expose()).unwrap();
    assert_eq!(body["Secret"], NAME);
    let tag = reply.fields().first("etag").unwrap().trim_matches('"');
    assert_eq!(tag.len(), 32);
    assert!(tag.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f')), "{tag:?}");
    assert!(version.is_none_or(|it| it == tag), "{tag} is not the version that was asked for");
    if let Ok(json) = serde_json::from_slice::<Value>(&made.body) {
        let object = json.as_object().expect("only an object is a secret");
        assert_eq!(object["value"], body["Value"]);
        let id = object["id"].as_str().unwrap().to_ascii_lowercase();
        let path = format!("secrets/{}/{tag}", NAME.to_ascii_lowercase());
        assert!(id == path || id.ends_with(&format!("/{path}")), "{id}");
    }

    // The next caller gets the same, from memory.
    let again = scene.ask(Some("right"), asked.as_bytes());
    assert_eq!(again.body().expose(), reply.body().expose());
    assert_eq!(scene.count(Service::Vault), secrets);
    Corpus::Keep
});

const NAME: &str = "Db-Password";
