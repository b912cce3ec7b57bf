//! WASI 0.3.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn, wit_future, wit_stream};

use crate::asked;

wit_bindgen::generate!({
    inline: "package bench:reader; world reader { import keyvault:gateway/async-secrets@0.1.0; }",
    path: "../../wit/gateway",
    world: "bench:reader/reader",
    generate_all,
});

use keyvault::gateway::async_secrets;

struct Component;

wasip3::http::service::export!(Component);

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let target = request.get_path_with_query().unwrap_or_default();
        let mut read = 0_u32;
        match asked(&target) {
            Some(("secret", name, times)) => {
                for _ in 0..times {
                    let value = match async_secrets::at_hand(name, None) {
                        Some(value) => Ok(value),
                        None => async_secrets::get(name.to_owned(), None).await,
                    };
                    read += u32::from(value.is_ok_and(|it| !it.is_empty()));
                }
            }
            Some(("awaited", name, times)) => {
                for _ in 0..times {
                    let value = async_secrets::get(name.to_owned(), None).await;
                    read += u32::from(value.is_ok_and(|it| !it.is_empty()));
                }
            }
            _ => {}
        }
        let answer = read.to_string();
        let fields = Fields::new();
        let _ = fields.append("content-length", answer.len().to_string().as_bytes());
        let (mut stream, reader) = wit_stream::new();
        let (end, end_reader) = wit_future::new(|| Ok(None));
        spawn(async move {
            let _ = stream.write_all(answer.into_bytes()).await;
            drop((stream, end));
        });
        Ok(Response::new(fields, Some(reader), end_reader).0)
    }
}
