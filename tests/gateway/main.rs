//! The steps of the gateway, in order, with a host that a test scripts.

mod bearers;
mod bounds;
mod composed;
mod forgeries;
mod memory;
mod records;
mod scripted;
mod shared;
mod tokens;
mod troubles;

use core::time::Duration;

use keyvault_gateway::gateway::OPENAPI;
use keyvault_gateway::host::CallError;
use scripted::*;

/// What the replaced function's own test sends.
const REQUEST: &str = r#"{"Secret": "Integration-Team-Blog"}"#;

#[test]
fn reads_a_secret_with_one_token_call_and_one_vault_call() {
    let gateway = Scripted::new(&[]).answering([token(3600), secret("Integration-Team-Blog", "the value")]);
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
    assert_eq!(reply.fields().len(), 6);
    assert_eq!(
        gateway.calls(),
        [
            "GET http://127.0.0.1:41741/MSI/token/?api-version=2017-09-01&resource=https%3A%2F%2Fvault.azure.net",
            "GET https://my-vault.vault.azure.net/secrets/Integration-Team-Blog?api-version=2025-07-01",
        ]
    );
}

#[test]
fn values_are_written_as_json() {
    let all_of_ascii = (0..=127_u8).map(|it| format!("a{}b", char::from(it)));
    let values = ["", "a\"b\\c", "line\r\nline\u{7}", "grüße 🦀 \u{2028}", "</script>"].map(str::to_owned);
    for value in all_of_ascii.chain(values) {
        let gateway = Scripted::new(&[]).answering([token(3600), secret("a", &value)]);
        let body = body_of(&gateway.post("/", &asking("a")));
        assert_eq!(body, format!(r#"{{"Secret":"a","Value":{}}}"#, serde_json::json!(value)));
    }
}

#[test]
fn uses_the_old_token_while_there_is_no_new_one() {
    for failing in
        [status(429), status(500), status(400), status(200), lost(), Outcome::Failed(CallError::TimedOut)]
    {
        let gateway = Scripted::new(&[]);
        // It is not tried again at once: there is no hurry. At its end there has to be a new one.
        gateway.will_answer([token(3600), secret("a", "1"), failing, secret("b", "2"), secret("c", "3")]);
        gateway.will_answer([token(3600), secret("d", "4")]);
        for (seconds, name, calls) in [(0, "a", 2), (3598, "b", 4), (1, "c", 5), (61, "d", 7)] {
            gateway.pass(Duration::from_secs(seconds));
            assert_eq!((gateway.read(name).0, gateway.calls().len()), (200, calls), "{name}");
        }
    }
}

#[test]
fn a_token_that_is_still_good_is_renewed_within_a_quarter_of_the_deadline() {
    let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "8")]);
    gateway.will_answer([token(3600), secret("a", "1"), token(3600), secret("b", "2")]);
    gateway.post("/", &asking("a"));
    gateway.pass(Duration::from_secs(3500));
    assert_eq!(gateway.read("b").0, 200);
    assert_eq!(gateway.limits(), [8, 4, 2, 4].map(Duration::from_secs));
}

#[test]
fn asks_azure_nothing_that_it_need_not() {
    let (json, right) = (JSON, FIELDS[1]);
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
fn looks_at_the_key_before_it_reads_the_body() {
    let gateway = Scripted::new(&[]);
    gateway.request("POST", "/", &[JSON], REQUEST);
    assert!(!gateway.world.body_was_read.get());
}

#[test]
fn what_azure_says_stays_here() {
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
        let gateway = Scripted::new(&[("GATEWAY_LOG", "debug")]).answering(outcomes);
        let reply = gateway.post("/", &asking("a"));
        let body = format!(r#"{{"error":{{"code":"{}","message":"{message}"}}}}"#, expected.1);
        assert_eq!((outcome(&reply), body_of(&reply)), (expected, body));
        assert!(!format!("{reply:?} {:?}", gateway.log()).contains("marker"));
    }
}

#[test]
fn a_request_has_one_deadline() {
    // A call to the vault has half of the deadline, so that there is time for another.
    for (latency, expected, limits) in [(1, (200, "OK"), &[4, 2][..]), (4, (504, "Timeout"), &[4])] {
        let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "4")]);
        gateway.world.latency.set(Duration::from_secs(latency));
        gateway.will_answer([token(3600), secret("a", "v")]);
        assert_eq!(gateway.read("a"), expected);
        assert_eq!(gateway.limits(), limits.iter().copied().map(Duration::from_secs).collect::<Vec<_>>());
    }
}

#[test]
fn a_wrong_setting_is_named_and_nothing_more() {
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
fn is_ready_when_a_token_can_be_had() {
    let gateway = Scripted::new(&[]).answering([token(3600)]);
    for _ in 0..3 {
        let reply = gateway.get("/readyz");
        assert_eq!((reply.status().as_u16(), body_of(&reply).as_str()), (200, r#"{"status":"ready"}"#));
    }
    assert_eq!(gateway.calls().len(), 1);
}

#[test]
fn a_byte_order_mark_before_json_changes_nothing() {
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
        gateway.will_answer(answers.into_iter().map(marked));
        assert_eq!(gateway.post("/", "\u{feff}{\"Secret\":\"a\"}").code(), code);
    }
}

#[test]
fn the_description_is_served_as_it_is() {
    let reply = Scripted::new(&[]).get("/openapi.json");
    assert_eq!((field(&reply, "content-type"), body_of(&reply).as_str()), ("application/json", OPENAPI));
}
