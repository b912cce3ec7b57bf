//! The whole core on a host with scripted answers: what a request returns, and which calls it makes.

mod access_tokens;
mod azure_tokens;
mod batch;
mod cache;
mod component_api;
mod federation;
mod forged_tokens;
mod immediate;
mod isolation;
mod platform_tokens;
mod scripted;
mod shared_store;
mod single_flight;
mod telemetry;
mod upstream_failures;

use std::time::Duration;

use keyvault_gateway::azure::CallError;
use keyvault_gateway::gateway::OPENAPI;
use scripted::*;

/// The body that the tests of the replaced function send.
const REQUEST: &str = r#"{"Secret": "Integration-Team-Blog"}"#;

#[test]
fn cold_read_makes_one_token_call_and_one_vault_call() {
    let gateway = Scripted::new(&[]).with_script([token(3600), secret("Integration-Team-Blog", "the value")]);
    let reply = gateway.post("/api/GetKeyVaultSecret", REQUEST);
    assert_eq!(
        (reply.status().as_u16(), body_of(&reply).as_str()),
        (200, r#"{"Secret":"Integration-Team-Blog","Value":"the value"}"#)
    );
    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("etag", "\"3d76eb676e0a40429c7aa2b4b7912a5d\""),
        ("age", "0"),
        ("cache-status", "keyvault-gateway; fwd=miss"),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(field(&reply, name), value);
    }
    assert_eq!(reply.headers().len(), 6);
    assert_eq!(
        gateway.calls(),
        [
            "GET http://127.0.0.1:41741/MSI/token/?api-version=2017-09-01&resource=https%3A%2F%2Fvault.azure.net",
            "GET https://my-vault.vault.azure.net/secrets/Integration-Team-Blog?api-version=2025-07-01",
        ]
    );
}

#[test]
fn writes_every_value_as_json() {
    let all_of_ascii = (0..=127_u8).map(|byte| format!("a{}b", char::from(byte)));
    let values = ["", "a\"b\\c", "line\r\nline\u{7}", "grüße 🦀 \u{2028}", "</script>"].map(str::to_owned);
    for value in all_of_ascii.chain(values) {
        let gateway = Scripted::new(&[]).with_script([token(3600), secret("a", &value)]);
        let body = body_of(&gateway.post("/", &request_for("a")));
        assert_eq!(body, format!(r#"{{"Secret":"a","Value":{}}}"#, serde_json::json!(value)));
    }
}

#[test]
fn uses_a_valid_token_while_its_refresh_fails() {
    for failing in
        [status(429), status(500), status(400), status(200), lost(), Outcome::Failed(CallError::TimedOut)]
    {
        let gateway = Scripted::new(&[]);
        // A failed refresh is not retried at once. The old token is used until it expires.
        gateway.script([token(3600), secret("a", "1"), failing, secret("b", "2"), secret("c", "3")]);
        gateway.script([token(3600), secret("d", "4")]);
        for (seconds, name, calls) in [(0, "a", 2), (3598, "b", 4), (1, "c", 5), (61, "d", 7)] {
            gateway.advance(Duration::from_secs(seconds));
            assert_eq!((gateway.read(name).0, gateway.calls().len()), (200, calls), "{name}");
        }
    }
}

#[test]
fn token_refresh_has_a_quarter_of_the_deadline() {
    let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "8")]);
    gateway.script([token(3600), secret("a", "1"), token(3600), secret("b", "2")]);
    gateway.post("/", &request_for("a"));
    gateway.advance(Duration::from_secs(3500));
    assert_eq!(gateway.read("b").0, 200);
    assert_eq!(gateway.timeouts(), [8, 4, 2, 4].map(Duration::from_secs));
}

