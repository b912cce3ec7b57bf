//! A gateway on the fake host, for the fuzz targets: Azure answers with what the fuzzer made up, in virtual time.

#![expect(missing_docs, reason = "an item without a comment is what its name says")]

use core::cell::Ref;
use core::time::Duration;
use std::rc::Rc;

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

pub struct Scene {
    gateway: Gateway<FakeHost>,
    /// What the gateway has sent and logged, and its clock.
    pub world: Rc<World>,
}

/// Reads an answer from the fuzzer's bytes: one for the status, a line with `Retry-After`, and the body.
pub fn response(bytes: &[u8]) -> Option<Response> {
    let (status, rest) = choice(bytes, &STATUSES)?;
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let (line, body) = (&rest[..end], &rest[end + 1..]);
    let retry_after = (!line.is_empty()).then(|| String::from_utf8_lossy(&marked(line)).into_owned());
    Some(Response { status, retry_after, challenge: None, body: marked(body) })
}

impl Scene {
    /// A gateway with `settings`, whose calls to `upstream` are all answered with `response`. The other calls, or all without a
    /// response, get a token, the secret that the call asks for, or the keys of [`GOOD_TOKENS`].
    pub fn new(
        settings: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
        response: Option<(Service, Response)>,
    ) -> Self {
        let settings = settings.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        let outcome = move |call: &Call| match (&response, call.upstream()) {
            (Some((upstream, response)), to) if *upstream == to => Outcome::Answer(response.clone()),
            (_, Service::Identity) => token(86_399),
            (_, Service::Directory) => answer(200, KEYS),
            (_, Service::Vault) => {
                let path = call.endpoint().path_and_query();
                secret(path.split(['/', '?']).nth(2).unwrap_or_default(), VALUE)
            }
        };
        let world = Rc::new(World { settings, unscripted: Some(Box::new(outcome)), ..World::default() });
        world.latency.set(Duration::from_millis(10));
        Self { gateway: Gateway::new(FakeHost(Rc::clone(&world))), world }
    }

    pub fn ask(&self, key: Option<&str>, body: &[u8]) -> Reply {
        self.send(key.map(|key| ("x-functions-key", key)).into_iter().collect(), body)
    }

    pub fn ask_again(&self, key: &str, body: &[u8]) -> Reply {
        self.send(Headers::from_iter([("x-functions-key", key), ("cache-control", "no-cache")]), body)
    }

    pub fn ask_with_token(&self, token: &[u8], body: &[u8]) -> Reply {
        self.send(Headers::from_iter([("authorization", [b"Bearer ", token].concat())]), body)
    }

    fn send(&self, mut fields: Headers, body: &[u8]) -> Reply {
        fields.add("content-type", "application/json");
        let head = Head { method: http::Method::POST, target: "/".to_owned(), fields };
        let start = self.world.now.get();
        let answered = self.gateway.answer(head, FakeBody(body.to_vec(), Rc::clone(&self.world)));
        let reply = poll_once(answered).expect("nothing in this world takes a second poll").reply;
        // The longest deadline that can be set, which bounds what every request costs.
        assert!(self.world.now.get() - start <= Duration::from_secs(231), "a request does not end");
        assert!(self.sent().len() <= MOST_CALLS, "too many calls");
        check_form(&reply);
        reply
    }

    pub fn sent(&self) -> Ref<'_, Vec<(Call, Duration)>> {
        self.world.sent.borrow()
    }

    pub fn count(&self, upstream: Service) -> usize {
        self.sent().iter().filter(|(call, _)| call.upstream() == upstream).count()
    }

    /// Fails if the log or the `Debug` text of the gateway has a mark.
    pub fn keeps_to_itself(&self) {
        for line in self.world.log.borrow().iter() {
            assert!(!has_mark(without_code(line).as_bytes()), "the log has it: {line}");
            assert!(!line.contains(['\n', '\r']), "more than one line: {line:?}");
        }
        let shown = format!("{:?}", self.gateway);
        assert!(!has_mark(shown.as_bytes()), "Debug shows it: {shown}");
    }
}

