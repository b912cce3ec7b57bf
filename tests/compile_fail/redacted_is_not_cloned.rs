//! A secret has no copies but those that somebody makes of what they expose.

use keyvault_gateway::secret::Redacted;

fn main() {
    let hidden = Redacted::new("value".to_owned());
    let _copy: Redacted = hidden.clone();
}
