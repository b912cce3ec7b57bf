//! What is redacted cannot become JSON, neither alone nor as a part of something that can.

use keyvault_gateway::secret::Redacted;

#[derive(serde::Serialize)]
struct Line {
    secret: Redacted,
}

fn main() {
    let line = Line { secret: Redacted::new("value".to_owned()) };
    let _ = serde_json::to_string(&line.secret);
}
