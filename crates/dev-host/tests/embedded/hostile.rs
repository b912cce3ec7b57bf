//! Hostile requests, made by random mutations of valid ones.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request};
use keyvault_emulator::Source;
use serde_json::{Map, Value};
use wasmtime_wasi_http::WasiBody;

use crate::gateway::{Gateway, KEY, PATH, REQUEST, Response, SECRETS, azure, full, in_both_worlds};
use crate::request_bodies::{Step, scripted_body};

#[test]
fn responses_keep_the_contract_and_only_valid_requests_call() {
    in_both_worlds(async |world| {
        let emulator = azure();
        let gateway = Gateway::new(world, &emulator, Source::AppService2017, &[]);
        let mut succeeded = 0;
        for number in 0..REQUESTS {
            let sent = MutatedRequest::new(&mut Random(SEED + number));
            let case = format!("{world:?} seed {SEED} + {number}: {sent:?}");
            emulator.clear_journal();
            let response = gateway.send(sent.request()).await;
            check(&sent, &response, &case);

            let (tokens, reads) = (emulator.token_calls(), emulator.vault_calls());
            let route = (sent.method.as_str(), sent.target.path());
            assert!(tokens.is_empty() || sent.is_valid() || route == ("GET", "/readyz"), "{case}");
            assert!(reads.is_empty() || sent.is_valid(), "{case}");
            for read in reads {
                let secret = format!("/secrets/{}", sent.secret().unwrap_or_default());
                let version = read.path.strip_prefix(&secret);
                let version = version.map(|version| version.strip_prefix('/').unwrap_or(version));
                let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
                let is_version = |text: &str| [0, 32].contains(&text.len()) && is_hex(text);
                assert!(version.is_some_and(is_version), "{read:?} for {case}");
                assert_eq!(read.authority, "demo.vault.azure.net", "{case}");
                assert_eq!(read.query.len(), 1, "{read:?} for {case}");
            }
            succeeded += usize::from(response.status == 200 && sent.is_valid());
        }
        // Enough requests succeeded, and the instance has neither trapped nor leaked.
        assert!(succeeded > 100, "{world:?}: {succeeded} requests succeeded");
        gateway.expect_single_instance(world);
    });
}

/// Checks a response against the contract.
fn check(sent: &MutatedRequest, response: &Response, case: &str) {
    let statuses = [200, 400, 401, 403, 404, 405, 413, 415, 429, 431];
    assert!(statuses.contains(&response.status), "{} for {case}", response.status);
    if response.status != 200 {
        let code = response.json()["error"]["code"].clone();
        response.expect((response.status, code.as_str().unwrap_or_default()), case);
    } else if sent.method == Method::POST {
        assert!(sent.is_valid(), "{case}");
        assert_eq!(response.json()["Secret"].as_str(), sent.secret().as_deref(), "{case}");
        response.expect((200, ""), case);
    } else {
        let types = [
            ("/healthz", "application/json; charset=utf-8"),
            ("/readyz", "application/json; charset=utf-8"),
            ("/openapi.json", "application/json"),
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ];
        let content = (sent.target.path(), response.field("content-type"));
        assert!(types.contains(&content), "{response:?} for {case}");
        assert!(sent.target.path() != "/metrics" || sent.has_key(), "{case}");
    }
    assert_eq!(response.headers.contains_key("allow"), response.status == 405, "{case}");
    assert_eq!(response.headers.contains_key("www-authenticate"), response.status == 401, "{case}");
    assert_eq!(response.headers.contains_key("retry-after"), response.status == 429, "{case}");
}

/// A valid request after random mutations.
#[derive(Debug)]
struct MutatedRequest {
    method: Method,
    target: PathAndQuery,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    chunks: usize,
}

