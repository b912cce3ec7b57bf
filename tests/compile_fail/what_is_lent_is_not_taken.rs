//! What is lent stays what and where it is: a value under what overwrites it at its end, a call's address.

use keyvault_gateway::azure::{Call, Endpoint};
use keyvault_gateway::secret::Redacted;

fn take(hidden: &Redacted) -> String {
    *hidden.expose()
}

fn lead(call: &mut Call, elsewhere: Endpoint) {
    *call.endpoint() = elsewhere;
}

fn main() {
    let _ = (take, lead);
}
