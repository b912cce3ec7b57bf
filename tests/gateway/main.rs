//! The steps of the gateway, in order, with a host that a test scripts.

mod bearers;
mod forgeries;
mod memory;
mod scripted;
mod troubles;

use core::time::Duration;

use keyvault_gateway::gateway::OPENAPI;
use keyvault_gateway::host::NoAnswer;
use scripted::{Scripted, Seen, body_of, field, secret, token};

/// What the replaced function's own test sends.
const REQUEST: &str = r#"{"Secret": "Integration-Team-Blog"}"#;

#[test]
fn reads_a_secret_with_one_token_call_and_one_vault_call() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), secret("Integration-Team-Blog", "the value")]);
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
fn answers_with_the_name_as_it_was_asked_for() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), secret("Db-Password", "v")]);
    let reply = gateway.post("/", r#"{"secret":"DB-PASSWORD"}"#);
    assert_eq!(body_of(&reply), r#"{"Secret":"DB-PASSWORD","Value":"v"}"#);
}

#[test]
fn asks_for_the_version_that_is_pinned() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), secret("a", "v")]);
    let reply = gateway.post("/", r#"{"Secret":"a","Version":"3D76EB676E0A40429C7AA2B4B7912A5D"}"#);
    assert_eq!(reply.status().as_u16(), 200);
    let path = "/secrets/a/3d76eb676e0a40429c7aa2b4b7912a5d?api-version=2025-07-01";
    assert!(gateway.calls()[1].ends_with(path));
}

#[test]
fn values_are_written_as_json() {
    let all_of_ascii = (0..=127_u8).map(|it| format!("a{}b", char::from(it)));
    let values = ["", "a\"b\\c", "line\r\nline\u{7}", "grüße 🦀 \u{2028}", "</script>"].map(str::to_owned);
    for value in all_of_ascii.chain(values) {
        let gateway = Scripted::new(&[]);
        gateway.will_answer([token(3600), secret("a", &value)]);
        let body = body_of(&gateway.post("/", r#"{"Secret":"a"}"#));
        assert_eq!(body, format!(r#"{{"Secret":"a","Value":{}}}"#, serde_json::json!(value)));
    }
}

#[test]
fn keeps_the_token_until_shortly_before_its_end() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), secret("a", "1"), secret("b", "2"), token(3600), secret("c", "3")]);
    for (seconds, name, calls) in [(0, "a", 2), (3299, "b", 3), (1, "c", 5)] {
        gateway.pass(Duration::from_secs(seconds));
        assert_eq!(gateway.post("/", &asking(name)).status().as_u16(), 200);
        assert_eq!(gateway.calls().len(), calls);
    }
}

#[test]
fn uses_the_old_token_while_there_is_no_new_one() {
    for failing in [
        Seen::Answer(429, None, String::new()),
        Seen::Answer(500, None, String::new()),
        Seen::Answer(400, None, String::new()),
        Seen::Answer(200, None, String::new()),
        Seen::Nothing(NoAnswer::Lost),
        Seen::Nothing(NoAnswer::TimedOut),
    ] {
        let gateway = Scripted::new(&[]);
        gateway.will_answer([token(3600), secret("a", "1"), failing, secret("b", "2"), secret("c", "3")]);
        assert_eq!(gateway.post("/", &asking("a")).status().as_u16(), 200);
        gateway.pass(Duration::from_secs(3598));
        assert_eq!(gateway.post("/", &asking("b")).status().as_u16(), 200);
        // It is not tried again at once: there is no hurry.
        gateway.pass(Duration::from_secs(1));
        assert_eq!(gateway.post("/", &asking("c")).status().as_u16(), 200);
        assert_eq!(gateway.calls().len(), 5);
        // At its end there has to be a new one.
        gateway.pass(Duration::from_secs(61));
        gateway.will_answer([token(3600), secret("d", "4")]);
        assert_eq!(gateway.post("/", &asking("d")).status().as_u16(), 200);
    }
}

#[test]
fn a_token_that_is_still_good_is_renewed_within_a_quarter_of_the_deadline() {
    let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "8")]);
    gateway.will_answer([token(3600), secret("a", "1"), token(3600), secret("b", "2")]);
    gateway.post("/", &asking("a"));
    gateway.pass(Duration::from_secs(3500));
    assert_eq!(gateway.post("/", &asking("b")).status().as_u16(), 200);
    assert_eq!(gateway.limits(), [8, 4, 2, 4].map(Duration::from_secs));
}

