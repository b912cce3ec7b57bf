//! What everybody may do with the types that the other programs misuse.

use keyvault_gateway::azure::identity::{Token, TokenSource};
use keyvault_gateway::azure::vault::{Secret, Vault};
use keyvault_gateway::azure::{Answer, Call};
use keyvault_gateway::error::Error;
use keyvault_gateway::host::Moment;
use keyvault_gateway::reply::Reply;
use keyvault_gateway::secret::{Redacted, SecretName};

/// A host sends a call where it says, and gives back what came.
fn send(call: &Call) -> Answer {
    let _to = (call.method(), call.endpoint().authority(), call.endpoint().path_and_query());
    let _with = (call.headers().iter().map(|it| it.1.expose()).count(), call.body().expose());
    Answer::new(200, None, Vec::new())
}

fn look(token: &Token, source: &TokenSource, vault: &Vault, answer: &Answer, now: Moment) -> String {
    let _lasts = (token.is_fresh(now), token.is_valid(now));
    let _said = answer.status();
    format!("{token:?} {source:?} {} {}", source.name(), vault.audience().as_str())
}

fn reply(asked: &SecretName, secret: &Secret, error: &Error) -> [Reply; 2] {
    [Reply::secret(asked, secret, std::time::Duration::ZERO), Reply::error(error)]
}

fn main() {
    let hidden = Redacted::new("value".to_owned());
    assert_eq!((hidden.expose().as_str(), format!("{hidden:?}").as_str()), ("value", "Redacted(..)"));
    let read: Redacted = serde_json::from_str("\"value\"").unwrap();
    assert_eq!(read.expose(), hidden.expose());
    assert_eq!(SecretName::parse("db-password").map(|it| it.to_string()).as_deref(), Some("db-password"));
    let _ = (send, look, reply);
}
