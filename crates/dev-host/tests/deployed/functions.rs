//! The custom handler of Azure Functions: its folder as it is deployed, behind what stands in for the Functions host.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use keyvault_emulator::{Effect, Fault, Kind, Refusal, Source, Upstream, facts};
use serde_json::{Value, json};
use testkit::leaks::Private;
use ureq::http::{Request, Response};

use crate::functions_host::FunctionsHost;
use crate::place::{HOST, PATIENCE, Place, REQUEST, random_text, repository};

#[test]
fn a_secret_is_read_with_a_key_of_the_function_and_shows_nowhere() {
    let key = random_text();
    let mut app = App::start(&[("GATEWAY_ALLOW_ANONYMOUS", "true")], &[&key]);
    assert_eq!(app.host.first, 405);
    let answer = app.ask(&key, REQUEST);
    assert_eq!((answer.status().as_u16(), answer.body().as_str()), (200, app.answer().as_str()));
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("cache-status", "keyvault-gateway; fwd=miss"),
        ("cache-control", "no-store"),
    ] {
        assert_eq!(answer.headers()[name], value, "{name}");
    }
    let [token] = app.place.emulator.token_calls().try_into().unwrap();
    assert_eq!(token.kind, Kind::Token(Source::AppService2019));
    let by_query = format!("POST /api/getkeyvaultsecret?code={key}");
    assert_eq!(app.send(&by_query, &[JSON], REQUEST).body(), &app.answer());
    let hit = app.host.handler.wait_for_line(PATIENCE, |it| it.contains(r#""cache":"hit"#));
    assert!(hit.is_some(), "{:?}", app.host.handler.log());
    let private = [(Private::CallerKey, key.as_str()), (Private::Setting, STORAGE)];
    app.place.expect_nothing_shown(&mut app.host.handler, &private);
}

#[test]
fn what_the_function_does_not_answer_never_reaches_the_gateway() {
    let app = App::start(&[("GATEWAY_ALLOW_ANONYMOUS", "true")], &["a-function-key"]);
    let key = ("x-functions-key", "a-function-key");
    for (request, fields, status) in [
        ("GET /api/GetKeyVaultSecret", vec![key, JSON], 404),
        ("PUT /api/GetKeyVaultSecret", vec![key, JSON], 404),
        ("POST /api/GetKeyVaultSecret/", vec![key, JSON], 404),
        ("POST /api/Another", vec![key, JSON], 404),
        ("POST /", vec![key, JSON], 404),
        ("GET /healthz", vec![key], 404),
        ("GET /readyz", vec![key], 404),
        ("GET /metrics", vec![key], 404),
        ("POST /api/GetKeyVaultSecret", vec![JSON], 401),
        ("POST /api/GetKeyVaultSecret?code=wrong", vec![JSON], 401),
        ("POST /api/GetKeyVaultSecret?code=a-function-key", vec![("x-functions-key", "wrong"), JSON], 401),
    ] {
        let answer = app.send(request, &fields, REQUEST);
        assert_eq!((answer.status().as_u16(), answer.body().as_str()), (status, ""), "{request}");
    }
    assert_eq!(app.ask("a-function-key", REQUEST).body(), &app.answer());
    let answered = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["status"].clone());
    let last = app.host.handler.wait_for_line(PATIENCE, |it| answered(it) == Some(200.into()));
    assert!(last.is_some(), "{:?}", app.host.handler.log());
    // The one from before is the host's own, which found out that the handler was up.
    let all: Vec<_> = app.host.handler.log().iter().filter_map(|it| answered(it)).collect();
    assert_eq!(all, [405, 200]);
}