#[test]
fn names_the_version_that_is_not_there() {
    let gateway = Scripted::new(&[]);
    let not_found = r#"{"error":{"code":"SecretNotFound","message":"m"}}"#;
    gateway.will_answer([token(3600), Seen::Answer(404, None, not_found.to_owned())]);
    let reply = gateway.post("/", &format!(r#"{{"Secret":"a","Version":"{}"}}"#, "0".repeat(32)));
    let sentence = format!("A secret with (name/id) a/{} was not found in this key vault.", "0".repeat(32));
    assert!(body_of(&reply).contains(&sentence), "{}", body_of(&reply));
}

#[test]
fn says_so_where_the_host_does_not_let_it_call() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([Seen::Nothing(NoAnswer::NotAllowed)]);
    assert_eq!(gateway.post("/", r#"{"Secret":"a"}"#).code(), "Unavailable");
    assert!(gateway.log()[0].contains("the host does not let calls go to this address"));
}

#[test]
fn replaces_a_token_that_the_vault_refuses() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), refused(401), token(3600), secret("a", "v")]);
    assert_eq!(gateway.post("/", r#"{"Secret":"a"}"#).status().as_u16(), 200);
    assert_eq!(gateway.calls().len(), 4);
}

#[test]
fn does_not_loop_where_the_vault_refuses_every_token() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), refused(401), token(3600), refused(401)]);
    let reply = gateway.post("/", r#"{"Secret":"a"}"#);
    assert_eq!((reply.status().as_u16(), reply.code()), (502, "VaultError"));
    assert_eq!(gateway.calls().len(), 4);
}

#[test]
fn asks_azure_nothing_that_it_need_not() {
    let list = r#"[{"name":"ops","secrets":["ops-*"],
        "key_sha256":["97a1525552707dffb403e9124bf88cf83ef37b5ba47a5d2ff6e933aeac1b4c5b"]}]"#;
    let json = ("content-type", "application/json");
    let right = ("x-functions-key", "the-right-key");
    for (method, target, fields, body, status, code) in [
        ("POST", "/", vec![json], REQUEST, 401, "Unauthorized"),
        ("POST", "/", vec![json, ("x-functions-key", "a-wrong-key")], REQUEST, 401, "Unauthorized"),
        ("POST", "/?code=a-wrong-key", vec![json], REQUEST, 401, "Unauthorized"),
        ("POST", "/", vec![json, right, ("via", "1.1 proxy")], REQUEST, 403, "Forbidden"),
        ("POST", "/", vec![json, ("x-functions-key", "the-third-key")], REQUEST, 403, "Forbidden"),
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
        let gateway = Scripted::new(&[("GATEWAY_CALLERS", list)]);
        let reply = gateway.request(method, target, &fields, body);
        assert_eq!(
            (reply.status().as_u16(), reply.code()),
            (status, code),
            "{method} {target} {fields:?} {body}"
        );
        assert!(gateway.calls().is_empty());
    }
}

#[test]
fn looks_at_the_key_before_it_reads_the_body() {
    let gateway = Scripted::new(&[]);
    gateway.request("POST", "/", &[("content-type", "application/json")], REQUEST);
    assert!(!gateway.body_was_read());
}

