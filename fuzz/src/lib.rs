//! The world of the fuzz targets: a gateway whose host answers with what the fuzzer made up, in virtual time.

use core::cell::{Cell, Ref, RefCell};
use core::fmt;
use core::future::{Future, pending};
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::borrow::Cow;
use std::rc::Rc;

use http::Method;
use keyvault_gateway::azure::{Answer, Call, Upstream};
use keyvault_gateway::fields::HeaderFields;
use keyvault_gateway::gateway::Gateway;
use keyvault_gateway::host::{Body, Host, Moment, NoAnswer, NoBody, NoStores, Unreadable};
use keyvault_gateway::reply::Reply;
use keyvault_gateway::request::Head;

/// A gateway and the world around it.
pub struct Scene {
    gateway: Gateway<InWorld>,
    world: Rc<World>,
}

/// What one of Azure's services says to every call.
#[derive(Clone)]
pub enum Says {
    /// What it says when all is well: a token, or the secret that was asked for.
    Well,
    /// This.
    This(Made),
}

/// An answer that the fuzzer made.
#[derive(Clone)]
pub struct Made {
    /// The status.
    pub status: u16,
    /// The value of `Retry-After`, if there is one.
    pub retry_after: Option<String>,
    /// The value of `WWW-Authenticate`, if there is one.
    pub challenge: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

/// A call that the gateway made.
#[derive(Debug, PartialEq, Eq)]
pub struct Sent {
    /// Where it went.
    pub upstream: Upstream,
    /// The method.
    pub method: Method,
    /// Whether the scheme was `https`.
    pub tls: bool,
    /// The host and perhaps the port.
    pub authority: String,
    /// The path and the query.
    pub path_and_query: String,
    /// The header fields.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Made {
    /// Reads an answer from the fuzzer's bytes: one for the status, a line with `Retry-After`, and the body.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (status, rest) = choice(bytes, &STATUSES)?;
        let end = rest.iter().position(|it| *it == b'\n')?;
        let (line, body) = (&rest[..end], &rest[end + 1..]);
        let retry_after = (!line.is_empty()).then(|| String::from_utf8_lossy(&marked(line)).into_owned());
        Some(Self { status, retry_after, challenge: None, body: marked(body) })
    }

    /// Whether something of it is marked.
    pub fn is_marked(&self) -> bool {
        has_mark(&self.body) || self.retry_after.as_ref().is_some_and(|it| has_mark(it.as_bytes()))
    }

    /// The body as JSON, read by a parser that knows nothing of ours. It refuses some that ours passes over, such as a
    /// number of a thousand digits in a property that nobody reads.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl Scene {
    /// A gateway with `settings`, a token source that says `identity`, and a vault that says `vault`.
    pub fn new(settings: Vec<(Cow<'static, str>, String)>, identity: Says, vault: Says) -> Self {
        Self::with_directory(settings, identity, vault, Says::Well)
    }

    /// The same with a directory of callers' tenant that says `directory`.
    pub fn with_directory(
        settings: Vec<(Cow<'static, str>, String)>,
        identity: Says,
        vault: Says,
        directory: Says,
    ) -> Self {
        let world = Rc::new(World {
            settings,
            identity,
            vault,
            directory,
            now: Cell::new(Duration::ZERO),
            sent: RefCell::default(),
            log: RefCell::default(),
        });
        Self { gateway: Gateway::new(InWorld(Rc::clone(&world))), world }
    }

    /// Asks for a secret with `key`.
    pub fn ask(&self, key: Option<&str>, body: &[u8]) -> Reply {
        self.ask_with(key, false, body)
    }

    /// The same, past what is remembered.
    pub fn ask_again(&self, key: Option<&str>, body: &[u8]) -> Reply {
        self.ask_with(key, true, body)
    }

    /// Asks for a secret with a token.
    pub fn ask_with_token(&self, token: &[u8], body: &[u8]) -> Reply {
        let token = [b"Bearer ", token].concat();
        self.send(HeaderFields::from_iter([("authorization", token)]), body)
    }

    fn ask_with(&self, key: Option<&str>, fresh: bool, body: &[u8]) -> Reply {
        let mut fields = HeaderFields::new();
        if let Some(key) = key {
            fields.add("x-functions-key", key);
        }
        if fresh {
            fields.add("cache-control", "no-cache");
        }
        self.send(fields, body)
    }

    fn send(&self, mut fields: HeaderFields, body: &[u8]) -> Reply {
        fields.add("content-type", "application/json");
        let head = Head { method: Method::POST, target: "/".to_owned(), fields };
        let start = self.world.now.get();
        let answered = match pin!(self.gateway.answer(head, Given(body.to_vec())))
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(answered) => answered,
            Poll::Pending => panic!("nothing in this world takes a second poll"),
        };
        // The longest deadline that can be set, which bounds what every request costs.
        assert!(self.world.now.get() - start <= Duration::from_secs(231), "a request does not end");
        assert!(self.world.sent.borrow().len() <= MOST_CALLS, "too many calls");
        check_form(&answered.reply);
        answered.reply
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.world.now.set(self.world.now.get() + time);
    }

    /// The calls so far.
    pub fn sent(&self) -> Ref<'_, Vec<Sent>> {
        self.world.sent.borrow()
    }

