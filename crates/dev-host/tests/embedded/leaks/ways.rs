//! The ways in which a request can be, with marks in each place where a caller says something.

use http::{HeaderName, HeaderValue, Method, Request};
use keyvault_emulator::{Emulator, facts};
use serde_json::{Value, json};

use super::{AUDIENCE, DISABLED, NUMBER, SCOPED_KEY, SENT};
use crate::gateway::{KEY, PATH, REQUEST, full};

/// A request, by what is about it.
pub(super) struct Way {
    pub(super) name: &'static str,
    method: Method,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Way {
    fn new(name: &'static str, method: Method, target: &str) -> Self {
        Self { name, method, target: target.to_owned(), fields: Vec::new(), body: Vec::new() }
    }

    /// With the key.
    pub(super) fn get(name: &'static str, target: &str) -> Self {
        Self::new(name, Method::GET, target).with("x-functions-key", KEY)
    }

    /// The function's request with another body, with the key.
    pub(super) fn post(name: &'static str, body: &str) -> Self {
        Self::without_key(name, body).with("x-functions-key", KEY)
    }

    fn without_key(name: &'static str, body: &str) -> Self {
        let body = body.as_bytes().to_vec();
        Self { body, ..Self::new(name, Method::POST, PATH) }.with("content-type", "application/json")
    }

    pub(super) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    fn at(self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self }
    }

