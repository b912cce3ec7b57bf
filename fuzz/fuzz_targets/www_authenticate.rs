//! The `WWW-Authenticate` of a 401 from the vault: a final or a temporary refusal, and one log line.
//!
//! An input is the value of `WWW-Authenticate`.

#![no_main]

use keyvault_gateway::http::response::Reply;
use keyvault_gateway_fuzz::*;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = String::from_utf8(marked(text)) else { return Corpus::Reject };
    let (gateway, reply) = send(Some(text.clone()));
    let answer = outcome(&reply);
    let calls = (gateway.count(Service::TokenSource), gateway.count(Service::Vault));
    gateway.expect_no_leak();

    // A final reason gives one more attempt with a new token, and a log line with the reason.
    let log = gateway.world.log.borrow().concat();
    let claims =
        log.contains("it wants more claims") && text.replace('\\', "").contains("insufficient_claims");
    let audience = log.contains("it wants another audience") && text.contains('=');
    if claims || audience {
        assert_eq!((answer, calls), ((502, "VaultError"), (2, 2)), "{log}");
    } else {
        let (_, without) = send(None);
        assert_eq!((answer, calls), ((503, "Unavailable"), (2, 4)), "{log}");
        assert_eq!((reply.headers(), reply.body().expose()), (without.headers(), without.body().expose()));
        assert!(log.contains("the vault does not accept the token at the moment (status 401)"), "{log}");
    }
    Corpus::Keep
});

/// Sends a request to a gateway whose vault refuses every token with this `WWW-Authenticate`.
fn send(challenge: Option<String>) -> (TestGateway, Reply) {
    let refusal = Response { status: 401, challenge, ..Response::default() };
    let gateway = TestGateway::new([WITH_API_KEY[0], WITH_API_KEY[1]], Some((Service::Vault, refusal)));
    let reply = gateway.post(Some("right"), REQUEST);
    (gateway, reply)
}