    /// The lines of the log so far.
    pub fn log(&self) -> Ref<'_, Vec<String>> {
        self.world.log.borrow()
    }

    /// How many calls went to `upstream` so far.
    pub fn count(&self, upstream: Upstream) -> usize {
        self.sent().iter().filter(|it| it.upstream == upstream).count()
    }

    /// Fails if the log or what `Debug` shows of the gateway has something of what was marked.
    pub fn keeps_to_itself(&self) {
        for line in self.world.log.borrow().iter() {
            assert!(!has_mark(without_code(line).as_bytes()), "the log has it: {line}");
            assert!(!line.contains(['\n', '\r']), "more than one line: {line:?}");
        }
        let shown = format!("{:?}", self.gateway);
        assert!(!has_mark(shown.as_bytes()), "Debug shows it: {shown}");
    }
}

/// A line but for the code of Azure's that its cause may end with, which is all that it may have of what Azure said.
fn without_code(line: &str) -> String {
    let Some((start, rest)) = line.split_once(r#""cause":""#) else { return line.to_owned() };
    let cause = rest.split('"').next().unwrap_or_default();
    let Some((before, code)) = cause.strip_suffix(')').and_then(|it| it.rsplit_once(", code ")) else {
        return line.to_owned();
    };
    let is_code = code.len() <= 64 && code.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    assert!(is_code, "{line}");
    format!("{start}{before}{}", &rest[cause.len()..])
}

/// What holds for every reply, whatever happened.
fn check_form(reply: &Reply) {
    let text = str::from_utf8(reply.body().expose()).expect("a body is text");
    let body: serde_json::Value = serde_json::from_str(text).expect("a body is JSON");
    let retry_after = reply.fields().first("retry-after").map(|it| it.parse::<u64>().unwrap());
    let waits = matches!(reply.status().as_u16(), 429 | 503);
    assert_eq!(retry_after.is_some_and(|it| (1..=3600).contains(&it)), waits, "{}", reply.status());
    if reply.status() != 200 {
        assert_eq!(body["error"]["code"], reply.code());
        assert!(body["error"]["message"].as_str().is_some_and(|it| it.len() < 300));
        shows_nothing(reply);
    }
}

/// Fails if `reply` has something of what was marked.
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

/// The bytes of text in base64url without padding, read by hand.
pub fn decoded(text: &str) -> Option<Vec<u8>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for byte in text.bytes() {
        let digit = DIGITS.iter().position(|it| *it == byte)?;
        bits = (bits << 6 | u32::try_from(digit).ok()?) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// `bytes` with each `~` made into a mark, so that it can be found wherever it should not be.
pub fn marked(bytes: &[u8]) -> Vec<u8> {
    let mut marked = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            // Twice, so that any sixteen bytes of it have it whole.
            b'~' => marked.extend_from_slice(&[MARK, MARK].concat()),
            byte => marked.push(*byte),
        }
    }
    marked
}

/// Whether `text` has a mark.
pub fn has_mark(text: &[u8]) -> bool {
    let starts = text.iter().enumerate().filter(|it| *it.1 == MARK[0]);
    starts.map(|it| it.0).any(|at| text[at..].starts_with(MARK))
}

/// Letters and digits, so that it fits wherever text does, but not hexadecimal.
const MARK: &[u8] = b"s3nt1nel";

/// The statuses that mean something to somebody, and some that do not.
const STATUSES: [u16; 16] = [200, 400, 401, 403, 404, 408, 410, 429, 500, 503, 201, 204, 302, 307, 418, 599];

/// Five requests, each with two ways to the vault of three tries, and a token for each way that is asked for until the deadline.
const MOST_CALLS: usize = 120;

struct World {
    settings: Vec<(Cow<'static, str>, String)>,
    identity: Says,
    vault: Says,
    directory: Says,
    now: Cell<Duration>,
    sent: RefCell<Vec<Sent>>,
    log: RefCell<Vec<String>>,
}

struct InWorld(Rc<World>);

impl fmt::Debug for InWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InWorld")
    }
}

