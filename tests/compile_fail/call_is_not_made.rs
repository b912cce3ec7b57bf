//! Only the rooms that know Azure make a call, and a host that has one cannot send it twice.

use keyvault_gateway::azure::{Call, Endpoint, Upstream};

fn make(endpoint: Endpoint) -> [Call; 2] {
    [
        Call::get(Upstream::Vault, endpoint.clone()),
        Call::post_form(Upstream::Identity, endpoint, String::new()),
    ]
}

fn copy(call: &Call) -> Call {
    Call::clone(call)
}

fn main() {
    let _ = (make, copy);
}
