//! A gateway on the fake host, for the fuzz targets: Azure answers with the fuzzer's input, in virtual time.

use std::cell::Ref;
use std::rc::Rc;
use std::time::Duration;

use keyvault_gateway::gateway::Gateway;
use keyvault_gateway::http::headers::Headers;
use keyvault_gateway::http::request::Head;
use keyvault_gateway::http::response::Reply;
use testkit::host::{FakeBody, FakeHost, World, answer, poll_once, secret, token};

pub use keyvault_gateway::azure::Call;
pub use keyvault_gateway::error::Service;
pub use libfuzzer_sys::{Corpus, fuzz_target};
pub use serde_json::{Value, json};
pub use testkit::host::{BEGINNING, Outcome, Response, VERSION};

pub struct TestGateway {
    gateway: Gateway<FakeHost>,
    /// The calls and log lines of the gateway, and its clock.
    pub world: Rc<World>,
}

/// Parses the fuzzer's input as an answer: a byte for the status, a line with `Retry-After`, and the body.
pub fn parse_response(bytes: &[u8]) -> Option<Response> {
    let (status, rest) = pick(bytes, &STATUSES)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, body) = (&rest[..end], &rest[end + 1..]);
    let retry_after = (!line.is_empty()).then(|| String::from_utf8_lossy(&marked(line)).into_owned());
    Some(Response { status, retry_after, challenge: None, body: marked(body) })
}

impl TestGateway {
    /// Creates a gateway whose calls to one upstream all get this response.
    ///
    /// The other calls get an access token, the requested secret, or the JWKS of [`VALID_TOKENS`].
    pub fn new(
        settings: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
        response: Option<(Service, Response)>,
    ) -> Self {
        let settings = settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let outcome = move |call: &Call| match (&response, call.service()) {
            (Some((upstream, response)), called) if *upstream == called => Outcome::Answer(response.clone()),
            (_, Service::TokenSource) => token(86_399),
            (_, Service::Jwks) if call.endpoint().authority() != ISSUER_HOST => answer(200, JWKS),
            (_, Service::Jwks) if call.endpoint().path_and_query() == "/jwks" => answer(200, ISSUER_JWKS),
            (_, Service::Jwks) => answer(200, CONFIGURATION),
            (_, Service::Vault) => {
                let path = call.endpoint().path_and_query();
                secret(path.split(['/', '?']).nth(2).unwrap_or_default(), VALUE)
            }
        };
        let world = Rc::new(World { settings, unscripted: Some(Box::new(outcome)), ..World::default() });
        world.latency.set(Duration::from_millis(10));
        Self { gateway: Gateway::new(FakeHost(Rc::clone(&world))), world }
    }

    pub fn post(&self, key: Option<&str>, body: &[u8]) -> Reply {
        self.send(key.map(|key| ("x-functions-key", key)).into_iter().collect(), body)
    }

    pub fn post_no_cache(&self, key: &str, body: &[u8]) -> Reply {
        self.send(Headers::from_iter([("x-functions-key", key), ("cache-control", "no-cache")]), body)
    }

    pub fn post_with_token(&self, token: &[u8], body: &[u8]) -> Reply {
        self.send(Headers::from_iter([("authorization", [b"Bearer ", token].concat())]), body)
    }

    fn send(&self, mut headers: Headers, body: &[u8]) -> Reply {
        headers.add("content-type", "application/json");
        let head = Head { method: http::Method::POST, target: "/".to_owned(), headers };
        let start = self.world.now.get();
        let answered = self.gateway.answer(head, FakeBody(body.to_vec(), Rc::clone(&self.world)));
        let reply = poll_once(answered).expect("no call of the fake host waits").reply;
        // The longest deadline that a setting allows.
        assert!(
            self.world.now.get() - start <= Duration::from_secs(231),
            "the request exceeds every deadline"
        );
        assert!(self.sent().len() <= MOST_CALLS, "too many calls");
        check_reply(&reply);
        reply
    }

    pub fn sent(&self) -> Ref<'_, Vec<(Call, Duration)>> {
        self.world.sent.borrow()
    }

    pub fn count(&self, upstream: Service) -> usize {
        self.sent().iter().filter(|(call, _)| call.service() == upstream).count()
    }

    /// Fails if the log or the `Debug` output of the gateway contains the mark.
    pub fn expect_no_leak(&self) {
        for line in self.world.log.borrow().iter() {
            assert!(!has_mark(without_code(line).as_bytes()), "leaked in the log: {line}");
            assert!(!line.contains(['\n', '\r']), "more than one line: {line:?}");
        }
        let shown = format!("{:?}", self.gateway);
        assert!(!has_mark(shown.as_bytes()), "leaked by Debug: {shown}");
    }
}

