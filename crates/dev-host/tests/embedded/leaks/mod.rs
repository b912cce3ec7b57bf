//! Every scenario in which something private could leave, with what is private marked.
//!
//! Each test of this program has its gateway watched. Here the scenarios are put together: every token source with
//! everything that can come of a call, and every way in which a request can be. The full product would be some 55,000
//! requests for each world. Of it every two of source and outcome meet, of source and way, and of outcome and way where
//! the way is one that Azure is asked for; a request that is refused before that meets some of the outcomes.

use std::collections::BTreeSet;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use keyvault_emulator::{Answer, Effect, Emulator, Fault, Source, Upstream, facts};
use leaks::Private;
use serde_json::{Value, json};

use crate::faults::{REFUSALS, connection_faults, statuses};
use crate::gateway::{
    BOTH, Gateway, KEY, PATH, REQUEST, SECRETS, World, azure, full, in_virtual_time, settings,
};

#[test]
fn nothing_private_leaves_in_any_scenario() {
    let reached = std::thread::scope(|threads| {
        let worlds = BOTH.map(|world| threads.spawn(move || in_world(world)));
        worlds.map(|it| it.join().expect("nothing that leaves"))
    });
    for (world, reached) in BOTH.into_iter().zip(reached) {
        let codes: BTreeSet<&str> = reached.outcomes.iter().map(|it| it.1.as_str()).collect();
        for code in contract() {
            assert!(codes.contains(code.as_str()), "{world:?} has not seen {code}: {codes:?}");
        }
        assert!(reached.outcomes.len() >= LEAST_OUTCOMES, "{world:?}: {:?}", reached.outcomes);
        assert!(reached.calls > 1500 && reached.bytes > 1_000_000, "{world:?}: {reached:?}");
        println!("{world:?}: {} requests, {} calls", reached.requests, reached.calls);
    }
}

/// What one world's scenarios have come to.
#[derive(Debug, Default)]
struct Reached {
    requests: usize,
    calls: usize,
    bytes: usize,
    /// The statuses and codes of answers; a code is empty where the answer is no error.
    outcomes: BTreeSet<(u16, String)>,
    /// The ways that have been answered with what was asked for, or with what the vault says of it.
    answered: BTreeSet<&'static str>,
}

fn in_world(world: World) -> Reached {
    let mut reached = Reached::default();
    let ways: Vec<Way> = ways();
    let all: Vec<&Way> = ways.iter().collect();
    for (_, source) in Source::ALL {
        // Everything is well.
        in_virtual_time(ask(world, source, &[], &all, &mut reached));
    }
    let (answered, refused): (Vec<&Way>, Vec<&Way>) =
        all.into_iter().partition(|it| reached.answered.contains(it.name));
    assert!(answered.len() > 20 && refused.len() > 40, "{world:?}: {reached:?}");
    for (row, outcome) in outcomes().into_iter().enumerate() {
        for (column, (_, source)) in Source::ALL.into_iter().enumerate() {
            // A fifth of the ways that lead to Azure, the next outcome has the next fifth at this source, and so on.
            let fifth = answered.iter().skip((row + column) % 5).step_by(5);
            let few = refused.iter().skip((row * 5 + column) % 31).step_by(31);
            let some: Vec<&Way> = fifth.chain(few).copied().collect();
            in_virtual_time(ask(world, source, std::slice::from_ref(&outcome), &some, &mut reached));
        }
    }
    let bearers: Vec<&Way> = ways.iter().filter(|it| it.name.contains("token of the tenant")).collect();
    assert!(bearers.len() > 5, "{world:?}");
    for effect in connection_faults().into_iter().chain(statuses()).chain(said_by_directory()) {
        let fault = Fault::new(Upstream::SigningKeys, effect);
        in_virtual_time(ask(world, Source::Imds, &[fault], &bearers, &mut reached));
    }
    for (name, settings) in wrong_settings() {
        in_virtual_time(misconfigured(world, name, settings, &mut reached));
    }
    reached
}