#[test]
fn what_azure_says_stays_here() {
    let said = r#"{"error":{"code":"Forbidden","message":"marker appid=marker","innererror":{"code":"ForbiddenByRbac"}}}"#;
    let not_found = r#"{"error":{"code":"SecretNotFound","message":"marker"}}"#;
    for (answers, status, code, message) in [
        (
            vec![Seen::Answer(400, None, "marker".into())],
            502,
            "IdentityError",
            "The token source refused to give a token.",
        ),
        (
            vec![Seen::Answer(500, None, "marker".into()); 3],
            503,
            "Unavailable",
            "The token source is not available.",
        ),
        (
            vec![token(3600), Seen::Answer(403, None, said.into())],
            403,
            "VaultAccessDenied",
            "Key Vault does not let this gateway read the secret.",
        ),
        (
            vec![token(3600), Seen::Answer(404, None, not_found.into())],
            404,
            "SecretNotFound",
            "A secret with (name/id) a was not found in this key vault.",
        ),
        (
            vec![token(3600), Seen::Answer(200, None, "marker".into())],
            502,
            "VaultError",
            "Key Vault gave an answer that cannot be used.",
        ),
    ] {
        let gateway = Scripted::new(&[("GATEWAY_LOG", "debug")]);
        gateway.will_answer(answers);
        let reply = gateway.post("/", r#"{"Secret":"a"}"#);
        let body = format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
        assert_eq!((reply.status().as_u16(), body_of(&reply)), (status, body));
        assert!(!format!("{reply:?} {:?}", gateway.log()).contains("marker"));
    }
}

#[test]
fn a_request_has_one_deadline() {
    let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "4")]);
    gateway.will_take(Duration::from_secs(1));
    gateway.will_answer([token(3600), secret("a", "v")]);
    assert_eq!(gateway.post("/", r#"{"Secret":"a"}"#).status().as_u16(), 200);
    // A call to the vault has half of the deadline, so that there is time for another.
    assert_eq!(gateway.limits(), [Duration::from_secs(4), Duration::from_secs(2)]);

    let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "4")]);
    gateway.will_take(Duration::from_secs(4));
    gateway.will_answer([token(3600)]);
    let reply = gateway.post("/", r#"{"Secret":"a"}"#);
    assert_eq!((reply.status().as_u16(), reply.code()), (504, "Timeout"));
    assert_eq!(gateway.calls().len(), 1);
}

#[test]
fn a_wrong_setting_is_named_and_nothing_more() {
    let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "marker")]);
    let message = "The setting GATEWAY_DEADLINE_SECONDS must be a whole number in its range.";
    let body = format!(r#"{{"error":{{"code":"ConfigurationError","message":"{message}"}}}}"#);
    for (target, status) in [("/", 500), ("/readyz", 503), ("/metrics", 500)] {
        let reply = match target {
            "/" => gateway.post(target, REQUEST),
            _ => gateway.request("GET", target, &[], ""),
        };
        assert_eq!((reply.status().as_u16(), body_of(&reply)), (status, body.clone()), "{target}");
    }
    assert_eq!(gateway.request("GET", "/healthz", &[], "").status().as_u16(), 200);
}

#[test]
fn is_ready_when_a_token_can_be_had() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600)]);
    for _ in 0..3 {
        let reply = gateway.request("GET", "/readyz", &[], "");
        assert_eq!((reply.status().as_u16(), body_of(&reply).as_str()), (200, r#"{"status":"ready"}"#));
    }
    assert_eq!(gateway.calls().len(), 1);
}

#[test]
fn tries_for_readiness_at_most_once_in_five_seconds() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([Seen::Answer(400, None, String::new()), token(3600)]);
    for (seconds, status, calls) in [(0, 503, 1), (0, 503, 1), (4, 503, 1), (1, 200, 2)] {
        gateway.pass(Duration::from_secs(seconds));
        let reply = gateway.request("GET", "/readyz", &[], "");
        assert_eq!((reply.status().as_u16(), gateway.calls().len()), (status, calls));
    }
}

#[test]
fn who_asks_for_readiness_and_hangs_up_asks_azure_once_in_five_seconds() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([const { Seen::Never }; 2]);
    for round in 1..=2 {
        let hung_up = (0..100).filter(|_| gateway.hang_up("GET", "/readyz", &[], "")).count();
        assert_eq!((hung_up, gateway.calls().len()), (1, round));
        gateway.pass(Duration::from_secs(5));
    }
    gateway.will_answer([token(3600)]);
    assert_eq!(gateway.request("GET", "/readyz", &[], "").status(), 200);
}

#[test]
fn a_wrong_method_is_405_wherever_it_is() {
    for (method, target) in
        [("POST", "/healthz"), ("POST", "/readyz"), ("HEAD", "/readyz"), ("PUT", "/metrics")]
    {
        let reply = Scripted::new(&[]).request(method, target, &[], "");
        assert_eq!((reply.status().as_u16(), reply.code()), (405, "MethodNotAllowed"), "{method} {target}");
        assert!(!reply.fields().has("retry-after"));
    }
}

