//! What a vault says of a token that it refuses: whether that lasts, and one line of the log.
//!
//! An input is the value of `WWW-Authenticate`.

#![no_main]

use keyvault_gateway::http::response::Reply;
use keyvault_gateway_fuzz::*;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = String::from_utf8(marked(text)) else { return Corpus::Reject };
    let (scene, reply) = ask(Some(text.clone()));
    let answer = outcome(&reply);
    let calls = (scene.count(Service::Identity), scene.count(Service::Vault));
    scene.keeps_to_itself();

    // Where the field says why, in a way that lasts, a new token is tried once and one line says so.
    let log = scene.world.log.borrow().concat();
    let claims =
        log.contains("it wants more claims") && text.replace('\\', "").contains("insufficient_claims");
    let audience = log.contains("it wants another audience") && text.contains('=');
    if claims || audience {
        assert_eq!((answer, calls), ((502, "VaultError"), (2, 2)), "{log}");
    } else {
        let (_, without) = ask(None);
        assert_eq!((answer, calls), ((503, "Unavailable"), (2, 4)), "{log}");
        assert_eq!((reply.fields(), reply.body().expose()), (without.fields(), without.body().expose()));
        assert!(log.contains("the vault does not accept the token at the moment (status 401)"), "{log}");
    }
    Corpus::Keep
});

/// Asks a gateway whose vault refuses every token with this `WWW-Authenticate`.
fn ask(challenge: Option<String>) -> (Scene, Reply) {
    let refusal = Response { status: 401, challenge, ..Response::default() };
    let scene = Scene::new([KEYED[0], KEYED[1]], Some((Service::Vault, refusal)));
    let reply = scene.ask(Some("right"), ASKED);
    (scene, reply)
}