    pub(super) fn request(&self) -> Request<wasmtime_wasi_http::WasiBody> {
        let mut request = Request::new(full(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.parse().unwrap();
        request.headers_mut().insert("host", HeaderValue::from_static("gateway"));
        for (name, value) in &self.fields {
            request
                .headers_mut()
                .append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        request
    }
}

/// Each way in which a request can be.
pub(super) fn ways() -> Vec<Way> {
    [credentials(), bodies(), asked(), around(), routes()].into_iter().flatten().collect()
}

/// The ways to show a credential. A new kind of credential belongs here: right, wrong and broken.
fn credentials() -> Vec<Way> {
    let without = |name| Way::without_key(name, REQUEST);
    let query = |key: &str| format!("{PATH}?code={key}&{SENT}={SENT}");
    vec![
        Way::post("the right key", REQUEST),
        without("no key"),
        without("an empty key").with("x-functions-key", ""),
        without("a wrong key").with("x-functions-key", WRONG_KEY),
        without("half of the right key").with("x-functions-key", &KEY[..KEY.len() / 2]),
        without("two keys").with("x-functions-key", KEY).with("x-functions-key", WRONG_KEY),
        without("a wrong key, and the right one in the query").at(&query(KEY)).with("x-functions-key", WRONG_KEY),
        without("the right key with more").with("x-functions-key", &format!("{KEY}{SENT}")),
        without("the right key in the query").at(&query(KEY)),
        without("a wrong key in the query").at(&query(WRONG_KEY)),
        without("a key of few secrets").with("x-functions-key", SCOPED_KEY),
        Way::without_key("a key of this secret", r#"{"Secret":"db-password"}"#).with("x-functions-key", SCOPED_KEY),
        without("a token").with("authorization", &bearer(json!({"alg": "RS256", "kid": SENT, "typ": "JWT"}))),
        without("a token without a signature").with("authorization", &bearer(json!({"alg": "none", "kid": SENT}))),
        without("a token with keys of its own").with(
            "authorization",
            &bearer(json!({"alg": "RS256", "jku": format!("https://attacker.example/{SENT}"), "jwk": {"n": SENT}})),
        ),
        without("half of a token").with("authorization", &bearer(json!({"alg": "RS256"}))[..60]),
        without("no token, but that word").with("authorization", &format!("Bearer {SENT}")),
        without("a password").with("authorization", &format!("Basic {SENT}")),
    ]
    .into_iter()
    .chain(tokens())
    .collect()
}

/// The ways to show a token of the tenant, good and not.
fn tokens() -> Vec<Way> {
    // Its keys are those of every emulator that has not changed them.
    let entra = Emulator::new();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims =
        Emulator::caller_claims(i64::try_from(now).unwrap(), AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[]);
    let header = entra.signing_header();
    let with = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        entra.sign(&header, &changed)
    };
    let mut unknown = header.clone();
    unknown["kid"] = SENT.into();
    let way = |name, token: String| {
        Way::without_key(name, REQUEST)
            .with("authorization", &format!("Bearer {token}"))
            .with("cache-control", "no-cache")
    };
    vec![
        way("a token of the tenant", entra.sign(&header, &claims)),
        way("a token of the tenant for another audience", with("aud", "https://vault.azure.net".into())),
        way("a token of the tenant that has expired", with("exp", 1.into())),
        way("a token of the tenant that is not yet good", with("nbf", (now + 90_000).into())),
        way("a token of the tenant for another identity", with("oid", SENT.into())),
        way("a token of the tenant with marks", with("xms_mirid", SENT.into())),
        way("a token of the tenant by another key", entra.sign_as_stranger(&header, &claims)),
        way("a token of the tenant by an unknown key", entra.sign(&unknown, &claims)),
    ]
}

/// Something that looks like a token of Entra ID, with marks in it.
fn bearer(header: Value) -> String {
    let claims = json!({"aud": SENT, "iss": SENT, "tid": SENT, "oid": SENT, "roles": [SENT], "exp": NUMBER});
    let [header, claims] = [header, claims].map(|it| base64url(it.to_string().as_bytes()));
    format!("Bearer {header}.{claims}.{}", base64url(SENT.repeat(9).as_bytes()))
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<u8> = bytes.iter().flat_map(|it| (0..8).rev().map(move |at| it >> at & 1)).collect();
    let sextets = bits.chunks(6).map(|it| it.iter().fold(0, |all, it| all << 1 | it) << (6 - it.len()));
    sextets.map(|it| char::from(ALPHABET[usize::from(it)])).collect()
}

/// Bodies that are not what is wanted, and quote something that a parser would like to repeat.
fn bodies() -> Vec<Way> {
    let deep = format!("{}\"{SENT}\"", r#"{"Secret":"#.repeat(500));
    let bodies = [
        ("an empty body", String::new()),
        ("no JSON", SENT.to_owned()),
        ("JSON that is a text", format!("\"{SENT}\"")),
        ("JSON that is cut", format!(r#"{{"Secret":"{SENT}"#)),
        ("JSON with more behind it", format!(r#"{REQUEST}{SENT}"#)),
        ("a bad escape", format!(r#"{{"Secret":"{SENT}\q"}}"#)),
        ("deep JSON", deep),
        ("a secret that is no name", format!(r#"{{"Secret":"{SENT}/../{SENT}"}}"#)),
        ("a secret that is a number", format!(r#"{{"Secret":{NUMBER}}}"#)),
        ("a secret that is an object", format!(r#"{{"Secret":{{"{SENT}":"{SENT}"}}}}"#)),
        ("two secrets", format!(r#"{{"Secret":"x","secret":"{SENT}"}}"#)),
        ("no secret", format!(r#"{{"{SENT}":"{SENT}"}}"#)),
        ("a version that is none", format!(r#"{{"Secret":"x","Version":"{SENT}"}}"#)),
        ("a version that is a number", format!(r#"{{"Secret":"x","Version":{NUMBER}}}"#)),
        ("members that are unknown", format!(r#"{{"Secret":"x","{SENT}":"{SENT}","Value":"{SENT}"}}"#)),
        ("a body that is too large", format!(r#"{{"Secret":"x","more":"{}"}}"#, SENT.repeat(400))),
    ];
    let mut ways: Vec<Way> = bodies.iter().map(|it| Way::post(it.0, &it.1)).collect();
    let mut bytes = Way::post("bytes that are no text", SENT);
    bytes.body.extend([0xff, 0xfe, 0]);
    ways.push(bytes);
    ways
}

/// Secrets that are there, that are not, and that are not to be had.
fn asked() -> Vec<Way> {
    let version = "3d76eb676e0a40429c7aa2b4b7912a5d";
    vec![
        Way::post("another secret", r#"{"Secret":"db-password"}"#),
        Way::post("an unknown secret", r#"{"Secret":"unknown"}"#),
        Way::post("a disabled secret", &format!(r#"{{"Secret":"{DISABLED}"}}"#)),
        Way::post("an unknown version", &format!(r#"{{"Secret":"x","Version":"{version}"}}"#)),
        Way::post("a fresh value", REQUEST).with("cache-control", "no-cache"),
    ]
}

/// What comes with a request.
fn around() -> Vec<Way> {
    let right = |name| Way::post(name, REQUEST).with("cache-control", "no-cache");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut without_type = right("a body of no type");
    without_type.fields.remove(0);
    vec![
        right("a trace").with("traceparent", trace).with("tracestate", "vendor=1"),
        right("a trace that is none").with("traceparent", SENT).with("tracestate", SENT),
        right("forwarded").with("forwarded", &format!("for={SENT}")),
        right("by way of a proxy").with("via", &format!("1.1 {SENT}")),
        right("fields of all kinds")
            .with("cookie", &format!("session={SENT}"))
            .with("user-agent", SENT)
            .with("referer", &format!("https://example.com/{SENT}"))
            .with("x-ms-client-request-id", SENT)
            .with("x-identity-header", SENT)
            .with("metadata", "true")
            .with("accept", SENT),
        right("fields that are too large").with("x-more", &SENT.repeat(2000)),
        right("a body that is compressed").with("content-encoding", SENT),
        right("a query").at(&format!("{PATH}?{SENT}={SENT}&api-version={SENT}")),
        without_type,
    ]
}

/// The other routes, those that are none, and methods that they do not have.
fn routes() -> Vec<Way> {
    let nowhere = format!("/{SENT}/{SENT}?code={KEY}&{SENT}={SENT}");
    let none = |name, method, target: &str| Way::new(name, method, target);
    vec![
        none("healthy?", Method::GET, "/healthz"),
        none("ready?", Method::GET, "/readyz"),
        none("the description", Method::GET, "/openapi.json"),
        Way::get("metrics", "/metrics"),
        none("metrics without a key", Method::GET, "/metrics"),
        none("metrics with a key in the query", Method::GET, &format!("/metrics?code={KEY}")),
        none("metrics with a wrong key", Method::GET, &format!("/metrics?code={WRONG_KEY}")),
        Way::get("nowhere", &nowhere),
        Way::post("a body to nowhere", &format!(r#"{{"Secret":"{SENT}"}}"#)).at(&nowhere),
        Way::get("a secret by GET", &format!("{PATH}?code={KEY}&secret={SENT}")),
        none("a method that is unknown", Method::from_bytes(b"MARKED").unwrap(), &format!("{PATH}?{SENT}")),
        Way::post("the short path", REQUEST).at("/"),
    ]
}

const WRONG_KEY: &str = "marked-5c1f08-a-wrong-key";