impl MutatedRequest {
    fn new(random: &mut Random) -> Self {
        let mut sent = Self {
            method: Method::POST,
            target: PathAndQuery::from_static(PATH),
            fields: vec![
                field("content-type", b"application/json"),
                field("x-functions-key", KEY.as_bytes()),
            ],
            body: REQUEST.replace(SECRETS[0], random.pick(&SECRETS)).into_bytes(),
            chunks: random.pick(&[1, 1, 2, 3, 40]),
        };
        for _ in 0..random.below(4) {
            match random.below(8) {
                0 => sent.method = Method::from_bytes(random.pick(&METHODS).as_bytes()).unwrap(),
                1 => sent.target = PathAndQuery::from_static(random.pick(&TARGETS)),
                2 | 3 => sent.mutate_fields(random),
                _ => sent.mutate_body(random),
            }
        }
        sent
    }

    fn mutate_fields(&mut self, random: &mut Random) {
        let (name, values) = random.pick(&FIELDS);
        let value = match random.below(8) {
            0 => vec![b'x'; random.below(20_000)],
            1 => vec![random.below(0x7f) as u8 | 0x80],
            _ => random.pick(values).as_bytes().to_vec(),
        };
        match random.below(3) {
            0 => self.fields.retain(|field| field.0 != name),
            1 => self.fields.reverse(),
            _ => {}
        }
        self.fields.push(field(name, &value));
    }

    fn mutate_body(&mut self, random: &mut Random) {
        let at = random.below(self.body.len() + 1);
        match random.below(6) {
            0 => self.body.truncate(at),
            1 if at < self.body.len() => self.body[at] ^= 1 << random.below(8),
            2 => self.body = random.pick(&BODIES).as_bytes().to_vec(),
            3 => self.body.extend(std::iter::repeat_n(random.pick(b" [{\"a0"), random.below(12_000))),
            4 => drop(self.body.splice(at..at, random.pick(&INSERTS).bytes())),
            _ => self.body.extend_from_within(..at),
        }
    }

    fn request(&self) -> Request<WasiBody> {
        let chunks = self.body.chunks(self.body.len() / self.chunks + 1);
        let chunks: Vec<_> = chunks.map(|chunk| Step::Chunk(Bytes::copy_from_slice(chunk))).collect();
        // A whole body goes by the immediate way.
        let body = if self.chunks == 1 { full(self.body.clone()) } else { scripted_body(&chunks) };
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone().into();
        request.headers_mut().insert("host", HeaderValue::from_static("gateway"));
        for (name, value) in &self.fields {
            request.headers_mut().append(name, value.clone());
        }
        request
    }

    /// Returns whether the gateway may answer with a secret: necessary conditions, without the finer points.
    fn is_valid(&self) -> bool {
        let path = self.target.path();
        let path = path.strip_suffix('/').unwrap_or(path);
        let values = |name: &str| {
            let values = self.fields.iter().filter(|field| field.0 == name).map(|field| field.1.as_bytes());
            values.map(|value| String::from_utf8_lossy(value).to_ascii_lowercase()).collect::<Vec<_>>()
        };
        let forwarded = |field: &(HeaderName, _)| ["via", "x-forwarded-for"].contains(&field.0.as_str());
        self.method == Method::POST
            && [PATH, "/GetKeyVaultSecret", ""].iter().any(|known| path.eq_ignore_ascii_case(known))
            && self.has_key()
            && values("content-type").iter().any(|value| value.contains("json"))
            && values("content-encoding")
                .iter()
                .all(|list| list.split(',').all(|coding| ["", "identity"].contains(&coding.trim())))
            && !self.fields.iter().any(forwarded)
            && self.body.len() <= 8192
            && self.secret().is_some()
    }

    fn has_key(&self) -> bool {
        let query = self.target.query().unwrap_or_default();
        self.fields.iter().any(|field| field.0 == "x-functions-key" && field.1 == KEY)
            || query.split('&').any(|parameter| parameter.strip_prefix("code=") == Some(KEY))
    }

