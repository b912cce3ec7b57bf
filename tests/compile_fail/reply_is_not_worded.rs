//! A caller reads our sentences: there is no way to give a reply of an error another text.

use keyvault_gateway::reply::Reply;

fn problem(text: &str) -> Reply {
    Reply::problem(http::StatusCode::BAD_GATEWAY, "VaultError", text)
}

fn text(text: String) -> Reply {
    Reply::new(http::StatusCode::BAD_GATEWAY, "VaultError", "text/plain", text.into_bytes())
}

fn main() {
    let _ = (problem, text);
}
