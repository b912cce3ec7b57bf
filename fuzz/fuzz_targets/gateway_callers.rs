//! `GATEWAY_CALLERS`: whoever is let in has a key that stands there, and gets what stands beside it.

#![no_main]

use std::borrow::Cow;

use keyvault_gateway::reply::Reply;
use keyvault_gateway::secret::SecretName;
use keyvault_gateway_fuzz::{Says, Scene, marked};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::{Value, json};

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = String::from_utf8(marked(text)) else { return Corpus::Reject };
    let settings = vec![
        (Cow::from("KeyVaultUri"), "https://my-vault.vault.azure.net".to_owned()),
        (Cow::from("GATEWAY_CALLERS"), text.clone()),
    ];
    let scene = Scene::new(settings.clone(), Says::Well, Says::Well);
    let mut nobody = scene.ask(None, &asking_for("db-password"));
    let mut scene = scene;
    if nobody.status() == 500 && text_of(&nobody).contains("GATEWAY_JWT_TENANT") {
        // Some callers have tokens, so that there has to be a tenant.
        let tenant = [
            ("GATEWAY_JWT_TENANT", "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42"),
            ("GATEWAY_JWT_AUDIENCE", "api://keyvault-gateway"),
        ];
        let tenant = tenant.into_iter().map(|(name, value)| (Cow::from(name), value.to_owned()));
        scene = Scene::new(settings.into_iter().chain(tenant).collect(), Says::Well, Says::Well);
        nobody = scene.ask(None, &asking_for("db-password"));
    }
    if nobody.status() == 500 {
        let body = text_of(&nobody);
        let start = r#"{"error":{"code":"ConfigurationError","message":"The setting GATEWAY_CALLERS "#;
        assert!(body.starts_with(start), "{body}");
        return Corpus::Keep;
    }
    assert_eq!(nobody.status(), 401);
    assert_eq!(scene.ask(Some(""), &asking_for("db-password")).status(), 401);
    assert!(scene.sent().is_empty(), "a call for nobody");

    // Another parser finds the caller of each key, and what it may have.
    let parsed: Value = serde_json::from_str(if text.is_empty() { "[]" } else { &text }).unwrap();
    let callers = parsed.as_array().expect("only a list is accepted");
    for caller in callers {
        assert!(caller.is_object(), "only an object is a caller");
        let name = caller["name"].as_str().unwrap();
        assert!((1..=64).contains(&name.len()) && !["key", "anonymous"].contains(&name), "{name}");
        assert_eq!(callers.iter().filter(|it| it["name"] == name).count(), 1);
        for hash in strings(caller, "key_sha256") {
            assert!(!hash.eq_ignore_ascii_case(HASH_OF_NOTHING), "the empty key");
        }
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

fn text_of(reply: &Reply) -> String {
    String::from_utf8(reply.body().expose().clone()).unwrap()
}
