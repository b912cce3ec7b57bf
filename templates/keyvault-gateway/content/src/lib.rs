//! An application that reads a secret from the composed gateway by a function call, and answers with its version
//! and age. It imports no outgoing HTTP.

wit_bindgen::generate!({
    inline: "package my:application; world application { import keyvault:gateway/secrets@0.1.0; }",
    path: "wit",
    world: "my:application/application",
    generate_all,
});

use keyvault::gateway::secrets;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Application;

wasip2::http::proxy::export!(Application);

impl Guest for Application {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let (status, text) = answer();
        let response = OutgoingResponse::new(Fields::new());
        let _ = response.set_status_code(status);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        let Ok(body) = body else { return };
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(text.as_bytes());
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

/// Returns the status and the text of the response. Use `secret.value` where the application needs it, and never
/// print it.
fn answer() -> (u16, String) {
    match secrets::read(SECRET, None, false) {
        Ok(secret) => (200, format!("{SECRET}: version {}, {} s old\n", secret.version, secret.age)),
        // An error has no text of Azure and no value.
        Err(error) => (503, format!("{SECRET}: {error}\n")),
    }
}

const SECRET: &str = "{{secret-name}}";
