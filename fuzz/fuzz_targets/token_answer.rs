//! The answer of each token source: what is taken for a token is one, and nothing of an answer is told to anybody.
//!
//! An input is a byte for the source, one for the status, a line with `Retry-After`, and the body.

#![no_main]

use core::time::Duration;
use std::borrow::Cow;

use keyvault_gateway::azure::Upstream;
use keyvault_gateway_fuzz::{Made, Says, Scene, VALUE, choice, shows_nothing};
use libfuzzer_sys::{Corpus, fuzz_target};
use serde_json::{Value, json};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((source, rest)) = choice(data, &SOURCES) else { return Corpus::Reject };
    let Some(made) = Made::read(rest) else { return Corpus::Reject };
    let mut settings = vec![
        ("KeyVaultUri", "https://my-vault.vault.azure.net"),
        ("GATEWAY_KEY", "right"),
        ("GATEWAY_LOG", "debug"),
        ("GATEWAY_CACHE_TTL_SECONDS", "0"),
    ];
    settings.extend_from_slice(source);
    let settings = settings.into_iter().map(|(name, value)| (Cow::from(name), value.to_owned())).collect();
    let scene = Scene::new(settings, Says::This(made.clone()), Says::Well);

    let reply = scene.ask(Some("right"), SECRET);
    let (tokens, secrets) = (scene.count(Upstream::Identity), scene.count(Upstream::Vault));
    assert!((1..=3).contains(&tokens), "{tokens} calls");
    shows_nothing(&reply);
    if made.is_marked() {
        scene.keeps_to_itself();
    }

    let is_imds = source.is_empty();
    let right = match made.status {
        200 if secrets == 1 => (200, "OK"),
        429 => (503, "IdentityThrottled"),
        404 if is_imds => (503, "Unavailable"),
        408 | 410 | 500..=599 => (503, "Unavailable"),
        _ => (502, "IdentityError"),
    };
    assert_eq!((reply.status().as_u16(), reply.code()), right, "after a {}", made.status);
    assert_eq!(secrets, usize::from(right.0 == 200));
    if right.0 != 200 {
        return Corpus::Keep;
    }

    let body: Value = serde_json::from_slice(reply.body().expose()).unwrap();
    assert_eq!(body, json!({ "Secret": "db-password", "Value": VALUE }));
    let sent = scene.sent();
    let call = sent.iter().find(|it| it.upstream == Upstream::Vault).unwrap();
    let bearer: Vec<_> = call.headers.iter().filter(|it| it.0 == "authorization").collect();
    assert_eq!(bearer.len(), 1);
    let token = bearer[0].1.strip_prefix("Bearer ").unwrap().to_owned();
    assert!(!token.is_empty() && token.bytes().all(|it| it.is_ascii_graphic()), "{token:?}");
    drop(sent);

    let Some(json) = made.json() else { return Corpus::Keep };
    let answer = json.as_object().expect("only an object has a token");
    assert_eq!(answer["access_token"].as_str(), Some(token.as_str()));
    // It is not used past its time.
    let lifetime = match &answer.get("expires_in") {
        Some(Value::String(text)) => text.parse().ok(),
        Some(number) => number.as_u64(),
        None => None,
    };
    if let Some(seconds) = lifetime.filter(|it| *it < 1_000_000_000) {
        scene.pass(Duration::from_secs(seconds));
        scene.ask_again(Some("right"), SECRET);
        assert_eq!(scene.count(Upstream::Identity), tokens + 1);
    }
    Corpus::Keep
});

const SECRET: &[u8] = br#"{"Secret":"db-password"}"#;

/// The settings of each source; none are those of the Instance Metadata Service.
const SOURCES: [&[(&str, &str)]; 5] = [
    &[("IDENTITY_ENDPOINT", "http://127.0.0.1:42356/msi/token"), ("IDENTITY_HEADER", "identity-secret")],
    &[("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"), ("MSI_SECRET", "identity-secret")],
    &[("MSI_ENDPOINT", "http://127.0.0.1:50342/oauth2/token")],
    &[
        ("AZURE_TENANT_ID", "f8cdef31-a31e-4b4a-93e4-5f571e91255a"),
        ("AZURE_CLIENT_ID", "535fb089-9ff3-47b6-9bfb-4f1264799865"),
        ("AZURE_CLIENT_SECRET", "identity-secret"),
    ],
    &[],
];
