//! What a vault says of a token that it refuses: it changes one line of the log, and nothing else.
//!
//! An input is the value of `WWW-Authenticate`.

#![no_main]

use std::borrow::Cow;

use keyvault_gateway::azure::Upstream;
use keyvault_gateway_fuzz::{Made, Says, Scene, marked};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = String::from_utf8(marked(text)) else { return Corpus::Reject };
    let settings = [("KeyVaultUri", "https://my-vault.vault.azure.net"), ("GATEWAY_KEY", "right")];
    let settings = settings.into_iter().map(|(name, value)| (Cow::from(name), value.to_owned())).collect();
    let made = Made { status: 401, retry_after: None, challenge: Some(text.clone()), body: Vec::new() };
    let scene = Scene::new(settings, Says::Well, Says::This(made));

    let reply = scene.ask(Some("right"), br#"{"Secret":"db-password"}"#);
    assert_eq!((reply.status().as_u16(), reply.code()), (502, "VaultError"));
    assert_eq!((scene.count(Upstream::Identity), scene.count(Upstream::Vault)), (2, 2));
    for call in scene.sent().iter() {
        assert!(["169.254.169.254", "my-vault.vault.azure.net"].contains(&call.authority.as_str()));
    }
    scene.keeps_to_itself();
    let says = |words: &str| scene.log().iter().any(|it| it.contains(words));
    assert!(!says("it wants more claims") || text.contains("insufficient_claims"));
    assert!(!says("it wants another audience") || text.to_ascii_lowercase().contains('='));
    Corpus::Keep
});
