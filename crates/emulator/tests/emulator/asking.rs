//! A table of requests and of what their answers have, which an emulator is asked in process, row by row.

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt as _, Full};
use keyvault_emulator::{Cut, Emulator, Source, facts};
use serde_json::Value;

/// An answer, read to its end.
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Heard {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}

/// Asks `METHOD address`, with the headers and the body.
pub async fn ask(emulator: &Emulator, row: &str, headers: &[(&str, &str)], body: &str) -> Result<Heard, Cut> {
    let (method, address) = row.split_once(' ').expect("a method and an address");
    let mut request = Request::builder().method(method).uri(address);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
    let (parts, body) = emulator.answer(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Heard { status: parts.status.as_u16(), headers: parts.headers, body })
}

/// A token for `resource`, by way of App Service.
pub(crate) async fn token(emulator: &Emulator, resource: &str) -> String {
    let key = &emulator.settings(Source::AppService2019, "")[3].1;
    let line = format!("GET http://127.0.0.1/msi/token?api-version=2019-08-01&resource={resource}");
    let heard = ask(emulator, &line, &[("x-identity-header", key)], "").await.expect("an answer");
    heard.json()["access_token"].as_str().expect("a token").to_owned()
}

/// An emulator that has the secret `db-password`, and the names that stand for something in a row.
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
        names.push(("$expired", token(&emulator, "https://vault.azure.net").await));
        emulator.configure(|settings| settings.lifetime = None);
        for (name, resource) in [
            ("$good", "https://vault.azure.net"),
            ("$slash", "https://vault.azure.net/"),
            ("$management", "https://management.azure.com/"),
            ("$keyvault", "cfa8b339-82a2-471a-a3c9-0fc0be7a4093"),
            ("$china", "https://vault.azure.cn"),
            ("$government", "https://vault.usgovcloudapi.net"),
        ] {
            names.push((name, token(&emulator, resource).await));
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
        ]);
        // A name that begins with another one stands for itself.
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        Self { emulator, names }
    }

    /// A text with what its names stand for, and what the names in that stand for.
    fn named(&self, text: &str) -> String {
        let once =
            |text: String| self.names.iter().fold(text, |text, (name, value)| text.replace(name, value));
        once(once(once(text.to_owned())))
    }

    /// Asks what each row of `table` says: `METHOD address | header: value | body => status | part | !part`. Each part is
    /// in the answer's headers or in its body, or is not; `keys: a b` are all members of its JSON, `bytes: 3` its length.
    /// A line that begins with spaces goes on with the row above. A path is one of a vault, asked with a good token.
    pub(crate) async fn holds(&self, table: &str) {
        for row in table.replace("\n  ", " ").lines().filter(|row| !row.is_empty() && !row.starts_with('#')) {
            let (request, expected) = row.split_once(" => ").expect("a request and an answer");
            let (request, expected) = (self.named(request), self.named(expected));
            let heard = self.asked(&request).await;
            let headers =
                heard.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()));
            let text = headers.collect::<String>() + "\n" + &String::from_utf8_lossy(&heard.body);
            let mut parts = expected.split(" | ").map(str::trim);
            let status = parts.next().map(str::to_owned);
            assert_eq!(Some(heard.status.to_string()), status, "{row}: {text:.2000}");
            for part in parts {
                let holds = if let Some(keys) = part.strip_prefix("keys: ") {
                    let json = heard.json();
                    let mut found: Vec<&str> = json.as_object().unwrap().keys().map(String::as_str).collect();
                    found.sort_unstable();
                    found.join(" ") == keys
                } else if let Some(length) = part.strip_prefix("bytes: ") {
                    heard.body.len().to_string() == length
                } else {
                    part.strip_prefix('!')
                        .map_or_else(|| text.contains(part), |absent| !text.contains(absent))
                };
                assert!(holds, "{row}: no {part:?} in {text:.2000}");
            }
        }
    }

    /// Asks what one row says before its `=>`.
    async fn asked(&self, row: &str) -> Heard {
        let mut parts = row.split(" | ").map(str::trim);
        let mut line = parts.next().expect("a method and an address").to_owned();
        let is_header = |part: &&str| {
            let name = part.split_once(": ").map(|(name, _)| name);
            name.is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'-'))
        };
        let (headers, bodies): (Vec<&str>, Vec<&str>) = parts.partition(is_header);
        let mut headers: Vec<(&str, &str)> =
            headers.iter().filter_map(|part| part.split_once(": ")).collect();
        let bearer = self.named("Bearer $good");
        if let Some((method, path)) = line.split_once(" /") {
            line = format!("{method} https://demo.vault.azure.net/{path}");
            headers.extend([("authorization", bearer.as_str()), ("content-type", "application/json")]);
        }
        ask(&self.emulator, &line, &headers, bodies.first().unwrap_or(&"")).await.expect("an answer")
    }
}