/// Removes the error code of Azure from a log line, the only text of an answer that may be logged.
fn without_code(line: &str) -> String {
    let Some((start, rest)) = line.split_once(r#""cause":""#) else { return line.to_owned() };
    let cause = rest.split('"').next().unwrap_or_default();
    let Some((before, code)) = cause.strip_suffix(')').and_then(|text| text.rsplit_once(", code ")) else {
        return line.to_owned();
    };
    let is_code = code.len() <= 64 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    assert!(is_code, "{line}");
    format!("{start}{before}{}", &rest[cause.len()..])
}

/// Checks the form that every reply has.
fn check_reply(reply: &Reply) {
    let body: Value = serde_json::from_str(text_of(reply)).expect("the body is JSON");
    let retry_after = reply.headers().first("retry-after").map(|text| text.parse::<u64>().unwrap());
    let waits = matches!(reply.status().as_u16(), 429 | 503);
    assert_eq!(retry_after.is_some_and(|seconds| (1..=3600).contains(&seconds)), waits, "{}", reply.status());
    if reply.status() != 200 {
        assert_eq!(body["error"]["code"], reply.code());
        assert!(body["error"]["message"].as_str().is_some_and(|message| message.len() < 300));
        expect_no_mark(reply);
    }
}

pub fn outcome(reply: &Reply) -> (u16, &'static str) {
    (reply.status().as_u16(), reply.code())
}

/// Checks the outcome of a request with a token whose issuer answers with this status.
pub fn expect_outcome_of_issuer(outcome: (u16, &'static str), status: u16) {
    let expected: &[_] = match status {
        200 => &[(200, "OK"), (401, "Unauthorized"), (502, "IdentityError")],
        429 => &[(503, "IdentityThrottled")],
        408 | 500..=599 => &[(503, "Unavailable")],
        _ => &[(502, "IdentityError")],
    };
    assert!(expected.contains(&outcome), "{outcome:?} after a {status}");
}

pub fn text_of(reply: &Reply) -> &str {
    str::from_utf8(reply.body().expose()).expect("the body is UTF-8")
}

pub fn expect_no_mark(reply: &Reply) {
    assert!(!has_mark(reply.body().expose()), "leaked in the body");
    for (name, value) in reply.headers().as_list() {
        assert!(!has_mark(value), "leaked in {name}");
    }
}

/// Picks one of `all` by the first byte, `0` for the first one. Returns the rest of the bytes, too.
pub fn pick<'a, T: Copy>(bytes: &'a [u8], all: &[T]) -> Option<(T, &'a [u8])> {
    let (first, rest) = bytes.split_first()?;
    Some((all[usize::from(first.wrapping_sub(b'0')) % all.len()], rest))
}

/// Replaces each `~` by two marks, so that any sixteen bytes of the result contain a whole mark.
pub fn marked(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == b'~').collect::<Vec<_>>().join(&MARK.repeat(2)[..])
}

pub fn has_mark(text: &[u8]) -> bool {
    contains(text, MARK)
}

pub fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The mark of private text: valid in every kind of text, because it is alphanumeric, but not hexadecimal.
const MARK: &[u8] = b"s3nt1nel";

/// The statuses that the gateway distinguishes, and some others.
const STATUSES: [u16; 16] = [200, 400, 401, 403, 404, 408, 410, 429, 500, 503, 201, 204, 302, 307, 418, 599];

/// Five requests, each with two rounds of three attempts at the vault, and the token calls for each round.
const MOST_CALLS: usize = 60;

/// Settings that accept the access tokens in `data/`, whose JWKS is `data/keys.json`. The private keys are
/// destroyed, so there is no other valid token.
pub const WITH_TENANT: [(&str, &str); 5] = [
    ("KeyVaultUri", "https://my-vault.vault.azure.net"),
    ("GATEWAY_JWT_TENANT", "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42"),
    ("GATEWAY_JWT_AUDIENCE", "api://keyvault-gateway"),
    ("GATEWAY_LOG", "debug"),
    (
        "GATEWAY_CALLERS",
        r#"[{"name":"bearer","oid":["d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05"],"secrets":["*"]}]"#,
    ),
];

/// Settings with the API key `right`.
pub const WITH_API_KEY: [(&str, &str); 3] =
    [("KeyVaultUri", "https://my-vault.vault.azure.net"), ("GATEWAY_KEY", "right"), ("GATEWAY_LOG", "debug")];

/// Settings that also accept the tokens of an OIDC issuer in `data/`, whose JWKS is `data/issuer_keys.json`.
/// These private keys are destroyed, too.
pub const WITH_ISSUERS: [(&str, &str); 6] = [
    WITH_TENANT[0],
    WITH_TENANT[1],
    WITH_TENANT[2],
    WITH_TENANT[3],
    ("GATEWAY_OIDC", r#"[{"issuer":"https://oidc.example","audience":"keyvault-gateway"}]"#),
    (
        "GATEWAY_CALLERS",
        r#"[{"name":"bearer","oid":["d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05"],"secrets":["*"]},
            {"name":"account","iss":"https://oidc.example","sub":["system:serviceaccount:billing:app"],
             "secrets":["*"]}]"#,
    ),
];

/// The valid tokens of the issuer, by RS256 and by ES256.
pub const ISSUER_TOKENS: [&str; 2] =
    [include_str!("../data/token_rs256"), include_str!("../data/token_es256")];

/// The issuer, its host, its configuration and its JWKS.
pub const ISSUER: &str = "https://oidc.example";
const ISSUER_HOST: &str = "oidc.example";
const CONFIGURATION: &str = r#"{"issuer":"https://oidc.example","jwks_uri":"https://oidc.example/jwks"}"#;
const ISSUER_JWKS: &str = include_str!("../data/issuer_keys.json");

/// The valid access tokens, of version 1 and version 2.
pub const VALID_TOKENS: [&str; 2] = [include_str!("../data/token_v1"), include_str!("../data/token_v2")];

pub const JWKS: &str = include_str!("../data/keys.json");

pub const REQUEST: &[u8] = br#"{"Secret":"db-password"}"#;

/// The value of every secret in an unscripted answer.
pub const VALUE: &str = "the-value";