    /// Returns the secret that the body names, if it names exactly one and the name is valid.
    fn secret(&self) -> Option<String> {
        let body = self.body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&self.body);
        let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let mut secrets = fields.iter().filter(|member| member.0.eq_ignore_ascii_case("secret"));
        let (Some((_, secret)), None) = (secrets.next(), secrets.next()) else { return None };
        let name = secret.as_str()?;
        let allowed = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (allowed && (1..=127).contains(&name.len())).then(|| name.to_owned())
    }
}

/// A deterministic random generator: Knuth's MMIX generator, of which only the upper bits are random.
struct Random(u64);

impl Random {
    /// Returns a number below `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

fn field(name: &'static str, value: &[u8]) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
}

/// The first seed. A fixed seed makes a failure reproducible.
const SEED: u64 = 20_260_101;

/// The number of requests to each component. Earlier requests must not affect later ones.
const REQUESTS: u64 = 2000;

#[rustfmt::skip]
const METHODS: [&str; 9] =
    ["GET", "GET", "HEAD", "PUT", "PATCH", "OPTIONS", "CONNECT", "post", "M-OF-A-CALLER"];

#[rustfmt::skip]
const TARGETS: [&str; 24] = [
    "/", "/GetKeyVaultSecret", PATH, "/API/getkeyvaultsecret", "/api/GetKeyVaultSecret/",
    "/api/GetKeyVaultSecret/x", "/healthz", "/readyz", "/openapi.json", "/metrics", "/secrets/db-password",
    "/api/../metrics", "//", "/;", "/%", "/api/%2e%2e/GetKeyVaultSecret", "/%00", "/\\",
    "/?code=d41d8cd98f-the-caller-key", "/?code=wrong", "/metrics?code=d41d8cd98f-the-caller-key",
    "/?code=wrong&code=d41d8cd98f-the-caller-key", "/?code=%ff%00&&=&code", "/api/GetKeyVaultSecret?",
];

const FIELDS: [(&str, &[&str]); 12] = [
    ("x-functions-key", &["", "wrong", KEY, "D41D8CD98F-THE-CALLER-KEY"]),
    ("authorization", &["Basic eDp5", "Negotiate", ""]),
    ("content-type", &["application/json", "text/json", "text/plain", "application/x+json;x=\"", "a/b/json"]),
    ("content-encoding", &["gzip", "identity", "br, gzip", "identity, ,", "identity, br"]),
    ("content-length", &["0", "1", "8192", "8193", "18446744073709551616", "-1", "x"]),
    ("transfer-encoding", &["chunked", "gzip, chunked"]),
    ("x-forwarded-for", &["203.0.113.9", "unknown"]),
    ("via", &["1.1 proxy"]),
    ("traceparent", &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0-0-00", "zz", ""]),
    ("cache-control", &["no-cache", "max-age=0", "no-cache=\"x"]),
    ("host", &["169.254.169.254", "demo.vault.azure.net", "a b"]),
    ("x-identity-header", &["x"]),
];

#[rustfmt::skip]
const BODIES: [&str; 16] = [
    "", "null", "[]", "{}", "\"db-password\"", "{\"Secret\":null}", "{\"Secret\":[\"db-password\"]}",
    "{\"Secret\":{\"Secret\":\"db-password\"}}", "{\"Secret\":\"db-password\",\"secret\":\"x\"}",
    "{\"Secret\":\"../keys/x\"}", "{\"Secret\":\"x?api-version=1\"}", "{\"Secret\":\"x\\u0000\"}",
    "{\"Secret\":\"x\",\"Version\":\"..\"}",
    "{\"Secret\":\"x\",\"Version\":\"00000000000000000000000000000000\"}",
    "\u{feff}{\"SECRET\":\"x\",\"other\":1e9}", "Secret=db-password",
];

#[rustfmt::skip]
const INSERTS: [&str; 10] = [
    "\\u0000", "\r\nx: y", "\"", "{\"Secret\":\"x\"}", ",\"Version\":\"\"", "\u{202e}", "%2f", "/",
    "\\ud800", "1e400",
];
