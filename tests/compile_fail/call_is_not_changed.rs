//! A host that is given a call can send it where it says and nowhere else, with what it has and nothing more.

use keyvault_gateway::azure::{Call, Endpoint};
use keyvault_gateway::secret::Redacted;

fn lead(call: &mut Call, elsewhere: Endpoint) {
    call.endpoint = elsewhere;
}

fn redirect(call: &Call) -> Endpoint {
    call.endpoint().at("/elsewhere".to_owned())
}

fn add(call: Call) -> Call {
    call.header("x-more", Redacted::new(String::new()))
}

fn push(call: &mut Call) {
    call.headers.clear();
    call.headers().push(("x-more", Redacted::new(String::new())));
}

fn main() {
    let _ = (lead, redirect, add, push);
}
