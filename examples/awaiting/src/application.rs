//! The application, for WASI 0.3.

use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields, Request, Response};
use wasip3::{spawn, wit_future, wit_stream};

wit_bindgen::generate!({
    inline: "package example:awaiting; world awaiting { import keyvault:gateway/async-secrets@0.1.0; }",
    path: "../../wit/gateway",
    world: "example:awaiting/awaiting",
    generate_all,
});

use keyvault::gateway::async_secrets;
use keyvault::gateway::types::{Error, Secret};

struct Application;

wasip3::http::service::export!(Application);

impl Guest for Application {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path = request.get_path_with_query().unwrap_or_default();
        let path = path.trim_start_matches('/');
        let text = match path.strip_suffix("?again") {
            Some(name) => read_again(name).await,
            None => read(path).await,
        };
        let (status, text) = match text {
            Ok(value) => (200, value),
            Err(reason) => (500, format!("{reason:?}")),
        };
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

async fn read(name: &str) -> Result<String, Error> {
    // A cached value needs no wait.
    match async_secrets::get_cached(name, None) {
        Some(value) => Ok(value),
        None => async_secrets::get(name.to_owned(), None).await,
    }
}

/// Reads the current value, for an application whose password was rejected.
async fn read_again(name: &str) -> Result<String, Error> {
    let secret = async_secrets::read(name.to_owned(), None, true).await?;
    let Secret { value, version, age, stale, .. } = secret;
    let stale = if stale { ", past its time" } else { "" };
    Ok(format!("{value} (version {version}, {age} s old{stale})"))
}
