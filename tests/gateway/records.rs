//! What is told of a request: its trace, its line in the log, its counts.

use core::time::Duration;

use crate::REQUEST;
use crate::scripted::*;

#[test]
fn one_trace_id_can_be_followed_from_the_caller_to_the_vault() {
    let gateway = Scripted::new(&[("GATEWAY_LOG", "debug")]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let fields = [FIELDS[0], FIELDS[1], ("traceparent", parent.as_str()), ("tracestate", "a=1")];
    // The vault fails once, so that there is a call that is made again.
    let failing = status(500);
    gateway.will_answer([token(3600), failing, secret("a", "v")]);
    gateway.request("POST", "/", &fields, &asking("a"));
    assert_eq!(gateway.fields().len(), 3);
    for fields in gateway.fields() {
        let passed_on: Vec<_> = fields.iter().filter(|it| it.starts_with("trace")).collect();
        assert_eq!(passed_on, [&format!("traceparent: {parent}")]);
    }
    for (line, (what, status)) in
        gateway.log().iter().zip([("app-service-2017", 200), ("vault", 500), ("vault", 200), ("miss", 200)])
    {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let told = (&line["request"], line.get("call").unwrap_or(&line["cache"]), &line["status"]);
        assert_eq!(told, (&trace.into(), &what.into(), &status.into()));
    }
    assert_eq!(gateway.log().len(), 4);
    // Nothing of it is passed on for another request.
    gateway.will_answer([secret("b", "2")]);
    gateway.read("b");
    assert!(!gateway.fields()[3].iter().any(|it| it.contains("trace")));
    assert!(gateway.log()[5].contains(r#""request":"00000000000000070000000000000007""#));
}

#[test]
fn logs_one_line_for_a_request() {
    let gateway = Scripted::new(&[]);
    gateway.world.latency.set(Duration::from_millis(10));
    gateway.will_answer([token(3600), secret("a", "v")]);
    gateway.post("/", &asking("a"));
    gateway.request("POST", "/", &[JSON], REQUEST);
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
        let gateway = Scripted::new(&[("GATEWAY_LOG", level)]).answering([token(3600), secret("a", "v")]);
        gateway.post("/", &asking("a"));
        assert_eq!(gateway.log().len(), lines, "{level}");
    }
    let gateway = Scripted::new(&[("GATEWAY_LOG", "error")]).answering([status(400)]);
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
        r#"keyvault_gateway_request_duration_seconds_count{found="hit"} 1"#,
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
    let list = OPS.replace(r#""ops-*""#, "");
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", &list)]);
    assert_eq!(gateway.request("GET", "/metrics", &[JSON, OPS_KEY], "").status(), 200);
    assert_eq!(gateway.request("POST", "/", &[JSON, OPS_KEY], REQUEST).code(), "Forbidden");
}

#[test]
fn a_call_whose_client_hangs_up_has_begun_and_not_ended() {
    let gateway = Scripted::new(&[]).answering([Outcome::Never]);
    assert!(gateway.hang_up("POST", "/", &FIELDS, &asking("a")));
    let text = body_of(&gateway.get("/metrics?code=the-right-key"));
    for line in [
        r#"keyvault_gateway_upstream_calls_total{upstream="identity"} 1"#,
        r#"keyvault_gateway_upstream_duration_seconds_count{upstream="identity"} 0"#,
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
}