#[test]
fn makes_no_unnecessary_upstream_call() {
    let (json, right) = (JSON, WITH_KEY[1]);
    for (method, target, fields, body, status, code) in [
        ("POST", "/", vec![json], REQUEST, 401, "Unauthorized"),
        ("POST", "/", vec![json, ("x-functions-key", "a-wrong-key")], REQUEST, 401, "Unauthorized"),
        ("POST", "/?code=a-wrong-key", vec![json], REQUEST, 401, "Unauthorized"),
        ("POST", "/", vec![json, right, ("via", "1.1 proxy")], REQUEST, 403, "Forbidden"),
        ("POST", "/", vec![json, OPS_KEY], REQUEST, 403, "Forbidden"),
        ("POST", "/", vec![json, right], "{}", 400, "BadRequest"),
        ("POST", "/", vec![json, right], "[", 400, "BadRequest"),
        ("POST", "/", vec![json, right], r#"{"Secret":"../keys/a"}"#, 400, "BadRequest"),
        ("POST", "/", vec![json, right], r#"{"Secret":"a","Version":"x"}"#, 400, "BadRequest"),
        ("POST", "/", vec![right], REQUEST, 415, "UnsupportedMediaType"),
        ("POST", "/", vec![right, ("content-type", "text/plain")], REQUEST, 415, "UnsupportedMediaType"),
        ("POST", "/", vec![json, right, ("content-length", "9000")], REQUEST, 413, "ContentTooLarge"),
        ("GET", "/", vec![right], "", 405, "MethodNotAllowed"),
        ("POST", "/secrets/a", vec![json, right], REQUEST, 404, "NotFound"),
        ("GET", "/metrics", vec![], "", 401, "Unauthorized"),
        ("GET", "/healthz", vec![], "", 200, "OK"),
        ("GET", "/openapi.json", vec![], "", 200, "OK"),
        ("GET", "/metrics", vec![right], "", 200, "OK"),
    ] {
        let gateway = Scripted::new(&[("GATEWAY_CALLERS", OPS)]);
        let reply = gateway.request(method, target, &fields, body);
        assert_eq!(outcome(&reply), (status, code), "{method} {target} {fields:?} {body}");
        assert!(gateway.calls().is_empty());
    }
}

#[test]
fn checks_the_key_before_it_reads_the_body() {
    let gateway = Scripted::new(&[]);
    gateway.request("POST", "/", &[JSON], REQUEST);
    assert!(!gateway.world.body_was_read.get());
}

#[test]
fn shows_no_text_from_azure() {
    let denied =
        r#"{"error":{"code":"Forbidden","message":"marker","innererror":{"code":"ForbiddenByRbac"}}}"#;
    let missing = r#"{"error":{"code":"SecretNotFound","message":"marker"}}"#;
    let after_token = |status, body: &str| vec![token(3600), answer(status, body)];
    for (outcomes, expected, message) in [
        (
            vec![answer(410, r#"{"error":"marker marker"}"#)],
            (502, "IdentityError"),
            "The token source refused to give a token.",
        ),
        (vec![answer(500, "marker"); 6], (503, "Unavailable"), "The token source is not available."),
        (
            after_token(403, denied),
            (403, "VaultAccessDenied"),
            "Key Vault does not let this gateway read the secret.",
        ),
        (
            after_token(404, missing),
            (404, "SecretNotFound"),
            "A secret with (name/id) a was not found in this key vault.",
        ),
        (after_token(200, "marker"), (502, "VaultError"), "Key Vault gave an answer that cannot be used."),
    ] {
        let gateway = Scripted::new(&[("GATEWAY_LOG", "debug")]).with_script(outcomes);
        let reply = gateway.post("/", &request_for("a"));
        let body = format!(r#"{{"error":{{"code":"{}","message":"{message}"}}}}"#, expected.1);
        assert_eq!((outcome(&reply), body_of(&reply)), (expected, body));
        assert!(!format!("{reply:?} {:?}", gateway.log()).contains("marker"));
    }
}

#[test]
fn calls_share_the_deadline_of_the_request() {
    // A call to the vault has half of the deadline, which leaves time for a retry.
    for (latency, expected, timeouts) in [(1, (200, "OK"), &[4, 2][..]), (4, (504, "Timeout"), &[4])] {
        let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "4")]);
        gateway.world.latency.set(Duration::from_secs(latency));
        gateway.script([token(3600), secret("a", "v")]);
        assert_eq!(gateway.read("a"), expected);
        assert_eq!(gateway.timeouts(), timeouts.iter().copied().map(Duration::from_secs).collect::<Vec<_>>());
    }
}

#[test]
fn names_an_invalid_setting_without_its_value() {
    let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "marker")]);
    let message = "The setting GATEWAY_DEADLINE_SECONDS must be a whole number in its range.";
    let body = format!(r#"{{"error":{{"code":"ConfigurationError","message":"{message}"}}}}"#);
    for (target, status) in [("/", 500), ("/readyz", 503), ("/metrics", 500)] {
        let reply = if target == "/" { gateway.post(target, REQUEST) } else { gateway.get(target) };
        assert_eq!((reply.status().as_u16(), body_of(&reply)), (status, body.clone()), "{target}");
    }
    assert_eq!(gateway.get("/healthz").status().as_u16(), 200);
}

#[test]
fn readiness_fetches_one_token() {
    let gateway = Scripted::new(&[]).with_script([token(3600)]);
    for _ in 0..3 {
        let reply = gateway.get("/readyz");
        assert_eq!((reply.status().as_u16(), body_of(&reply).as_str()), (200, r#"{"status":"ready"}"#));
    }
    assert_eq!(gateway.calls().len(), 1);
}

#[test]
fn accepts_a_byte_order_mark_before_json() {
    let marked = |outcome| match outcome {
        Outcome::Answer(answer) => {
            let body = ["\u{feff}".as_bytes(), &answer.body].concat();
            Outcome::Answer(Response { body, ..answer })
        }
        other => other,
    };
    let error = |status, code: &str| answer(status, format!(r#"{{"error":{{"code":"{code}"}}}}"#));
    for (answers, code) in [
        (vec![token(3600), secret("a", "v")], "OK"),
        (vec![token(3600), error(404, "SecretNotFound")], "SecretNotFound"),
        (vec![token(3600), error(403, "Forbidden")], "VaultAccessDenied"),
        (vec![answer(400, r#"{"error":"invalid_resource"}"#.to_owned())], "IdentityError"),
    ] {
        let gateway = Scripted::new(&[("GATEWAY_CALLERS", "\u{feff}[]")]);
        gateway.script(answers.into_iter().map(marked));
        assert_eq!(gateway.post("/", "\u{feff}{\"Secret\":\"a\"}").code(), code);
    }
}

#[test]
fn serves_the_openapi_document() {
    let reply = Scripted::new(&[]).get("/openapi.json");
    assert_eq!((field(&reply, "content-type"), body_of(&reply).as_str()), ("application/json", OPENAPI));
}
