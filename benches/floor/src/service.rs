//! The component of WASI 0.3.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::wit_bindgen::StreamResult;
use wasip3::{spawn, wit_future, wit_stream};

use crate::ANSWER;

struct Component;

wasip3::http::service::export!(Component);

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (done, result) = wit_future::new(|| Ok(()));
        let (mut stream, end) = Request::consume_body(request, result);
        while let (StreamResult::Complete(_), _) = stream.read(Vec::with_capacity(MOST_TO_READ)).await {}
        end.await?;
        drop(done);

        let fields = Fields::new();
        let _ = fields.append("content-type", b"application/json; charset=utf-8");
        let _ = fields.append("content-length", ANSWER.len().to_string().as_bytes());
        let (mut stream, reader) = wit_stream::new();
        let (end, end_reader) = wit_future::new(|| Ok(None));
        spawn(async move {
            let _ = stream.write_all(ANSWER.to_vec()).await;
            drop((stream, end));
        });
        Ok(Response::new(fields, Some(reader), end_reader).0)
    }
}

const MOST_TO_READ: usize = 16 * 1024;