#[test]
fn errors_come_back_as_the_gateway_has_them() {
    let app = App::start(&[("GATEWAY_ALLOW_ANONYMOUS", "true")], &["a-function-key"]);
    let missing = app.ask("a-function-key", r#"{"Secret": "missing"}"#);
    let message = "A secret with (name/id) missing was not found in this key vault.";
    assert_eq!(missing.body(), &format!(r#"{{"error":{{"code":"SecretNotFound","message":"{message}"}}}}"#));
    let throttled = Fault::refuse(Refusal::Throttled).secret("busy").retry_after("60");
    app.place.emulator.fault(throttled);
    app.place.emulator.fault(Fault::new(Upstream::Vault, Effect::BrokenJson).secret("broken"));
    for (body, status, code) in [
        (r#"{"Secret": "missing"}"#, 404, "SecretNotFound"),
        (r#"{"Secret": "../keys"}"#, 400, "BadRequest"),
        (r#"{"Secret": "broken"}"#, 502, "VaultError"),
        (r#"{"Secret": "busy"}"#, 503, "VaultThrottled"),
        // The host passes on no type where it passes on no body.
        ("", 415, "UnsupportedMediaType"),
    ] {
        let answer = app.ask("a-function-key", body);
        assert_eq!(error(&answer), (status, code.to_owned()), "{body}");
        assert_eq!(answer.headers()["content-type"], "application/json; charset=utf-8", "{body}");
        assert_eq!(answer.headers().contains_key("retry-after"), status == 503, "{body}");
    }
}

#[test]
fn without_trust_in_the_front_end_every_request_is_refused() {
    let settings = [("GATEWAY_ALLOW_ANONYMOUS", "true"), ("GATEWAY_TRUST_FORWARDED", "")];
    let app = App::start(&settings, &["a-function-key"]);
    assert_eq!(error(&app.ask("a-function-key", REQUEST)), (403, "Forbidden".to_owned()));
}

#[test]
fn a_key_of_the_gateway_has_to_be_one_of_the_function() {
    let app = App::start(&[("GATEWAY_KEY", "the-same-key")], &["the-same-key", "another-key"]);
    assert_eq!(app.ask("the-same-key", REQUEST).body(), &app.answer());
    // The gateway's no has a body, and the Functions host's has none.
    assert_eq!(error(&app.ask("another-key", REQUEST)), (401, "Unauthorized".to_owned()));
    assert_eq!(app.ask("a-key-of-neither", REQUEST).body(), "");
}

#[test]
fn a_gateway_that_was_told_of_nobody_answers_nobody() {
    let app = App::start(&[], &["a-function-key"]);
    assert_eq!(error(&app.ask("a-function-key", REQUEST)), (401, "Unauthorized".to_owned()));
    assert_eq!(app.place.emulator.journal(), []);
}

#[test]
fn callers_with_function_keys_and_tokens_of_their_own_have_their_scopes() {
    let callers = json!([
        {"name": "billing", "key_sha256": [KEY_SHA256], "secrets": ["billing-*"]},
        {"name": "mail", "oid": [facts::OBJECT_ID], "secrets": ["mail-*"]},
    ])
    .to_string();
    let settings = [
        ("GATEWAY_CALLERS", callers.as_str()),
        ("GATEWAY_JWT_TENANT", facts::TENANT),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE),
    ];
    let app = App::start(&settings, &[KEY, "the-default-key"]);
    for name in ["billing-db", "mail-smtp"] {
        app.place.emulator.set_secret(name, &app.place.value).unwrap();
    }
    let ask = |key, name| app.ask(key, &json!({"Secret": name}).to_string());
    assert_eq!(ask(KEY, "billing-db").status(), 200);
    assert_eq!(error(&ask(KEY, "mail-smtp")), (403, "Forbidden".to_owned()));
    assert_eq!(error(&ask("the-default-key", "billing-db")), (401, "Unauthorized".to_owned()));

    let token = app.place.emulator.caller_token(AUDIENCE, facts::OBJECT_ID, facts::APP_ID, &[]);
    let bearer = format!("Bearer {token}");
    let with_token = |request: &str, more: &[(&str, &str)]| {
        let fields = [&[("authorization", bearer.as_str()), JSON], more].concat();
        app.send(request, &fields, r#"{"Secret": "mail-smtp"}"#)
    };
    let by_query = with_token("POST /api/GetKeyVaultSecret?code=the-default-key", &[]);
    assert_eq!(by_query.status(), 200, "{by_query:?}");
    let by_field = with_token("POST /api/GetKeyVaultSecret", &[("x-functions-key", "the-default-key")]);
    assert_eq!(error(&by_field), (401, "Unauthorized".to_owned()));
    let line = |caller: &str| {
        let part = format!(r#""caller":"{caller}""#);
        app.host.handler.wait_for_line(PATIENCE, |it| it.contains(&part))
    };
    assert!(line("billing").is_some() && line("mail").is_some(), "{:?}", app.host.handler.log());
}

/// A function app that is deployed.
struct App {
    host: FunctionsHost,
    place: Place,
}

impl App {
    /// Does what docs/deploy/functions.md has under "Deploy it", with these application settings more, of which an empty one
    /// is as good as none. The function has these keys.
    fn start(settings: &[(&str, &str)], keys: &[&str]) -> Self {
        let place = Place::new();
        let files = ["host.json", ".funcignore", "GetKeyVaultSecret/function.json"];
        let files = files.map(|it| (repository("deploy/functions").join(it), it));
        let component = (dev_host::component("service").unwrap(), "service.wasm");
        for (file, name) in files.into_iter().chain([component]) {
            let name = format!("app/{name}");
            place.copy(&file, &name);
            // What packs the folder lets nobody run any of it but `wasmtime`, which host.json names.
            fs::set_permissions(place.path(&name), Permissions::from_mode(0o666)).unwrap();
        }
        symlink(HOST, place.path("app/wasmtime")).unwrap();
        let base = place.emulator_base();
        let given = [
            ("AZURE_AUTHORITY_HOST", base.as_str()),
            ("FUNCTIONS_WORKER_RUNTIME", "custom"),
            ("AzureWebJobsStorage", STORAGE),
            ("GATEWAY_TRUST_FORWARDED", "true"),
        ];
        // A place has the endpoint under its old name and under its new one.
        let identity = [Source::AppService2017, Source::AppService2019].map(|it| place.settings(it)).concat();
        let identity = identity.iter().map(|it| (it.0, it.1.as_str()));
        let environment: Vec<_> = identity.chain(given).chain(settings.iter().copied()).collect();
        let host = FunctionsHost::start(&place.path("app"), &environment, keys);
        Self { host, place }
    }

    /// A request of the function's, with this key.
    fn ask(&self, key: &str, body: &str) -> Response<String> {
        self.send("POST /api/GetKeyVaultSecret", &[("x-functions-key", key), JSON], body)
    }

    fn send(&self, request: &str, fields: &[(&str, &str)], body: &str) -> Response<String> {
        let (method, path) = request.split_once(' ').unwrap();
        let request = Request::builder().method(method).uri(path);
        let request = request.header("host", "my-function-app.azurewebsites.net");
        let request = request.header("content-length", body.len());
        let request = fields.iter().fold(request, |request, it| request.header(it.0, it.1));
        self.host.answer(request.body(body.to_owned()).unwrap())
    }

    /// What the gateway says of [`REQUEST`].
    fn answer(&self) -> String {
        format!(r#"{{"Secret":"Integration-Team-Blog","Value":"{}"}}"#, self.place.value)
    }
}

/// The status and the code of an error of the gateway.
#[track_caller]
fn error(answer: &Response<String>) -> (u16, String) {
    let body: Value = serde_json::from_str(answer.body()).unwrap_or_else(|_| panic!("{answer:?}"));
    (answer.status().as_u16(), body["error"]["code"].as_str().unwrap().to_owned())
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// A connection string, which every function app has.
const STORAGE: &str = "DefaultEndpointsProtocol=https;AccountName=myfunctionapp;AccountKey=none";

const AUDIENCE: &str = "api://keyvault-gateway";

/// A key whose SHA-256 is known: the example of two blocks of the Secure Hash Standard (NIST, FIPS 180-2, B.2).
const KEY: &str = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
const KEY_SHA256: &str = "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1";