#[test]
fn one_trace_id_can_be_followed_from_the_caller_to_the_vault() {
    let gateway = Scripted::new(&[("GATEWAY_LOG", "debug")]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let fields = [
        ("content-type", "application/json"),
        ("x-functions-key", "the-right-key"),
        ("traceparent", parent.as_str()),
        ("tracestate", "a=1"),
    ];
    // The vault fails once, so that there is a call that is made again.
    let failing = Seen::Answer(500, None, String::new());
    gateway.will_answer([token(3600), failing, secret("a", "v")]);
    gateway.request("POST", "/", &fields, r#"{"Secret":"a"}"#);
    assert_eq!(gateway.fields().len(), 3);
    for fields in gateway.fields() {
        let passed_on: Vec<_> = fields.iter().filter(|it| it.starts_with("trace")).collect();
        assert_eq!(passed_on, [&format!("traceparent: {parent}"), "tracestate: a=1"]);
    }
    let lines: Vec<serde_json::Value> =
        gateway.log().iter().map(|it| serde_json::from_str(it).unwrap()).collect();
    let lines = lines.iter().map(|it| {
        let text = |name: &str| it[name].as_str().map(str::to_owned);
        (text("request").unwrap(), text("call").or_else(|| text("cache")).unwrap(), it["status"].clone())
    });
    assert_eq!(
        lines.collect::<Vec<_>>(),
        [("app-service-2017", 200), ("vault", 500), ("vault", 200), ("miss", 200)].map(|(what, status)| (
            trace.to_owned(),
            what.to_owned(),
            status.into()
        ))
    );
}

#[test]
fn no_trace_of_another_request_is_passed_on() {
    let gateway = Scripted::new(&[]);
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let key = ("x-functions-key", "the-right-key");
    let json = ("content-type", "application/json");
    gateway.will_answer([token(3600), secret("a", "1"), secret("b", "2")]);
    gateway.request("POST", "/", &[json, key, ("traceparent", parent)], &asking("a"));
    gateway.request("POST", "/", &[json, key], &asking("b"));
    let traced =
        gateway.fields().iter().map(|it| it.iter().any(|it| it.contains("trace"))).collect::<Vec<_>>();
    assert_eq!(traced, [true, true, false]);
    assert!(gateway.log()[1].contains(r#""request":"00000000000000070000000000000007""#));
}

#[test]
fn the_token_goes_to_the_vault_and_the_identity_secret_to_its_endpoint() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), secret("a", "v")]);
    gateway.post("/", r#"{"Secret":"a"}"#);
    let [to_identity, to_vault] = gateway.fields().try_into().unwrap();
    assert!(to_identity.contains(&"secret: identity-secret".to_owned()));
    assert!(!to_identity.iter().any(|it| it.starts_with("authorization")));
    assert!(to_vault.contains(&"authorization: Bearer the-token".to_owned()));
    assert!(!to_vault.iter().any(|it| it.contains("identity-secret")));
}

#[test]
fn logs_one_line_for_a_request() {
    let gateway = Scripted::new(&[]);
    gateway.will_take(Duration::from_millis(10));
    gateway.will_answer([token(3600), secret("a", "v")]);
    gateway.post("/", r#"{"Secret":"a"}"#);
    gateway.request("POST", "/", &[("content-type", "application/json")], REQUEST);
    assert_eq!(
        gateway.log(),
        [
            r#"{"time":"2024-12-31T23:59:59Z","level":"info","request":"00000000000000070000000000000007","caller":"key","secret":"a","status":200,"code":"OK","cache":"miss","upstream":2,"ms":20.0}"#,
            r#"{"time":"2024-12-31T23:59:59Z","level":"info","request":"00000000000000070000000000000007","status":401,"code":"Unauthorized","cause":"the caller's key or token is missing or wrong","upstream":0,"ms":0.0}"#,
        ]
    );
}

#[test]
fn logs_as_much_as_it_should() {
    for (level, lines) in [("error", 0), ("info", 1), ("debug", 3)] {
        let gateway = Scripted::new(&[("GATEWAY_LOG", level)]);
        gateway.will_answer([token(3600), secret("a", "v")]);
        gateway.post("/", r#"{"Secret":"a"}"#);
        assert_eq!(gateway.log().len(), lines, "{level}");
    }
    let gateway = Scripted::new(&[("GATEWAY_LOG", "error")]);
    gateway.will_answer([Seen::Answer(400, None, String::new())]);
    gateway.post("/", r#"{"Secret":"a"}"#);
    assert_eq!(gateway.log().len(), 1);
}

#[test]
fn counts_what_it_does() {
    let gateway = Scripted::new(&[]);
    gateway.will_take(Duration::from_millis(30));
    gateway.will_answer([token(3600), secret("a", "v")]);
    gateway.post("/", r#"{"Secret":"a"}"#);
    gateway.pass(Duration::from_secs(7));
    gateway.post("/", r#"{"Secret":"a"}"#);
    gateway.request("GET", "/healthz", &[], "");
    let text = body_of(&gateway.request("GET", "/metrics?code=the-right-key", &[], ""));
    for line in [
        r#"keyvault_gateway_requests_total{status="200",code="OK"} 3"#,
        r#"keyvault_gateway_request_duration_seconds_bucket{found="hit",le="0.0001"} 1"#,
        r#"keyvault_gateway_request_duration_seconds_count{found="hit"} 1"#,
        r#"keyvault_gateway_request_duration_seconds_bucket{found="miss",le="0.05"} 0"#,
        r#"keyvault_gateway_request_duration_seconds_bucket{found="miss",le="0.1"} 1"#,
        r#"keyvault_gateway_request_duration_seconds_sum{found="miss"} 0.060000000"#,
        r#"keyvault_gateway_request_duration_seconds_count{found="none"} 1"#,
        r#"keyvault_gateway_cache_lookups_total{found="hit"} 1"#,
        r#"keyvault_gateway_cache_lookups_total{found="miss"} 1"#,
        "keyvault_gateway_cache_values 1",
        "keyvault_gateway_cache_bytes 258",
        r#"keyvault_gateway_upstream_calls_total{upstream="identity"} 1"#,
        r#"keyvault_gateway_upstream_calls_total{upstream="vault"} 1"#,
        r#"keyvault_gateway_upstream_duration_seconds_sum{upstream="identity"} 0.030000000"#,
        r#"keyvault_gateway_upstream_duration_seconds_count{upstream="vault"} 1"#,
        "keyvault_gateway_token_age_seconds 7",
        "keyvault_gateway_token_left_seconds 3592",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}

#[test]
fn who_may_read_no_secret_may_read_the_metrics() {
    let list = r#"[{"name":"prometheus","secrets":[],
        "key_sha256":["97a1525552707dffb403e9124bf88cf83ef37b5ba47a5d2ff6e933aeac1b4c5b"]}]"#;
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", list)]);
    let fields = [("content-type", "application/json"), ("x-functions-key", "the-third-key")];
    assert_eq!(gateway.request("GET", "/metrics", &fields, "").status(), 200);
    assert_eq!(gateway.request("POST", "/", &fields, REQUEST).code(), "Forbidden");
}

#[test]
fn a_call_whose_client_hangs_up_has_begun_and_not_ended() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([Seen::Never]);
    let fields = [("content-type", "application/json"), ("x-functions-key", "the-right-key")];
    assert!(gateway.hang_up("POST", "/", &fields, r#"{"Secret":"a"}"#));
    let text = body_of(&gateway.request("GET", "/metrics?code=the-right-key", &[], ""));
    for line in [
        r#"keyvault_gateway_upstream_calls_total{upstream="identity"} 1"#,
        r#"keyvault_gateway_upstream_duration_seconds_count{upstream="identity"} 0"#,
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}

#[test]
fn a_token_that_is_over_has_no_age() {
    let gateway = Scripted::new(&[]);
    gateway.will_answer([token(3600), secret("a", "v")]);
    gateway.post("/", r#"{"Secret":"a"}"#);
    for (seconds, lines) in [(3599, vec!["age_seconds 3599", "left_seconds 1"]), (1, vec![])] {
        gateway.pass(Duration::from_secs(seconds));
        let text = body_of(&gateway.request("GET", "/metrics?code=the-right-key", &[], ""));
        let shown = text.lines().filter_map(|it| it.strip_prefix("keyvault_gateway_token_"));
        assert_eq!(shown.collect::<Vec<_>>(), lines);
    }
}

#[test]
fn the_description_is_served_as_it_is() {
    let reply = Scripted::new(&[]).request("GET", "/openapi.json", &[], "");
    assert_eq!((field(&reply, "content-type"), body_of(&reply).as_str()), ("application/json", OPENAPI));
}

/// The body of a request for a secret.
fn asking(name: &str) -> String {
    format!(r#"{{"Secret":"{name}"}}"#)
}

/// A refusal of Key Vault.
fn refused(status: u16) -> Seen {
    Seen::Answer(status, None, r#"{"error":{"code":"Unauthorized","message":"AKV10046"}}"#.to_owned())
}
