//! Hostile requests.

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method, Request};
use keyvault_emulator::Source;
use serde_json::{Map, Value};
use wasmtime_wasi_http::WasiBody;

use crate::bodies::{Step, script};
use crate::gateway::{Answer, Gateway, KEY, PATH, REQUEST, SECRETS, azure, both};

#[test]
fn whatever_is_sent_is_answered_as_the_contract_says_and_only_what_is_valid_reaches_azure() {
    both(async |world| {
        let emulator = azure();
        let gateway = Gateway::of(world, &emulator, Source::AppService2017, &[]);
        let mut found = 0;
        for number in 0..MANY {
            let sent = Sent::make(&mut Random(SEED + number));
            let case = format!("{world:?} seed {SEED} + {number}: {sent:?}");
            emulator.clear_journal();
            let answer = gateway.send(sent.request()).await;
            check(&sent, &answer, &case);

            let (tokens, reads) = (emulator.token_calls(), emulator.vault_calls());
            let asks = (sent.method.as_str(), sent.path());
            assert!(tokens.is_empty() || sent.is_valid() || asks == ("GET", "/readyz"), "{case}");
            assert!(reads.is_empty() || sent.is_valid(), "{case}");
            for read in reads {
                let secret = format!("/secrets/{}", sent.secret().unwrap_or_default());
                let version = read.path.strip_prefix(&secret);
                let version = version.map(|it| it.strip_prefix('/').unwrap_or(it));
                let is_hex = |it: &str| it.bytes().all(|byte| byte.is_ascii_hexdigit());
                let fits = version.is_some_and(|it| [0, 32].contains(&it.len()) && is_hex(it));
                assert!(fits, "{read:?} for {case}");
                assert_eq!(read.authority, "demo.vault.azure.net", "{case}");
                assert_eq!(read.query.len(), 1, "{read:?} for {case}");
            }
            found += usize::from(answer.status == 200 && sent.is_valid());
        }
        // Neither were they all refused for one reason, nor did the instance die of any, nor does it keep anything.
        assert!(found > 100, "{world:?}: {found} found");
        gateway.expect_one_clean_instance(world);
    });
}

/// Holds an answer to the contract.
fn check(sent: &Sent, answer: &Answer, case: &str) {
    let statuses = [200, 400, 401, 403, 404, 405, 413, 415, 429, 431];
    assert!(statuses.contains(&answer.status), "{} for {case}", answer.status);
    if answer.status != 200 {
        answer.expect((answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default()), case);
    } else if sent.method == Method::POST {
        assert!(sent.is_valid(), "{case}");
        assert_eq!(answer.json()["Secret"].as_str(), sent.secret().as_deref(), "{case}");
        answer.expect((200, ""), case);
    } else {
        let types = [
            ("/healthz", "application/json; charset=utf-8"),
            ("/readyz", "application/json; charset=utf-8"),
            ("/openapi.json", "application/json"),
            ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ];
        assert!(types.contains(&(sent.path(), answer.field("content-type"))), "{answer:?} for {case}");
        assert!(sent.path() != "/metrics" || sent.has_key(), "{case}");
    }
    assert_eq!(answer.headers.contains_key("allow"), answer.status == 405, "{case}");
    assert_eq!(answer.headers.contains_key("www-authenticate"), answer.status == 401, "{case}");
    assert_eq!(answer.headers.contains_key("retry-after"), answer.status == 429, "{case}");
}

/// A request that began as a good one and was then changed.
#[derive(Debug)]
struct Sent {
    method: Method,
    target: PathAndQuery,
    fields: Vec<(HeaderName, HeaderValue)>,
    body: Vec<u8>,
    pieces: usize,
}

impl Sent {
    fn make(random: &mut Random) -> Self {
        let mut sent = Self {
            method: Method::POST,
            target: PathAndQuery::from_static(PATH),
            fields: vec![
                field("content-type", b"application/json"),
                field("x-functions-key", KEY.as_bytes()),
            ],
            body: REQUEST.replace(SECRETS[0], random.one_of(&SECRETS)).into_bytes(),
            pieces: random.one_of(&[1, 1, 2, 3, 40]),
        };
        for _ in 0..random.below(4) {
            match random.below(8) {
                0 => sent.method = Method::from_bytes(random.one_of(&METHODS).as_bytes()).unwrap(),
                1 => sent.target = PathAndQuery::from_static(random.one_of(&TARGETS)),
                2 | 3 => sent.change_fields(random),
                _ => sent.change_body(random),
            }
        }
        sent
    }

    fn change_fields(&mut self, random: &mut Random) {
        let (name, values) = random.one_of(&FIELDS);
        let value = match random.below(8) {
            0 => vec![b'x'; random.below(20_000)],
            1 => vec![random.below(0x7f) as u8 | 0x80],
            _ => random.one_of(values).as_bytes().to_vec(),
        };
        match random.below(3) {
            0 => self.fields.retain(|it| it.0 != name),
            1 => self.fields.reverse(),
            _ => {}
        }
        self.fields.push(field(name, &value));
    }

