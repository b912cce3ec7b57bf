//! What is told of a request: its trace, its line in the log, its counts.

use core::time::Duration;

use crate::REQUEST;
use crate::scripted::*;

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
    let failing = status(500);
    gateway.will_answer([token(3600), failing, secret("a", "v")]);
    gateway.request("POST", "/", &fields, &asking("a"));
    assert_eq!(gateway.fields().len(), 3);
    for fields in gateway.fields() {
        let passed_on: Vec<_> = fields.iter().filter(|it| it.starts_with("trace")).collect();
        assert_eq!(passed_on, [&format!("traceparent: {parent}")]);
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
fn logs_one_line_for_a_request() {
    let gateway = Scripted::new(&[]);
    gateway.world.latency.set(Duration::from_millis(10));
    gateway.will_answer([token(3600), secret("a", "v")]);
    gateway.post("/", &asking("a"));
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
        gateway.post("/", &asking("a"));
        assert_eq!(gateway.log().len(), lines, "{level}");
    }
    let gateway = Scripted::new(&[("GATEWAY_LOG", "error")]);
    gateway.will_answer([status(400)]);
    gateway.post("/", &asking("a"));
    assert_eq!(gateway.log().len(), 1);
}

#[test]
fn counts_what_it_does() {
    let gateway = Scripted::new(&[]);
    gateway.world.latency.set(Duration::from_millis(30));
    gateway.will_answer([token(3600), secret("a", "v")]);
    gateway.post("/", &asking("a"));
    gateway.pass(Duration::from_secs(7));
    gateway.post("/", &asking("a"));
    gateway.get("/healthz");
    let text = body_of(&gateway.get("/metrics?code=the-right-key"));
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
    gateway.will_answer([Outcome::Never]);
    let fields = [("content-type", "application/json"), ("x-functions-key", "the-right-key")];
    assert!(gateway.hang_up("POST", "/", &fields, &asking("a")));
    let text = body_of(&gateway.get("/metrics?code=the-right-key"));
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
    gateway.post("/", &asking("a"));
    for (seconds, lines) in [(3599, vec!["age_seconds 3599", "left_seconds 1"]), (1, vec![])] {
        gateway.pass(Duration::from_secs(seconds));
        let text = body_of(&gateway.get("/metrics?code=the-right-key"));
        let shown = text.lines().filter_map(|it| it.strip_prefix("keyvault_gateway_token_"));
        assert_eq!(shown.collect::<Vec<_>>(), lines);
    }
}
