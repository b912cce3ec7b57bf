//! WASI 0.2.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

use crate::asked;

wit_bindgen::generate!({
    inline: "
        package bench:reader;
        world reader {
            import wasi:config/store@0.2.0-rc.1;
            import keyvault:gateway/secrets@0.1.0;
        }
    ",
    path: ["../../wit/gateway", "../../wit/wasi-config"],
    world: "bench:reader/reader",
    generate_all,
});

use keyvault::gateway::secrets;
use wasi::config::store;

struct Component;

wasip2::http::proxy::export!(Component);

impl Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let is_there = |value: &String| !value.is_empty();
        let read = match asked(&target) {
            Some(("secret", name, times)) => {
                let values = (0..times).filter_map(|_| secrets::get(name, None).ok());
                values.filter(is_there).count()
            }
            Some(("configuration", key, times)) => {
                let values = (0..times).filter_map(|_| store::get(key).ok()?);
                values.filter(is_there).count()
            }
            _ => 0,
        };
        let answer = read.to_string();
        let fields = Fields::new();
        let _ = fields.append("content-length", answer.len().to_string().as_bytes());
        let response = OutgoingResponse::new(fields);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        let Ok(body) = body else { return };
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(answer.as_bytes());
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
