//! Test cases: tables of requests and expected responses, sent in process to one emulator.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use keyvault_emulator::{Cut, Emulator, Source, facts};
use serde_json::Value;

/// A response with its whole body.
pub(crate) struct TestResponse {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl TestResponse {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// Sends `METHOD address` with these headers and this body.
pub async fn send(
    emulator: &Emulator,
    line: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Result<TestResponse, Cut> {
    let (method, address) = line.split_once(' ').expect("a method and an address");
    let mut request = Request::builder().method(method).uri(address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
    let (parts, body) = emulator.answer(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(TestResponse { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// Fetches a token for `resource` from App Service.
pub(crate) async fn fetch_token(emulator: &Emulator, resource: &str) -> String {
    let key = &emulator.settings(Source::AppService2019, "")[3].1;
    let line = format!("GET http://127.0.0.1/msi/token?api-version=2019-08-01&resource={resource}");
    let response = send(emulator, &line, &[("x-identity-header", key)], "").await.expect("a response");
    response.json()["access_token"].as_str().expect("a token").to_owned()
}

/// An emulator with the secret `db-password`, and the variables of the tables.
pub(crate) struct Case {
    pub(crate) emulator: Emulator,
    names: Vec<(&'static str, String)>,
}

impl Case {
    pub(crate) async fn new() -> Self {
        let emulator = Emulator::new();
        let version = emulator.set_secret("db-password", "correct horse").expect("a valid name");
        let name = |row: &'static str| row.split_once(' ').map(|(name, text)| (name, text.to_owned()));
        let mut names: Vec<_> = include_str!("tables/names.txt").lines().filter_map(name).collect();
        emulator.configure(|settings| settings.lifetime = Some(0));
        names.push(("$expired", fetch_token(&emulator, "https://vault.azure.net").await));
        emulator.configure(|settings| settings.lifetime = None);
        for (name, resource) in [
            ("$good", "https://vault.azure.net"),
            ("$slash", "https://vault.azure.net/"),
            ("$management", "https://management.azure.com/"),
            ("$keyvault", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"),
            ("$china", "https://vault.azure.cn"),
            ("$government", "https://vault.usgovcloudapi.net"),
        ] {
            names.push((name, fetch_token(&emulator, resource).await));
        }
        let setting = |source, at: usize| emulator.settings(source, "")[at].1.clone();
        names.extend([
            ("$bom", "\u{feff}".to_owned()),
            ("$version", version),
            ("$tenant", facts::TENANT.to_owned()),
            ("$TENANT", facts::TENANT.to_uppercase()),
            ("$application", facts::APP_ID.to_owned()),
            ("$object", facts::OBJECT_ID.to_owned()),
            ("$IDENTITY_HEADER", setting(Source::AppService2019, 3)),
            ("$AZURE_CLIENT_SECRET", setting(Source::ClientSecret, 4)),
            ("$GITHUB_TOKEN", setting(Source::GithubActions, 7)),
        ]);
        // Longer names first, because a name can begin with another name.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self { emulator, names }
    }

    /// Replaces the variables in `text`, and those in their values.
    fn substitute(&self, text: &str) -> String {
        let replace =
            |text: String| self.names.iter().fold(text, |text, (name, value)| text.replace(name, value));
        replace(replace(replace(text.to_owned())))
    }

    /// Sends the request of each row, and checks the response: `METHOD address | header: value | body =>
    /// status | part | !part`. The response's headers or body contain `part`, and do not contain `!part`;
    /// `keys: a b` are all members of its JSON, `bytes: 3` its length. A line that begins with spaces
    /// continues the row above. A path without a host is sent to a vault, with a valid token.
    pub(crate) async fn check(&self, table: &str) {
        for row in table.replace("\n  ", " ").lines().filter(|row| !row.is_empty() && !row.starts_with('#')) {
            let (request, expected) = row.split_once(" => ").expect("a request and a response");
            let (request, expected) = (self.substitute(request), self.substitute(expected));
            let response = self.send_row(&request).await;
            let headers =
                response.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
            let text = headers.collect::<String>() + "\n" + &String::from_utf8_lossy(&response.body);
            let json = serde_json::from_slice::<BTreeMap<String, Value>>(&response.body).unwrap_or_default();
            let keys = json.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
            let (status, bytes) = (response.status.to_string(), format!("bytes: {}", response.body.len()));
            let exact = [status, bytes, format!("keys: {keys}")];
            for (at, part) in expected.split(" | ").map(str::trim).enumerate() {
                let passes = match part.strip_prefix('!') {
                    _ if at == 0 || part.starts_with("bytes: ") || part.starts_with("keys: ") => {
                        exact.iter().any(|fact| fact == part)
                    }
                    Some(absent) => !text.contains(absent),
                    None => text.contains(part),
                };
                assert!(passes, "{row}: no {part:?} in {exact:?}, {text:.2000}");
            }
        }
    }

    /// Sends the request of one row, the part before ` => `.
    async fn send_row(&self, row: &str) -> TestResponse {
        let mut parts = row.split(" | ").map(str::trim);
        let mut line = parts.next().expect("a method and an address").to_owned();
        let is_header = |part: &&str| {
            let name = part.split_once(": ").map(|(name, _)| name);
            name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'))
        };
        let (headers, bodies): (Vec<&str>, Vec<&str>) = parts.partition(is_header);
        let mut headers: Vec<(&str, &str)> =
            headers.iter().filter_map(|part| part.split_once(": ")).collect();
        let bearer = self.substitute("Bearer $good");
        if let Some((method, path)) = line.split_once(" /") {
            line = format!("{method} https://demo.vault.azure.net/{path}");
            headers.extend([("authorization", bearer.as_str()), ("content-type", "application/json")]);
        }
        send(&self.emulator, &line, &headers, bodies.first().unwrap_or(&"")).await.expect("a response")
    }
}