/// A gateway whose upstream has these faults, asked in these ways.
async fn ask(world: World, source: Source, faults: &[Fault], ways: &[&Way], reached: &mut Reached) {
    let emulator = azure();
    emulator.set_secret(DISABLED, "marked-9a04-value-of-the-disabled").unwrap();
    emulator.enable_secret(DISABLED, false).unwrap();
    faults.iter().for_each(|it| emulator.fault(it.clone()));
    let gateway = gateway(world, &emulator, settings(&emulator, source));
    let right = Way::post("the right request", REQUEST).with("cache-control", "no-cache");
    for way in [&[&right], ways].concat() {
        reached.see(way.name, &gateway.send(way.request()).await);
    }
    let met = emulator.journal().iter().any(|it| it.fault.is_some());
    assert_eq!(met, !faults.is_empty(), "{world:?} {source:?} {faults:?}");
    reached.look(gateway);
}

/// A gateway with a setting that is wrong. Its answer names the setting, and nothing shows what it holds.
async fn misconfigured(world: World, name: &str, wrong: Vec<(&'static str, String)>, reached: &mut Reached) {
    let emulator = azure();
    let mut settings = settings(&emulator, Source::AppService2019);
    settings.extend(wrong);
    let gateway = gateway(world, &emulator, settings);
    for way in [Way::post("a wrong setting", REQUEST), Way::get("a wrong setting, and ready?", "/readyz")] {
        let answer = gateway.send(way.request()).await;
        let json = answer.json();
        assert_eq!(json["error"]["code"], "ConfigurationError", "{world:?} {name} {answer:?}");
        assert!(json["error"]["message"].as_str().is_some_and(|it| it.contains(name)), "{name} {answer:?}");
        reached.see(way.name, &answer);
    }
    assert_eq!(emulator.journal(), [], "{world:?} {name}");
    reached.look(gateway);
}

impl Reached {
    fn see(&mut self, way: &'static str, answer: &crate::gateway::Answer) {
        self.requests += 1;
        let code = if answer.status == 200 {
            String::new()
        } else {
            let json = answer.json();
            json["error"]["code"].as_str().unwrap_or_else(|| panic!("{way}: {answer:?}")).to_owned()
        };
        if code.is_empty() || code.starts_with("Secret") {
            self.answered.insert(way);
        }
        self.outcomes.insert((answer.status, code));
    }

    fn look(&mut self, gateway: Gateway) {
        let (calls, bytes) = gateway.searched();
        self.calls += calls;
        self.bytes += bytes;
    }
}

/// A gateway that logs all it can, for two callers, with everything marked.
fn gateway(world: World, emulator: &Emulator, mut settings: Vec<(&'static str, String)>) -> Gateway {
    let mut set = |name, value: &str| {
        if !settings.iter().any(|it| it.0 == name) {
            settings.push((name, value.to_owned()));
        }
    };
    set("GATEWAY_LOG", "debug");
    set("GATEWAY_DEADLINE_SECONDS", "7");
    set("GATEWAY_CALLERS", &callers(SCOPED_KEY_HASH));
    set("GATEWAY_JWT_TENANT", facts::TENANT);
    set("GATEWAY_JWT_AUDIENCE", AUDIENCE);
    // A later one of the same name wins.
    settings.reverse();
    let mut names = BTreeSet::new();
    settings.retain(|it| names.insert(it.0));
    let gateway = Gateway::start(world, emulator, &settings);
    gateway.hide(Private::CallerKey, SCOPED_KEY);
    gateway.hide(Private::Setting, SCOPED_KEY_HASH);
    gateway.hide(Private::Setting, SETTING);
    gateway.hide(Private::Setting, AUDIENCE);
    gateway.hide(Private::Request, SENT);
    gateway.hide(Private::Request, NUMBER);
    gateway.hide(Private::Azure, SAID);
    gateway
}

fn callers(hash: &str) -> String {
    let keyed = json!({"name": "billing", "key_sha256": [hash], "secrets": ["db-*"]});
    let bearer = json!({"name": "bearer", "oid": [facts::OBJECT_ID], "secrets": ["*"]});
    json!([keyed, bearer]).to_string()
}

/// A request, by what is about it.
struct Way {
    name: &'static str,
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
    fn get(name: &'static str, target: &str) -> Self {
        Self::new(name, Method::GET, target).with("x-functions-key", KEY)
    }

    /// The function's request with another body, with the key.
    fn post(name: &'static str, body: &str) -> Self {
        Self::without_key(name, body).with("x-functions-key", KEY)
    }

    fn without_key(name: &'static str, body: &str) -> Self {
        let body = body.as_bytes().to_vec();
        Self { body, ..Self::new(name, Method::POST, PATH) }.with("content-type", "application/json")
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.fields.push((name, value.to_owned()));
        self
    }

    fn at(self, target: &str) -> Self {
        Self { target: target.to_owned(), ..self }
    }

    fn request(&self) -> Request<wasmtime_wasi_http::WasiBody> {
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
fn ways() -> Vec<Way> {
    let mut ways = credentials();
    ways.extend(bodies());
    ways.extend(asked());
    ways.extend(around());
    ways.extend(routes());
    ways
}

/// The ways to show who asks. A new kind of credential belongs here: right, wrong and broken.
fn credentials() -> Vec<Way> {
    let without = |name| Way::without_key(name, REQUEST);
    let query = |key: &str| format!("{PATH}?code={key}&{SENT}={SENT}");
    vec![
        Way::post("the right key", REQUEST),
        without("no key"),
        without("an empty key").with("x-functions-key", ""),
        without("a wrong key").with("x-functions-key", WRONG_KEY),
        without("half of the right key").with("x-functions-key", &KEY[..KEY.len() / 2]),
        without("the right key with more").with("x-functions-key", &format!("{KEY}{SENT}")),
        without("two keys").with("x-functions-key", KEY).with("x-functions-key", WRONG_KEY),
        without("the right key in the query").at(&query(KEY)),
        without("a wrong key in the query").at(&query(WRONG_KEY)),
        without("a wrong key, and the right one in the query").at(&query(KEY)).with("x-functions-key", WRONG_KEY),
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
        Way::post("the right key and a token", REQUEST).with("authorization", &bearer(json!({"alg": "RS256"}))),
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
    let headed = |name: &str, value: Value| {
        let mut changed = header.clone();
        changed[name] = value;
        changed
    };
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
        way("a token of the tenant for somebody else", with("oid", SENT.into())),
        way("a token of the tenant with marks", with("xms_mirid", SENT.into())),
        way("a token of the tenant by another key", entra.sign_as_stranger(&header, &claims)),
        way("a token of the tenant by an unknown key", entra.sign(&headed("kid", SENT.into()), &claims)),
        way(
            "a token of the tenant by the public key",
            entra.sign_with_secret(
                &headed("alg", "HS256".into()),
                &claims,
                entra.signing_key_pem().as_bytes(),
            ),
        ),
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
        ("JSON that is a number", NUMBER.to_owned()),
        ("JSON that is a list", format!("[\"{SENT}\"]")),
        ("JSON that is cut", format!(r#"{{"Secret":"{SENT}"#)),
        ("JSON with a name that is cut", format!(r#"{{"Secret":"x","{SENT}"#)),
        ("JSON with more behind it", format!(r#"{REQUEST}{SENT}"#)),
        ("a bad escape", format!(r#"{{"Secret":"{SENT}\q"}}"#)),
        ("half of a character", format!(r#"{{"Secret":"{SENT}\ud83d"}}"#)),
        ("a bare word", format!(r#"{{"Secret":{SENT}}}"#)),
        ("deep JSON", deep),
        ("a secret that is no name", format!(r#"{{"Secret":"{SENT}/../{SENT}"}}"#)),
        ("a secret that is a number", format!(r#"{{"Secret":{NUMBER}}}"#)),
        ("a secret that is a fraction", format!(r#"{{"Secret":{NUMBER}.5e300}}"#)),
        ("a secret that is too large a number", format!(r#"{{"Secret":{NUMBER}e999}}"#)),
        ("a secret that is an object", format!(r#"{{"Secret":{{"{SENT}":"{SENT}"}}}}"#)),
        ("a secret that is a list", format!(r#"{{"Secret":["{SENT}"]}}"#)),
        ("a secret that is true", format!(r#"{{"Secret":true,"{SENT}":"{SENT}"}}"#)),
        ("two secrets", format!(r#"{{"Secret":"x","secret":"{SENT}"}}"#)),
        ("no secret", format!(r#"{{"{SENT}":"{SENT}"}}"#)),
        ("a version that is none", format!(r#"{{"Secret":"x","Version":"{SENT}"}}"#)),
        ("a version that is a number", format!(r#"{{"Secret":"x","Version":{NUMBER}}}"#)),
        ("a version that is an object", format!(r#"{{"Secret":"x","Version":{{"{SENT}":1}}}}"#)),
        ("what nobody asked for", format!(r#"{{"Secret":"x","{SENT}":"{SENT}","Value":"{SENT}"}}"#)),
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
        Way::post("a fresh value of a disabled secret", &format!(r#"{{"Secret":"{DISABLED}"}}"#))
            .with("cache-control", "no-cache"),
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
        right("a trace's state without a trace").with("tracestate", &format!("vendor={SENT}")),
        right("forwarded").with("forwarded", &format!("for={SENT}")),
        right("forwarded for somebody").with("x-forwarded-for", SENT),
        right("forwarded for another host").with("x-forwarded-host", SENT),
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
        Way { fields: Vec::new(), ..right("a body of another type") }
            .with("x-functions-key", KEY)
            .with("content-type", &format!("text/{SENT}")),
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
        none("a method of nobody", Method::from_bytes(b"MARKED").unwrap(), &format!("{PATH}?{SENT}")),
        Way { method: Method::PUT, ..Way::post("a body by PUT", REQUEST) },
        Way::post("a body for who is healthy", REQUEST).at("/healthz"),
        Way::post("the short path", REQUEST).at("/"),
    ]
}

/// Everything that can come of a call, at the vault and at the token source.
fn outcomes() -> Vec<Fault> {
    let anywhere = || connection_faults().into_iter().chain(statuses());
    let vault = anywhere().chain(REFUSALS.map(Effect::Refuse)).chain(said_by_vault());
    let token = anywhere().chain(said_by_token_source());
    let vault = vault.map(|it| Fault::new(Upstream::Vault, it));
    vault.chain(token.map(|it| Fault::new(Upstream::Token, it))).collect()
}

/// Answers of a vault with a mark in each place that there is.
fn said_by_vault() -> Vec<Effect> {
    let error = json!({"error": {"code": SAID, "message": SAID, "innererror": {"code": SAID, SAID: SAID}}});
    let mut answers: Vec<Effect> = [202, 302, 400, 401, 403, 404, 409, 418, 429, 500, 503]
        .map(|status| said(status, &error.to_string()))
        .into();
    let id = format!("https://demo.vault.azure.net/secrets/{}/{SAID}", SECRETS[0]);
    answers.extend(
        [
            json!({"value": SAID, "id": SAID}),
            json!({"value": SAID, "id": id, "attributes": {"enabled": SAID}}),
            json!({"value": [SAID], "id": id}),
            json!({"value": {SAID: SAID}, "id": id}),
            json!({"value": SAID, "id": [SAID]}),
            json!({SAID: SAID}),
            json!(SAID),
        ]
        .map(|it| said(200, &it.to_string())),
    );
    answers.push(said(200, &format!("{{\"value\":{NUMBER}{SAID}")));
    answers.push(said(200, &format!("{{\"value\":\"{SAID}\\q\"}}")));
    answers.push(said(403, &format!("<html>{SAID}")));
    answers.push(said(404, &json!({"error": {"code": "SecretNotFound", "message": SAID}}).to_string()));
    answers
}

/// Answers of a directory with a mark in each place that there is.
fn said_by_directory() -> Vec<Effect> {
    let key = json!({"kty": "RSA", "use": "sig", "kid": SAID, "n": SAID, "e": "AQAB", "x5c": [SAID]});
    let error = json!({"error": SAID, "error_description": SAID, "trace_id": SAID});
    let mut answers: Vec<Effect> = [
        json!({"keys": [key]}),
        json!({"keys": [SAID]}),
        json!({"keys": SAID}),
        json!({SAID: SAID}),
        json!(SAID),
    ]
    .map(|it| said(200, &it.to_string()))
    .into();
    answers.extend([302, 400, 404, 429, 500].map(|it| said(it, &error.to_string())));
    answers
}

/// Answers of a token source with a mark in each place that there is.
fn said_by_token_source() -> Vec<Effect> {
    let flat = json!({"error": SAID, "error_description": SAID, "error_codes": [SAID], "trace_id": SAID});
    let app_service = json!({"statusCode": SAID, "message": SAID, "correlationId": SAID});
    let nested = json!({"error": {"code": SAID, "message": SAID}});
    let mut answers = Vec::new();
    for (index, status) in [202, 302, 400, 401, 403, 404, 410, 429, 500, 503].into_iter().enumerate() {
        answers.push(said(status, &[&flat, &app_service, &nested][index % 3].to_string()));
    }
    answers.extend(
        [
            json!({"access_token": SAID}),
            json!({"access_token": SAID, "expires_in": SAID}),
            json!({"access_token": SAID, "expires_in": 3599, "expires_on": SAID}),
            json!({"access_token": SAID, "expires_in": 3599, "refresh_in": SAID}),
            json!({"access_token": SAID, "expires_in": 3599, "token_type": SAID}),
            json!({"access_token": format!("{SAID} {SAID}"), "expires_in": 3599}),
            json!({"access_token": format!("{SAID}\r\nx-more: {SAID}"), "expires_in": 3599}),
            json!({"access_token": [SAID], "expires_in": 3599}),
            json!({"access_token": {SAID: SAID}, "expires_in": 3599}),
            json!({SAID: SAID}),
            json!([SAID]),
        ]
        .map(|it| said(200, &it.to_string())),
    );
    answers.push(said(200, &format!("{{\"access_token\":\"{SAID}\",\"expires_in\":{NUMBER}{SAID}")));
    answers.push(said(401, &format!("Invalid secret token header: {SAID}.")));
    answers
}

/// An answer that says this, with marks in fields, too.
fn said(status: u16, body: &str) -> Effect {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "application/json".to_owned()),
        ("www-authenticate", format!("Bearer authorization=\"https://{SAID}\", resource=\"{SAID}\"")),
        ("location", format!("https://attacker.example/{SAID}")),
        ("set-cookie", format!("session={SAID}")),
        ("retry-after", SAID.to_owned()),
        ("etag", format!("\"{SAID}\"")),
        ("x-ms-request-id", SAID.to_owned()),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_str(&value).unwrap());
    }
    let status = StatusCode::from_u16(status).unwrap();
    Effect::Answer(Answer { status, headers, body: body.to_owned() })
}

/// Settings of which one is wrong, which its answer names. Each wrong one holds a mark.
fn wrong_settings() -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let alone = [
        ("KeyVaultUri", format!("https://{SETTING}/{SETTING}")),
        ("KeyVaultUri", format!("https://{SETTING}@demo.vault.azure.net")),
        ("KeyVaultUri", format!("http://{SETTING}.vault.azure.net")),
        ("KeyVaultUri", SETTING.to_owned()),
        ("KEY_VAULT_URI", format!("https://{SETTING}.vault.azure.net")),
        ("KEY_VAULT_RESOURCE", format!("https://{SETTING}")),
        ("KEY_VAULT_API_VERSION", format!("7.4&{SETTING}")),
        ("IDENTITY_SOURCE", SETTING.to_owned()),
        ("IDENTITY_ENDPOINT", SETTING.to_owned()),
        ("IDENTITY_HEADER", format!("{SETTING} {SETTING}")),
        ("GATEWAY_KEY", format!("{SETTING} {SETTING}")),
        ("GATEWAY_CALLERS", SETTING.to_owned()),
        ("GATEWAY_CALLERS", format!("{{\"{SETTING}\":1}}")),
        ("GATEWAY_CALLERS", format!("[\"{SETTING}\"]")),
        ("GATEWAY_CALLERS", format!("[{{\"name\":[\"{SETTING}\"]}}]")),
        ("GATEWAY_CALLERS", format!("[{{\"name\":\"{SETTING}\",\"{SETTING}\":1,\"secrets\":[]}}]")),
        ("GATEWAY_CALLERS", callers(SETTING)),
        ("GATEWAY_CALLERS", callers(SCOPED_KEY_HASH).replace("db-*", &format!("{SETTING}/*"))),
        ("GATEWAY_CALLERS", callers(SCOPED_KEY_HASH).replace("]}]", &format!("]}}]{SETTING}"))),
        ("GATEWAY_ALLOW_ANONYMOUS", SETTING.to_owned()),
        ("GATEWAY_TRUST_FORWARDED", SETTING.to_owned()),
        ("GATEWAY_JWT_TENANT", format!("{SETTING} {SETTING}")),
        ("GATEWAY_JWT_AUDIENCE", format!("{SETTING} {SETTING}")),
        ("GATEWAY_CALLERS", callers(SCOPED_KEY_HASH).replace(facts::OBJECT_ID, SETTING)),
        ("GATEWAY_CACHE_TTL_SECONDS", SETTING.to_owned()),
        ("GATEWAY_STALE_SECONDS", SETTING.to_owned()),
        ("GATEWAY_NEGATIVE_TTL_SECONDS", SETTING.to_owned()),
        ("GATEWAY_CACHE_ENTRIES", SETTING.to_owned()),
        ("GATEWAY_DEADLINE_SECONDS", SETTING.to_owned()),
        ("GATEWAY_STORE_KEY", SETTING.to_owned()),
        ("GATEWAY_LOG", SETTING.to_owned()),
    ];
    let mut wrong: Vec<_> = alone.into_iter().map(|it| (it.0, vec![it])).collect();
    for wrong_settings in wrong.iter_mut().filter(|it| it.0 == "GATEWAY_STORE_KEY") {
        wrong_settings.1.push(("GATEWAY_STORE", SETTING.to_owned()));
    }
    // The token source that IDENTITY_SOURCE names has its own settings.
    let mut of = |source: &str, name, others: &[(&'static str, &str)]| {
        let mut settings = vec![("IDENTITY_SOURCE", source.to_owned())];
        settings.extend(others.iter().map(|it| (it.0, it.1.to_owned())));
        wrong.push((name, settings));
    };
    let spaced = format!("{SETTING} {SETTING}");
    of("app-service-2017", "MSI_ENDPOINT", &[("MSI_ENDPOINT", SETTING), ("MSI_SECRET", SETTING)]);
    of("app-service-2017", "MSI_SECRET", &[("MSI_ENDPOINT", "http://127.0.0.1:1"), ("MSI_SECRET", &spaced)]);
    of("cloud-shell", "MSI_ENDPOINT", &[("MSI_ENDPOINT", SETTING)]);
    of("imds", "AZURE_POD_IDENTITY_AUTHORITY_HOST", &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", SETTING)]);
    of("imds", "AZURE_CLIENT_ID", &[("AZURE_CLIENT_ID", &spaced)]);
    of("imds", "IDENTITY_OBJECT_ID", &[("IDENTITY_OBJECT_ID", &spaced)]);
    of("imds", "IDENTITY_RESOURCE_ID", &[("IDENTITY_RESOURCE_ID", &spaced)]);
    let client = |wrong: (&'static str, &'static str)| {
        let right =
            [("AZURE_TENANT_ID", SETTING), ("AZURE_CLIENT_ID", SETTING), ("AZURE_CLIENT_SECRET", SETTING)];
        right.into_iter().filter(|it| it.0 != wrong.0).chain([wrong]).collect::<Vec<_>>()
    };
    for name in ["AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_AUTHORITY_HOST"] {
        of("client-secret", name, &client((name, "marked-77d0/a setting's value")));
    }
    wrong
}

/// Every code that the description of the contract has, but for the one of what cannot happen.
fn contract() -> BTreeSet<String> {
    fn collect(document: &Value, codes: &mut BTreeSet<String>) {
        match document {
            Value::Object(fields) => {
                let listed = fields.get("code").and_then(|it| it["enum"].as_array()).into_iter().flatten();
                codes.extend(listed.filter_map(Value::as_str).map(str::to_owned));
                fields.values().for_each(|it| collect(it, codes));
            }
            Value::Array(items) => items.iter().for_each(|it| collect(it, codes)),
            _ => {}
        }
    }
    let document: Value = serde_json::from_str(include_str!("../../../../src/openapi.json")).unwrap();
    let mut codes = BTreeSet::new();
    collect(&document, &mut codes);
    codes.remove("InternalError");
    assert!(codes.len() >= 17, "{codes:?}");
    codes
}

/// Different pairs of a status and a code that the scenarios come to at the least.
const LEAST_OUTCOMES: usize = 21;

/// A secret that is there and disabled.
const DISABLED: &str = "disabled-one";

const WRONG_KEY: &str = "marked-5c1f08-a-wrong-key";

/// A key of somebody who may read `db-*`, and its SHA-256.
const SCOPED_KEY: &str = "e2b7c04d-the-scoped-callers-key";
const SCOPED_KEY_HASH: &str = "539744405c3f7ba5b38eb0f4b2b582450ef97d0b5150af63189aa529005f0dce";

/// Whom tokens of callers are for.
const AUDIENCE: &str = "api://marked-5e0c9a7d-audience";

/// What a request has in it, beside what it is about.
const SENT: &str = "marked-4b1e7f90-sent-by-a-caller";

/// The same where only a number can stand.
const NUMBER: &str = "918273645546372819";

/// What Azure says, in any place where it says something.
const SAID: &str = "marked-c27d5a18-said-by-azure";

/// What a setting holds.
const SETTING: &str = "marked-77d0e3b6-held-by-a-setting";
