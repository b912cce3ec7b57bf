//! Traces, log lines and metrics of a request.

use std::time::Duration;

use crate::REQUEST;
use crate::scripted::*;

#[test]
fn passes_the_trace_id_to_every_call() {
    let gateway = Scripted::new(&[("GATEWAY_LOG", "debug")]);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let fields = [WITH_KEY[0], WITH_KEY[1], ("traceparent", parent.as_str()), ("tracestate", "a=1")];
    // The vault fails once, so the gateway retries the call.
    let failing = status(500);
    gateway.script([token(3600), failing, secret("a", "v")]);
    gateway.request("POST", "/", &fields, &request_for("a"));
    assert_eq!(gateway.headers().len(), 3);
    for fields in gateway.headers() {
        let passed_on: Vec<_> = fields.iter().filter(|field| field.starts_with("trace")).collect();
        assert_eq!(passed_on, [&format!("traceparent: {parent}")]);
    }
    for (line, (call, status)) in
        gateway.log().iter().zip([("app-service-2017", 200), ("vault", 500), ("vault", 200), ("miss", 200)])
    {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let logged = (&line["request"], line.get("call").unwrap_or(&line["cache"]), &line["status"]);
        assert_eq!(logged, (&trace.into(), &call.into(), &status.into()));
    }
    assert_eq!(gateway.log().len(), 4);
    // Another request does not pass on this trace.
    gateway.script([secret("b", "2")]);
    gateway.read("b");
    assert!(!gateway.headers()[3].iter().any(|field| field.contains("trace")));
    assert!(gateway.log()[5].contains(r#""request":"00000000000000070000000000000007""#));
}

#[test]
fn logs_one_line_per_request() {
    let gateway = Scripted::new(&[]);
    gateway.world.latency.set(Duration::from_millis(10));
    gateway.script([token(3600), secret("a", "v")]);
    gateway.post("/", &request_for("a"));
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
fn log_level_selects_the_lines() {
    for (level, lines) in [("error", 0), ("info", 1), ("debug", 3)] {
        let gateway = Scripted::new(&[("GATEWAY_LOG", level)]).with_script([token(3600), secret("a", "v")]);
        gateway.post("/", &request_for("a"));
        assert_eq!(gateway.log().len(), lines, "{level}");
    }
    let gateway = Scripted::new(&[("GATEWAY_LOG", "error")]).with_script([status(400)]);
    gateway.post("/", &request_for("a"));
    assert_eq!(gateway.log().len(), 1);
}

#[test]
fn counts_requests_calls_and_cache_lookups() {
    let gateway = Scripted::new(&[]);
    gateway.world.latency.set(Duration::from_millis(30));
    gateway.script([token(3600), secret("a", "v")]);
    gateway.post("/", &request_for("a"));
    gateway.advance(Duration::from_secs(7));
    gateway.post("/", &request_for("a"));
    gateway.get("/healthz");
    assert_has_metrics(
        &gateway,
        &[
            r#"keyvault_gateway_requests_total{status="200",code="OK"} 3"#,
            r#"keyvault_gateway_request_duration_seconds_count{cache="hit"} 1"#,
            r#"keyvault_gateway_request_duration_seconds_sum{cache="miss"} 0.060000000"#,
            r#"keyvault_gateway_request_duration_seconds_count{cache="none"} 1"#,
            r#"keyvault_gateway_cache_lookups_total{cache="hit"} 1"#,
            r#"keyvault_gateway_cache_lookups_total{cache="miss"} 1"#,
            "keyvault_gateway_cache_values 1",
            "keyvault_gateway_cache_bytes 386",
            r#"keyvault_gateway_upstream_calls_total{upstream="identity"} 1"#,
            r#"keyvault_gateway_upstream_calls_total{upstream="vault"} 1"#,
            r#"keyvault_gateway_upstream_duration_seconds_sum{upstream="identity"} 0.030000000"#,
            r#"keyvault_gateway_upstream_duration_seconds_count{upstream="vault"} 1"#,
            "keyvault_gateway_token_age_seconds 7",
            "keyvault_gateway_token_left_seconds 3592",
        ],
    );
}

#[test]
fn caller_without_secrets_reads_the_metrics() {
    let list = OPS.replace(r#""ops-*""#, "");
    let gateway = Scripted::new(&[("GATEWAY_CALLERS", &list)]);
    assert_eq!(gateway.request("GET", "/metrics", &[JSON, OPS_KEY], "").status(), 200);
    assert_eq!(gateway.request("POST", "/", &[JSON, OPS_KEY], REQUEST).code(), "Forbidden");
}

#[test]
fn counts_a_cancelled_call_without_a_duration() {
    let gateway = Scripted::new(&[]).with_script([Outcome::Never]);
    assert!(gateway.hang_up("POST", "/", &WITH_KEY, &request_for("a")));
    assert_has_metrics(
        &gateway,
        &[
            r#"keyvault_gateway_upstream_calls_total{upstream="identity"} 1"#,
            r#"keyvault_gateway_upstream_duration_seconds_count{upstream="identity"} 0"#,
        ],
    );
}

fn assert_has_metrics(gateway: &Scripted, lines: &[&str]) {
    let text = body_of(&gateway.get("/metrics?code=the-right-key"));
    for line in lines {
        assert!(text.lines().any(|metric| metric == *line), "{line}\n{text}");
    }
}
