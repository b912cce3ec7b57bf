//! No literal makes what has one maker, nor makes another of one that is there.

use keyvault_gateway::azure::identity::Token;
use keyvault_gateway::azure::vault::Vault;
use keyvault_gateway::azure::{Answer, Call, Endpoint, Upstream};
use keyvault_gateway::host::Moment;
use keyvault_gateway::secret::Redacted;

fn call(endpoint: Endpoint) -> Call {
    let body = Redacted::new(Vec::new());
    Call { method: http::Method::GET, endpoint, headers: Vec::new(), body, upstream: Upstream::Vault }
}

fn led_call(call: Call, elsewhere: Endpoint) -> Call {
    Call { endpoint: elsewhere, ..call }
}

fn led_vault(vault: Vault, elsewhere: Endpoint) -> Vault {
    Vault { origin: elsewhere, ..vault }
}

fn token(value: Redacted, now: Moment) -> Token {
    Token { value, since: now, fresh_until: now, valid_until: now }
}

fn answer() -> Answer {
    Answer { status: 200, retry_after: None, challenge: None, body: Redacted::new(Vec::new()) }
}

fn main() {
    let _ = (call, led_call, led_vault, token, answer);
}
