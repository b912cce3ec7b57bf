//! `GATEWAY_CALLERS`: a caller needs a listed API key, and reads the secrets in the scope beside it.

#![no_main]

use keyvault_gateway::model::SecretName;
use keyvault_gateway_fuzz::*;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = String::from_utf8(marked(text)) else { return Corpus::Reject };
    let mut settings = vec![WITH_ISSUERS[0], ("GATEWAY_CALLERS", text.as_str())];
    let mut gateway = TestGateway::new(settings.clone(), None);
    let mut without_key = gateway.post(None, &request_for("db-password"));
    // A list with callers by access token requires a tenant, and one with subjects an issuer.
    for (name, more) in [("GATEWAY_JWT_TENANT", &WITH_ISSUERS[1..3]), ("GATEWAY_OIDC", &WITH_ISSUERS[4..5])] {
        if without_key.status() == 500 && text_of(&without_key).contains(name) {
            settings.extend(more);
            gateway = TestGateway::new(settings.clone(), None);
            without_key = gateway.post(None, &request_for("db-password"));
        }
    }
    let parsed = serde_json::from_str::<Value>(if text.is_empty() { "[]" } else { &text });
    if without_key.status() == 500 {
        let body = text_of(&without_key);
        let start = r#"{"error":{"code":"ConfigurationError","message":"The setting GATEWAY_"#;
        let rest = body.strip_prefix(start).unwrap_or_else(|| panic!("{body}"));
        // The only other setting that can be wrong has no issuer for an `iss` of the list.
        let is_foreign = |caller: &Value| caller.get("iss").is_some_and(|iss| iss != ISSUER);
        let has_foreign = || parsed.as_ref().unwrap().as_array().unwrap().iter().any(is_foreign);
        assert!(rest.starts_with("CALLERS ") || (rest.starts_with("OIDC ") && has_foreign()), "{body}");
        return Corpus::Keep;
    }
    assert_eq!(without_key.status(), 401);
    assert_eq!(gateway.post(Some(""), &request_for("db-password")).status(), 401);
    assert!(gateway.sent().is_empty(), "a call without a key");

    // Another JSON parser finds the caller and the scope of each key.
    let parsed = parsed.unwrap();
    let callers = parsed.as_array().expect("only a list is accepted");
    for caller in callers {
        assert!(caller.is_object(), "only an object is a caller");
        let name = caller["name"].as_str().unwrap();
        assert!((1..=64).contains(&name.len()) && !["key", "anonymous"].contains(&name), "{name}");
        assert_eq!(callers.iter().filter(|other| other["name"] == name).count(), 1);
        let empty = strings(caller, "key_sha256").any(|hash| hash.eq_ignore_ascii_case(HASH_OF_NOTHING));
        assert!(!empty, "the empty key");
    }
    for (key, hash) in KEYS {
        let has_key =
            |caller: &&Value| strings(caller, "key_sha256").any(|listed| listed.eq_ignore_ascii_case(hash));
        let Some(caller) = callers.iter().find(has_key) else {
            assert_eq!(gateway.post(Some(key), &request_for("db-password")).status(), 401);
            continue;
        };
        let start = strings(caller, "secrets").next().unwrap_or_default().trim_end_matches('*');
        for name in ["db-password", start] {
            let allowed = strings(caller, "secrets").any(|pattern| fits(pattern, name));
            let expected = match SecretName::parse(name) {
                Some(_) if allowed => 200,
                Some(_) => 403,
                None => 400,
            };
            assert_eq!(gateway.post(Some(key), &request_for(name)).status(), expected, "{name}");
        }
    }
    // A subject is that of the issuer, exact or behind a prefix that ends in a colon.
    let is_account = |caller: &Value| {
        strings(caller, "sub").any(|sub| match sub.strip_suffix('*') {
            Some(prefix) => {
                prefix.ends_with(':') && prefix.matches(':').count() > 1 && ACCOUNT.starts_with(prefix)
            }
            None => sub == ACCOUNT,
        })
    };
    let accounts: Vec<_> = callers.iter().filter(|caller| is_account(caller)).collect();
    let reply = gateway.post_with_token(ISSUER_TOKENS[0].as_bytes(), &request_for("db-password"));
    let allowed = |caller: &&Value| strings(caller, "secrets").any(|pattern| fits(pattern, "db-password"));
    let expected = match accounts.as_slice() {
        [] => 401,
        accounts if accounts.iter().any(allowed) => 200,
        _ => 403,
    };
    assert_eq!(reply.status(), expected);
    Corpus::Keep
});

const ACCOUNT: &str = "system:serviceaccount:billing:app";

fn request_for(name: &str) -> Vec<u8> {
    json!({ "Secret": name }).to_string().into_bytes()
}

fn strings<'a>(caller: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    caller[name].as_array().into_iter().flatten().map(|text| text.as_str().unwrap())
}

fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    pattern.strip_suffix('*').map_or(name == pattern, |prefix| name.starts_with(prefix))
}

/// Two API keys and their SHA-256.
const KEYS: [(&str, &str); 2] = [
    ("left", "360f84035942243c6a36537ae2f8673485e6c04455a0a85a0db19690f2541480"),
    ("right", "27042f4e6eca7d0b2a7ee4026df2ecfa51d3339e6d122aa099118ecd8563bad9"),
];

const HASH_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
