//! What the tests share: asking an emulator in process.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use keyvault_emulator::{Cut, Emulator, Source};
use serde_json::Value;

/// An answer, read to its end.
pub(crate) struct Heard {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Heard {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|it| it.to_str().expect("the header is text"))
    }

    /// `error.code` of Key Vault, `error.innererror.code` and the message.
    pub(crate) fn refusal(&self) -> (u16, String, String, String) {
        let json = self.json();
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        let error = &json["error"];
        let inner = text(&error["innererror"]["code"]);
        (self.status.as_u16(), text(&error["code"]), inner, text(&error["message"]))
    }
}

/// Asks `METHOD address`, with the headers and the body.
pub(crate) async fn ask(
    emulator: &Emulator,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<Heard, Cut> {
    let (method, address) = line.split_once(' ').expect("a method and an address");
    let mut request = Request::builder().method(method).uri(address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
    let (parts, body) = emulator.answer(request).await?.into_parts();
    Ok(Heard { status: parts.status, headers: parts.headers, body: body.collect().await?.to_bytes() })
}

/// The setting of this name for a source.
pub(crate) fn setting(emulator: &Emulator, source: Source, name: &str) -> String {
    let settings = emulator.settings(source, "http://127.0.0.1");
    settings.into_iter().find(|(it, _)| *it == name).expect("a setting").1
}

/// A token for `resource`, by way of App Service.
pub(crate) async fn token(emulator: &Emulator, resource: &str) -> String {
    let key = setting(emulator, Source::AppService2019, "IDENTITY_HEADER");
    let line = format!("GET http://127.0.0.1/msi/token?api-version=2019-08-01&resource={resource}");
    let heard = ask(emulator, &line, &[("x-identity-header", &key)], "").await.expect("an answer");
    heard.json()["access_token"].as_str().expect("a token").to_owned()
}

/// Asks a vault, with a good token for the public cloud.
pub(crate) async fn vault(emulator: &Emulator, line: &str, body: &str) -> Heard {
    let bearer = format!("Bearer {}", token(emulator, "https://vault.azure.net").await);
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let line = format!("{method} https://demo.vault.azure.net{path}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    ask(emulator, &line, &headers, body).await.expect("an answer")
}
