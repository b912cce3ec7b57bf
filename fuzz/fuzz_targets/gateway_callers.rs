//! `GATEWAY_CALLERS`: a caller needs a listed API key, and reads the secrets in the scope beside it.

#![no_main]

use keyvault_gateway::model::SecretName;
use keyvault_gateway_fuzz::*;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = String::from_utf8(marked(text)) else { return Corpus::Reject };
    let mut gateway = TestGateway::new([WITH_TENANT[0], ("GATEWAY_CALLERS", &text)], None);
    let mut without_key = gateway.post(None, &request_for("db-password"));
    if without_key.status() == 500 && text_of(&without_key).contains("GATEWAY_JWT_TENANT") {
        // A list with callers by access token requires a tenant.
        gateway = TestGateway::new(
            [WITH_TENANT[0], WITH_TENANT[1], WITH_TENANT[2], ("GATEWAY_CALLERS", &text)],
            None,
        );
        without_key = gateway.post(None, &request_for("db-password"));
    }
    if without_key.status() == 500 {
        let body = text_of(&without_key);
        let start = r#"{"error":{"code":"ConfigurationError","message":"The setting GATEWAY_CALLERS "#;
        assert!(body.starts_with(start), "{body}");
        return Corpus::Keep;
    }
    assert_eq!(without_key.status(), 401);
    assert_eq!(gateway.post(Some(""), &request_for("db-password")).status(), 401);
    assert!(gateway.sent().is_empty(), "a call without a key");

    // Another JSON parser finds the caller and the scope of each key.
    let parsed: Value = serde_json::from_str(if text.is_empty() { "[]" } else { &text }).unwrap();
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
    Corpus::Keep
});

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
