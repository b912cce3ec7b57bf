//! What a vault says of a token that it refuses: it changes one line of the log, and nothing else.
//!
//! An input is the value of `WWW-Authenticate`.

#![no_main]

use std::borrow::Cow;

use keyvault_gateway::azure::Upstream;
use keyvault_gateway::reply::Reply;
use keyvault_gateway_fuzz::{Made, Says, Scene, marked};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = String::from_utf8(marked(text)) else { return Corpus::Reject };
    let (unexplained, without) = ask(None);
    let (scene, reply) = ask(Some(text.clone()));

    assert_eq!((reply.status().as_u16(), reply.code()), (502, "VaultError"));
    assert_eq!(
        (reply.status(), reply.code(), reply.fields(), reply.body().expose()),
        (without.status(), without.code(), without.fields(), without.body().expose())
    );
    assert_eq!((scene.count(Upstream::Identity), scene.count(Upstream::Vault)), (2, 2));
    assert_eq!(*scene.sent(), *unexplained.sent());
    scene.keeps_to_itself();

    // One line says why, where the field does.
    let (log, plain) = (scene.log(), unexplained.log());
    assert_eq!(log.len(), plain.len());
    let mut changed = log.iter().zip(plain.iter()).filter(|it| it.0 != it.1);
    if let Some((line, plain)) = changed.next() {
        let is = |why: &str| *line == plain.replacen(REFUSED, &format!("{REFUSED}{why}"), 1);
        let claims = is(": it wants more claims") && text.replace('\\', "").contains("insufficient_claims");
        let audience = is(": it wants another audience") && text.contains('=');
        assert!(claims || audience, "{line}");
    }
    assert_eq!(changed.next(), None);
    Corpus::Keep
});

/// Asks a gateway whose vault refuses every token with this `WWW-Authenticate`.
fn ask(challenge: Option<String>) -> (Scene, Reply) {
    let settings = [("KeyVaultUri", "https://my-vault.vault.azure.net"), ("GATEWAY_KEY", "right")];
    let settings = settings.into_iter().map(|(name, value)| (Cow::from(name), value.to_owned())).collect();
    let made = Made { status: 401, retry_after: None, challenge, body: Vec::new() };
    let scene = Scene::new(settings, Says::Well, Says::This(made));
    let reply = scene.ask(Some("right"), br#"{"Secret":"db-password"}"#);
    (scene, reply)
}

/// What the log says of a token that is refused, before the reason.
const REFUSED: &str = "the vault did not accept the token";