    fn change_body(&mut self, random: &mut Random) {
        let at = random.below(self.body.len() + 1);
        match random.below(6) {
            0 => self.body.truncate(at),
            1 if at < self.body.len() => self.body[at] ^= 1 << random.below(8),
            2 => self.body = random.one_of(&BODIES).as_bytes().to_vec(),
            3 => self.body.extend(std::iter::repeat_n(random.one_of(b" [{\"a0"), random.below(12_000))),
            4 => drop(self.body.splice(at..at, random.one_of(&PIECES).bytes())),
            _ => self.body.extend_from_within(..at),
        }
    }

    fn request(&self) -> Request<WasiBody> {
        let pieces = self.body.chunks(self.body.len() / self.pieces + 1);
        let pieces: Vec<_> = pieces.map(|piece| Step::Chunk(Bytes::copy_from_slice(piece))).collect();
        let mut request = Request::new(script(&pieces));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.clone().into();
        request.headers_mut().insert("host", HeaderValue::from_static("gateway"));
        for (name, value) in &self.fields {
            request.headers_mut().append(name, value.clone());
        }
        request
    }

    fn path(&self) -> &str {
        self.target.path()
    }

    /// Whether this must be answered from the vault, as far as it does not depend on finer points: a secret for a request
    /// without this is a hole.
    fn is_valid(&self) -> bool {
        let path = self.path().strip_suffix('/').unwrap_or(self.path());
        let values = |name: &str| {
            let fields = self.fields.iter().filter(move |it| it.0 == name);
            fields.map(|it| String::from_utf8_lossy(it.1.as_bytes()).to_ascii_lowercase()).collect::<Vec<_>>()
        };
        let forwarded = |it: &(HeaderName, _)| ["via", "x-forwarded-for"].contains(&it.0.as_str());
        self.method == Method::POST
            && [PATH, "/GetKeyVaultSecret", ""].iter().any(|known| path.eq_ignore_ascii_case(known))
            && self.has_key()
            && values("content-type").iter().any(|it| it.contains("json"))
            && values("content-encoding")
                .iter()
                .all(|list| list.split(',').all(|coding| ["", "identity"].contains(&coding.trim())))
            && !self.fields.iter().any(forwarded)
            && self.body.len() <= 8192
            && self.secret().is_some()
    }

    fn has_key(&self) -> bool {
        let query = self.target.query().unwrap_or_default();
        self.fields.iter().any(|it| it.0 == "x-functions-key" && it.1 == KEY)
            || query.split('&').any(|it| it.strip_prefix("code=") == Some(KEY))
    }

    /// The one secret that the body names, if it can be the name of one.
    fn secret(&self) -> Option<String> {
        let body = self.body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&self.body);
        let fields: Map<String, Value> = serde_json::from_slice(body).ok()?;
        let mut secrets = fields.iter().filter(|it| it.0.eq_ignore_ascii_case("secret"));
        let (Some((_, secret)), None) = (secrets.next(), secrets.next()) else { return None };
        let name = secret.as_str()?;
        let allowed = name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
        (allowed && (1..=127).contains(&name.len())).then(|| name.to_owned())
    }
}

/// Numbers that are the same in each run (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Less than `end`, which is not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

fn field(name: &'static str, value: &[u8]) -> (HeaderName, HeaderValue) {
    (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
}

/// The first of the seeds. Another one is as good; with the same one, a failure can be looked at.
const SEED: u64 = 20_260_101;

/// Requests to each component. How many there were before may not be noticed.
const MANY: u64 = 3000;

#[rustfmt::skip]
const METHODS: [&str; 9] = ["GET", "GET", "HEAD", "PUT", "PATCH", "OPTIONS", "CONNECT", "post", "M-OF-A-CALLER"];

#[rustfmt::skip]
const TARGETS: [&str; 24] = [
    "/", "/GetKeyVaultSecret", PATH, "/API/getkeyvaultsecret", "/api/GetKeyVaultSecret/", "/api/GetKeyVaultSecret/x",
    "/healthz", "/readyz", "/openapi.json", "/metrics", "/secrets/db-password", "/api/../metrics", "//", "/;", "/%",
    "/api/%2e%2e/GetKeyVaultSecret", "/%00", "/\\", "/?code=d41d8cd98f-the-caller-key", "/?code=wrong",
    "/metrics?code=d41d8cd98f-the-caller-key", "/?code=wrong&code=d41d8cd98f-the-caller-key", "/?code=%ff%00&&=&code",
    "/api/GetKeyVaultSecret?",
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
    "{\"Secret\":\"x\",\"Version\":\"..\"}", "{\"Secret\":\"x\",\"Version\":\"00000000000000000000000000000000\"}",
    "\u{feff}{\"SECRET\":\"x\",\"other\":1e9}", "Secret=db-password",
];

#[rustfmt::skip]
const PIECES: [&str; 10] = [
    "\\u0000", "\r\nx: y", "\"", "{\"Secret\":\"x\"}", ",\"Version\":\"\"", "\u{202e}", "%2f", "/", "\\ud800",
    "1e400",
];
