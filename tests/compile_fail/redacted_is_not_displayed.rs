//! What is redacted cannot be written where text is written: into a message, a log line, a header field.

use keyvault_gateway::secret::Redacted;

fn main() {
    let hidden = Redacted::new("value".to_owned());
    println!("{hidden}");
    let _ = hidden.to_string();
}
