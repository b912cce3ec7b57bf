//! `GATEWAY_CALLERS`: a caller is let in with a key that stands there, and gets what stands beside it.

#![no_main]

use keyvault_gateway::model::SecretName;
use keyvault_gateway_fuzz::*;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = String::from_utf8(marked(text)) else { return Corpus::Reject };
    let mut scene = Scene::new([TENANT[0], ("GATEWAY_CALLERS", &text)], None);
    let mut without_key = scene.ask(None, &asking_for("db-password"));
    if without_key.status() == 500 && text_of(&without_key).contains("GATEWAY_JWT_TENANT") {
        // Some callers have tokens, so that there has to be a tenant.
        scene = Scene::new([TENANT[0], TENANT[1], TENANT[2], ("GATEWAY_CALLERS", &text)], None);
        without_key = scene.ask(None, &asking_for("db-password"));
    }
    if without_key.status() == 500 {
        let body = text_of(&without_key);
        let start = r#"{"error":{"code":"ConfigurationError","message":"The setting GATEWAY_CALLERS "#;
        assert!(body.starts_with(start), "{body}");
        return Corpus::Keep;
    }
    assert_eq!(without_key.status(), 401);
    assert_eq!(scene.ask(Some(""), &asking_for("db-password")).status(), 401);
    assert!(scene.sent().is_empty(), "a call without a key");

    // Another parser finds the caller of each key, and what it may have.
    let parsed: Value = serde_json::from_str(if text.is_empty() { "[]" } else { &text }).unwrap();
    let callers = parsed.as_array().expect("only a list is accepted");
    for caller in callers {
        assert!(caller.is_object(), "only an object is a caller");
        let name = caller["name"].as_str().unwrap();
        assert!((1..=64).contains(&name.len()) && !["key", "anonymous"].contains(&name), "{name}");
        assert_eq!(callers.iter().filter(|it| it["name"] == name).count(), 1);
        let empty = strings(caller, "key_sha256").any(|hash| hash.eq_ignore_ascii_case(HASH_OF_NOTHING));
        assert!(!empty, "the empty key");
    }
    for (key, hash) in KEYS {
        let has_key = |caller: &&Value| strings(caller, "key_sha256").any(|it| it.eq_ignore_ascii_case(hash));
        let Some(caller) = callers.iter().find(has_key) else {
            assert_eq!(scene.ask(Some(key), &asking_for("db-password")).status(), 401);
            continue;
        };
        let start = strings(caller, "secrets").next().unwrap_or_default().trim_end_matches('*');
        for name in ["db-password", start] {
            let allowed = strings(caller, "secrets").any(|it| fits(it, name));
            let right = match SecretName::parse(name) {
                Some(_) if allowed => 200,
                Some(_) => 403,
                None => 400,
            };
            assert_eq!(scene.ask(Some(key), &asking_for(name)).status(), right, "{name}");
        }
    }
    Corpus::Keep
});

fn asking_for(name: &str) -> Vec<u8> {
    json!({ "Secret": name }).to_string().into_bytes()
}

fn strings<'a>(caller: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    caller[name].as_array().into_iter().flatten().map(|it| it.as_str().unwrap())
}

fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_ascii_lowercase(), name.to_ascii_lowercase());
    pattern.strip_suffix('*').map_or(name == pattern, |it| name.starts_with(it))
}

/// Two keys and their SHA-256.
const KEYS: [(&str, &str); 2] = [
    ("left", "360f84035942243c6a36537ae2f8673485e6c04455a0a85a0db19690f2541480"),
    ("right", "27042f4e6eca7d0b2a7ee4026df2ecfa51d3339e6d122aa099118ecd8563bad9"),
];

const HASH_OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