impl Host for InWorld {
    type Stores = NoStores;

    fn setting(&self, name: &'static str) -> Result<Option<String>, Unreadable> {
        Ok(self.0.settings.iter().find(|it| it.0 == name).map(|it| it.1.clone()))
    }

    fn now(&self) -> Moment {
        Moment::after_start(self.0.now.get())
    }

    fn unix_time(&self) -> u64 {
        UNIX_TIME + self.0.now.get().as_secs()
    }

    fn random(&self) -> u64 {
        7
    }

    fn log(&self, line: &str) {
        self.0.log.borrow_mut().push(line.to_owned());
    }

    async fn send(&self, call: Call, _: Duration) -> Result<Answer, NoAnswer> {
        let endpoint = call.endpoint();
        let path_and_query = endpoint.path_and_query().to_owned();
        let says = match call.upstream() {
            Upstream::Identity => &self.0.identity,
            Upstream::Vault => &self.0.vault,
            Upstream::Directory => &self.0.directory,
        };
        let answer = match (says, call.upstream()) {
            (Says::This(made), _) => Answer::new(made.status, made.retry_after.clone(), made.body.clone())
                .with_challenge(made.challenge.clone()),
            (Says::Well, Upstream::Identity) => Answer::new(200, None, TOKEN.into()),
            (Says::Well, Upstream::Vault) => Answer::new(200, None, secret_at(&path_and_query)),
            (Says::Well, Upstream::Directory) => Answer::new(200, None, KEYS.into()),
        };
        self.0.sent.borrow_mut().push(Sent {
            upstream: call.upstream(),
            method: call.method().clone(),
            tls: endpoint.is_tls(),
            authority: endpoint.authority().to_owned(),
            path_and_query,
            headers: call.headers().iter().map(|(name, value)| (*name, value.expose().clone())).collect(),
            body: call.body().expose().clone(),
        });
        self.0.now.set(self.0.now.get() + LATENCY);
        Ok(answer)
    }

    async fn sleep(&self, time: Duration) {
        self.0.now.set(self.0.now.get() + time);
    }

    type Signal = ();

    fn signal(&self) -> ((), impl Future<Output = ()>) {
        ((), pending())
    }
}

/// The secret that a request with this path asks for.
fn secret_at(path_and_query: &str) -> Vec<u8> {
    let name = path_and_query.split(['/', '?']).nth(2).unwrap_or_default();
    let id = format!("https://my-vault.vault.azure.net/secrets/{name}/{VERSION}");
    serde_json::json!({ "value": VALUE, "id": id }).to_string().into_bytes()
}

/// The settings of a gateway that takes the tokens in `data/`, whose keys are in `data/keys.json`. Their private keys are
/// gone, so that nobody can make another.
pub fn settings_of_a_tenant() -> Vec<(Cow<'static, str>, String)> {
    let settings = [
        ("KeyVaultUri", "https://my-vault.vault.azure.net"),
        ("GATEWAY_JWT_TENANT", "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42"),
        ("GATEWAY_JWT_AUDIENCE", "api://keyvault-gateway"),
        ("GATEWAY_LOG", "debug"),
        (
            "GATEWAY_CALLERS",
            r#"[{"name":"bearer","oid":["d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05"],"secrets":["*"]}]"#,
        ),
    ];
    settings.into_iter().map(|(name, value)| (Cow::from(name), value.to_owned())).collect()
}

/// The good tokens, of the first and of the second version.
pub const GOOD_TOKENS: [&str; 2] = [include_str!("../data/token_v1"), include_str!("../data/token_v2")];

/// The keys that they are signed with.
pub const KEYS: &str = include_str!("../data/keys.json");

/// The value of every secret, where the vault is well.
pub const VALUE: &str = "the-value";

/// The version of every secret.
pub const VERSION: &str = "3d76eb676e0a40429c7aa2b4b7912a5d";

const TOKEN: &str = r#"{"access_token":"the-token","token_type":"Bearer","expires_in":"86399"}"#;

/// The calendar clock of every scene at its beginning: 2024-12-31T23:59:59Z.
pub const UNIX_TIME: u64 = 1_735_689_599;

const LATENCY: Duration = Duration::from_millis(10);

struct Given(Vec<u8>);

impl Body for Given {
    fn authority(&self) -> Option<String> {
        None
    }

    async fn read(self, most: usize, _: Moment) -> Result<Vec<u8>, NoBody> {
        if self.0.len() > most { Err(NoBody::TooLarge) } else { Ok(self.0) }
    }
}
