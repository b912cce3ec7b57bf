//! The kinds of requests, with a mark in each part that a caller controls.

use http::{HeaderName, HeaderValue, Method, Request};
use keyvault_emulator::{Emulator, facts};
use serde_json::{Value, json};

use super::{ACCOUNT, AUDIENCE, DISABLED, ISSUER, NUMBER_MARK as NUMBER, REQUEST_MARK as MARK, SCOPED_KEY};
use crate::gateway::{KEY, PATH, REQUEST, SECRETS, full};

/// A named kind of request.
pub(super) struct Case {
    pub(super) name: &'static str,
    method: Method,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Case {
    fn new(name: &'static str, method: Method, target: &str) -> Self {
        Self { name, method, target: target.to_owned(), fields: Vec::new(), body: Vec::new() }
    }

    /// Returns a GET request with the key.
    pub(super) fn get(name: &'static str, target: &str) -> Self {
        Self::new(name, Method::GET, target).with("x-functions-key", KEY)
    }

    /// Returns the function's request with another body, with the key.
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

/// Returns every kind of request.
pub(super) fn cases() -> Vec<Case> {
    [credentials(), bodies(), secrets(), header_fields(), routes()].into_iter().flatten().collect()
}

/// Returns requests with each kind of credential. A new kind belongs here: right, wrong and malformed.
fn credentials() -> Vec<Case> {
    let without = |name| Case::without_key(name, REQUEST);
    let query = |key: &str| format!("{PATH}?code={key}&{MARK}={MARK}");
    let jwks = format!("https://attacker.example/{MARK}");
    vec![
        Case::post("the right key", REQUEST),
        without("no key"),
        without("an empty key").with("x-functions-key", ""),
        without("a wrong key").with("x-functions-key", WRONG_KEY),
        without("a truncated key").with("x-functions-key", &KEY[..KEY.len() / 2]),
        without("two keys").with("x-functions-key", KEY).with("x-functions-key", WRONG_KEY),
        without("a wrong key, the right one in the query").at(&query(KEY)).with("x-functions-key", WRONG_KEY),
        without("the right key with more").with("x-functions-key", &format!("{KEY}{MARK}")),
        without("the right key in the query").at(&query(KEY)),
        without("a wrong key in the query").at(&query(WRONG_KEY)),
        without("a key without access").with("x-functions-key", SCOPED_KEY),
        Case::without_key("a key with access", r#"{"Secret":"db-password"}"#)
            .with("x-functions-key", SCOPED_KEY),
        without("a token").with("authorization", &bearer(json!({"alg": "RS256", "kid": MARK, "typ": "JWT"}))),
        without("a token without a signature")
            .with("authorization", &bearer(json!({"alg": "none", "kid": MARK}))),
        without("a token with its own keys")
            .with("authorization", &bearer(json!({"alg": "RS256", "jku": jwks, "jwk": {"n": MARK}}))),
        without("a truncated token").with("authorization", &bearer(json!({"alg": "RS256"}))[..60]),
        without("a bearer token that is not a JWT").with("authorization", &format!("Bearer {MARK}")),
        without("a password").with("authorization", &format!("Basic {MARK}")),
    ]
    .into_iter()
    .chain(tokens())
    .chain(platform_tokens())
    .collect()
}

/// Returns requests with valid and invalid tokens of the tenant.
fn tokens() -> Vec<Case> {
    // All new emulators have the same signing keys.
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
    unknown["kid"] = MARK.into();
    let case = |name, token: String| {
        Case::without_key(name, REQUEST)
            .with("authorization", &format!("Bearer {token}"))
            .with("cache-control", "no-cache")
    };
    vec![
        case("a token of the tenant", entra.sign(&header, &claims)),
        case("a token of the tenant for another audience", with("aud", "https://vault.azure.net".into())),
        case("a token of the tenant that has expired", with("exp", 1.into())),
        case("a token of the tenant that is not yet valid", with("nbf", (now + 90_000).into())),
        case("a token of the tenant for another identity", with("oid", MARK.into())),
        case("a token of the tenant with marks", with("xms_mirid", MARK.into())),
        case("a token of the tenant by another key", entra.sign_as_stranger(&header, &claims)),
        case("a token of the tenant by an unknown key", entra.sign(&unknown, &claims)),
    ]
}

/// Returns requests with valid and invalid tokens of a cluster.
fn platform_tokens() -> Vec<Case> {
    let cluster = Emulator::new();
    let claims = Emulator::platform_claims(ISSUER, AUDIENCE, ACCOUNT);
    let with = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        cluster.sign_for_issuer(ISSUER, &changed)
    };
    let case = |name, token: String| {
        Case::without_key(name, REQUEST)
            .with("authorization", &format!("Bearer {token}"))
            .with("cache-control", "no-cache")
    };
    vec![
        case("a token of the cluster", cluster.sign_for_issuer(ISSUER, &claims)),
        case("a token of the cluster by ES256", cluster.sign_with_es256(&claims)),
        case("a token of the cluster for another audience", with("aud", json!([MARK]))),
        case("a token of the cluster for several audiences", with("aud", json!([AUDIENCE, MARK]))),
        case("a token of the cluster for another subject", with("sub", MARK.into())),
        case("a token of the cluster with a long subject", with("sub", MARK.repeat(100).into())),
        case("a token of the cluster of another issuer", with("iss", format!("https://{MARK}").into())),
        case("a token of the cluster with marks", with("jti", MARK.into())),
        case("a token of the cluster that has expired", with("exp", 1.into())),
    ]
}

/// Returns a bearer token in the form of Entra ID, with marks in its claims.
fn bearer(header: Value) -> String {
    let claims = json!({"aud": MARK, "iss": MARK, "tid": MARK, "oid": MARK, "roles": [MARK], "exp": NUMBER});
    format!("Bearer {}", Emulator::new().sign(&header, &claims))
}

/// Returns invalid bodies, whose text a parser's error might quote.
fn bodies() -> Vec<Case> {
    let deep = format!("{}\"{MARK}\"", r#"{"Secret":"#.repeat(500));
    let bodies = [
        ("an empty body", String::new()),
        ("invalid JSON", MARK.to_owned()),
        ("a JSON string", format!("\"{MARK}\"")),
        ("truncated JSON", format!(r#"{{"Secret":"{MARK}"#)),
        ("JSON with trailing text", format!(r#"{REQUEST}{MARK}"#)),
        ("an invalid escape", format!(r#"{{"Secret":"{MARK}\q"}}"#)),
        ("deeply nested JSON", deep),
        ("an invalid secret name", format!(r#"{{"Secret":"{MARK}/../{MARK}"}}"#)),
        ("a secret that is a number", format!(r#"{{"Secret":{NUMBER}}}"#)),
        ("a secret that is an object", format!(r#"{{"Secret":{{"{MARK}":"{MARK}"}}}}"#)),
        ("two secrets", format!(r#"{{"Secret":"x","secret":"{MARK}"}}"#)),
        ("no secret", format!(r#"{{"{MARK}":"{MARK}"}}"#)),
        ("an invalid version", format!(r#"{{"Secret":"x","Version":"{MARK}"}}"#)),
        ("a version that is a number", format!(r#"{{"Secret":"x","Version":{NUMBER}}}"#)),
        ("unknown members", format!(r#"{{"Secret":"x","{MARK}":"{MARK}","Value":"{MARK}"}}"#)),
        ("a body above the limit", format!(r#"{{"Secret":"x","more":"{}"}}"#, MARK.repeat(400))),
    ];
    let mut cases: Vec<Case> = bodies.iter().map(|body| Case::post(body.0, &body.1)).collect();
    let mut bytes = Case::post("invalid UTF-8", MARK);
    bytes.body.extend([0xff, 0xfe, 0]);
    cases.push(bytes);
    let several = json!({"Secrets": [SECRETS[0], {"Secret": SECRETS[1], "Version": MARK}, SECRETS[2], SECRETS[0],
        DISABLED, "absent", format!("{MARK}!"), {"secret": "x", MARK: MARK}], "Details": true, MARK: MARK});
    cases.push(Case::post("several secrets", &several.to_string()).at("/api/GetKeyVaultSecrets"));
    let no_list = format!(r#"{{"Secrets":["{MARK}",{NUMBER}]}}"#);
    cases.push(Case::post("a list with a number", &no_list).at("/api/GetKeyVaultSecrets"));
    cases
}

/// Returns requests for secrets that exist, that do not, and that are disabled.
fn secrets() -> Vec<Case> {
    let version = "3d76eb676e0a40429c7aa2b4b7912a5d";
    vec![
        Case::post("another secret", r#"{"Secret":"db-password"}"#),
        Case::post("an unknown secret", r#"{"Secret":"unknown"}"#),
        Case::post("a disabled secret", &format!(r#"{{"Secret":"{DISABLED}"}}"#)),
        Case::post("an unknown version", &format!(r#"{{"Secret":"x","Version":"{version}"}}"#)),
        Case::post("a fresh value", REQUEST).with("cache-control", "no-cache"),
    ]
}

/// Returns requests with each kind of header field and query.
fn header_fields() -> Vec<Case> {
    let right = |name| Case::post(name, REQUEST).with("cache-control", "no-cache");
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut without_type = right("a body without a content type");
    without_type.fields.remove(0);
    vec![
        right("a trace").with("traceparent", trace).with("tracestate", "vendor=1"),
        right("an invalid trace").with("traceparent", MARK).with("tracestate", MARK),
        right("forwarded").with("forwarded", &format!("for={MARK}")),
        right("through a proxy").with("via", &format!("1.1 {MARK}")),
        right("many header fields")
            .with("cookie", &format!("session={MARK}"))
            .with("user-agent", MARK)
            .with("referer", &format!("https://example.com/{MARK}"))
            .with("x-ms-client-request-id", MARK)
            .with("x-identity-header", MARK)
            .with("metadata", "true")
            .with("accept", MARK),
        right("header fields above the limit").with("x-more", &MARK.repeat(2000)),
        right("a compressed body").with("content-encoding", MARK),
        right("a query").at(&format!("{PATH}?{MARK}={MARK}&api-version={MARK}")),
        without_type,
    ]
}

/// Returns requests to other routes, to unknown routes and with other methods.
fn routes() -> Vec<Case> {
    let unknown = format!("/{MARK}/{MARK}?code={KEY}&{MARK}={MARK}");
    let keyless = |name, method, target: &str| Case::new(name, method, target);
    vec![
        keyless("liveness", Method::GET, "/healthz"),
        keyless("readiness", Method::GET, "/readyz"),
        keyless("the API description", Method::GET, "/openapi.json"),
        Case::get("metrics", "/metrics"),
        keyless("metrics without a key", Method::GET, "/metrics"),
        keyless("metrics with a key in the query", Method::GET, &format!("/metrics?code={KEY}")),
        keyless("metrics with a wrong key", Method::GET, &format!("/metrics?code={WRONG_KEY}")),
        Case::get("an unknown route", &unknown),
        Case::post("a body to an unknown route", &format!(r#"{{"Secret":"{MARK}"}}"#)).at(&unknown),
        Case::get("a secret by GET", &format!("{PATH}?code={KEY}&secret={MARK}")),
        keyless("an unknown method", Method::from_bytes(b"MARKED").unwrap(), &format!("{PATH}?{MARK}")),
        Case::post("the short path", REQUEST).at("/"),
    ]
}

const WRONG_KEY: &str = "marked-5c1f08-a-wrong-key";
