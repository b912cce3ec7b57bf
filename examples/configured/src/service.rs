//! The application, for WASI 0.3.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn, wit_future, wit_stream};

use crate::configuration::answer;

struct Application;

wasip3::http::service::export!(Application);

impl Guest for Application {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let (status, text) = answer(&request.get_path_with_query().unwrap_or_default());
        let (mut stream, reader) = wit_stream::new();
        let (end, end_reader) = wit_future::new(|| Ok(None));
        spawn(async move {
            let _ = stream.write_all(text.into_bytes()).await;
            drop((stream, end));
        });
        let (response, _) = Response::new(Fields::new(), Some(reader), end_reader);
        let _ = response.set_status_code(status);
        Ok(response)
    }
}