/// A line without the code that its cause may end with, which is all that it may have of Azure's answer.
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

/// What holds for every reply.
fn check_form(reply: &Reply) {
    let body: Value = serde_json::from_str(text_of(reply)).expect("a body is JSON");
    let retry_after = reply.fields().first("retry-after").map(|text| text.parse::<u64>().unwrap());
    let waits = matches!(reply.status().as_u16(), 429 | 503);
    assert_eq!(retry_after.is_some_and(|seconds| (1..=3600).contains(&seconds)), waits, "{}", reply.status());
    if reply.status() != 200 {
        assert_eq!(body["error"]["code"], reply.code());
        assert!(body["error"]["message"].as_str().is_some_and(|message| message.len() < 300));
        shows_nothing(reply);
    }
}

pub fn outcome(reply: &Reply) -> (u16, &'static str) {
    (reply.status().as_u16(), reply.code())
}

pub fn text_of(reply: &Reply) -> &str {
    str::from_utf8(reply.body().expose()).expect("a body is text")
}

pub fn shows_nothing(reply: &Reply) {
    assert!(!has_mark(reply.body().expose()), "the body has it");
    for (name, value) in reply.fields().as_list() {
        assert!(!has_mark(value), "{name} has it");
    }
}

/// One of `all`, which the first of `bytes` chooses, `0` for the first of them; and the other bytes.
pub fn choice<'a, T: Copy>(bytes: &'a [u8], all: &[T]) -> Option<(T, &'a [u8])> {
    let (first, rest) = bytes.split_first()?;
    Some((all[usize::from(first.wrapping_sub(b'0')) % all.len()], rest))
}

/// `bytes` with each `~` replaced by a mark, twice, so that any sixteen bytes of it have it whole.
pub fn marked(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|byte| *byte == b'~').collect::<Vec<_>>().join(&MARK.repeat(2)[..])
}

pub fn has_mark(text: &[u8]) -> bool {
    has(text, MARK)
}

pub fn has(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Letters and digits, so that it fits wherever text does, but not hexadecimal.
const MARK: &[u8] = b"s3nt1nel";

/// The statuses that have a meaning, and some that do not.
const STATUSES: [u16; 16] = [200, 400, 401, 403, 404, 408, 410, 429, 500, 503, 201, 204, 302, 307, 418, 599];

/// Five requests, each with two ways to the vault of three tries and a token for each way.
const MOST_CALLS: usize = 60;

/// The settings of a gateway that takes the tokens in `data/`, whose keys are in `data/keys.json`. Their private keys are
/// gone, so that there is no other good token.
pub const TENANT: [(&str, &str); 5] = [
    ("KeyVaultUri", "https://my-vault.vault.azure.net"),
    ("GATEWAY_JWT_TENANT", "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42"),
    ("GATEWAY_JWT_AUDIENCE", "api://keyvault-gateway"),
    ("GATEWAY_LOG", "debug"),
    (
        "GATEWAY_CALLERS",
        r#"[{"name":"bearer","oid":["d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05"],"secrets":["*"]}]"#,
    ),
];

/// The settings of a gateway with the API key `right`.
pub const KEYED: [(&str, &str); 3] =
    [("KeyVaultUri", "https://my-vault.vault.azure.net"), ("GATEWAY_KEY", "right"), ("GATEWAY_LOG", "debug")];

/// The good tokens, of the first and of the second version.
pub const GOOD_TOKENS: [&str; 2] = [include_str!("../data/token_v1"), include_str!("../data/token_v2")];

pub const KEYS: &str = include_str!("../data/keys.json");

pub const ASKED: &[u8] = br#"{"Secret":"db-password"}"#;

/// The value of every secret, where the vault is well.
pub const VALUE: &str = "the-value";
