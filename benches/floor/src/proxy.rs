//! The component of WASI 0.2.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

use crate::ANSWER;

struct Component;

wasip2::http::proxy::export!(Component);

impl Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let Ok(body) = request.consume() else { return };
        if let Ok(stream) = body.stream() {
            while !matches!(stream.blocking_read(MOST_TO_READ), Err(StreamError::Closed)) {}
        }
        let fields = Fields::new();
        let _ = fields.append("content-type", b"application/json; charset=utf-8");
        let _ = fields.append("content-length", ANSWER.len().to_string().as_bytes());
        let response = OutgoingResponse::new(fields);
        let body = response.body();
        ResponseOutparam::set(out, Ok(response));
        let Ok(body) = body else { return };
        if let Ok(stream) = body.write() {
            let _ = stream.blocking_write_and_flush(ANSWER);
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

const MOST_TO_READ: u64 = 16 * 1024;
