//! The application, for WASI 0.2.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

use crate::configuration::answer;

struct Application;

wasip2::http::proxy::export!(Application);

impl Guest for Application {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, text) = answer(&request.path_with_query().unwrap_or_default());
        let response = OutgoingResponse::new(Fields::new());
        let _ = response.set_status_code(status);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        let Ok(body) = body else { return };
        if let Ok(stream) = body.write() {
            for chunk in text.as_bytes().chunks(MOST_TO_WRITE) {
                let _ = stream.blocking_write_and_flush(chunk);
            }
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

/// The most bytes that one call writes (WASI 0.2, `wasi:io/streams`).
const MOST_TO_WRITE: usize = 4096;
