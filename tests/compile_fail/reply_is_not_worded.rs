//! A caller reads our sentences: there is no way to give a reply of an error another text.

use keyvault_gateway::reply::Reply;

fn problem(text: &str) -> Reply {
    Reply::problem(http::StatusCode::BAD_GATEWAY, "VaultError", text)
}

fn text(text: String) -> Reply {
    Reply::new(http::StatusCode::BAD_GATEWAY, "VaultError", "text/plain", text.into_bytes())
}

fn document(text: &'static str) -> Reply {
    Reply::document("text/plain", text)
}

fn another_body(mut reply: Reply) -> Reply {
    reply.body = keyvault_gateway::secret::Redacted::new(b"text".to_vec());
    reply
}

fn main() {
    let _ = (problem, text, document, another_body);
}
