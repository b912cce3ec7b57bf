//! What callers may send, and what they get for it.

use std::io::Write as _;

use keyvault_emulator::Source;

use crate::rig::{BOTH, JSON, KEY, REQUEST, Rig, SECRET, VALUE, key_field};

#[test]
fn the_main_job() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        let answer = rig.ask();
        assert_eq!(answer.status, 200, "{component}: {answer:?}");
        let value = serde_json::to_string(VALUE).unwrap();
        assert_eq!(answer.body, format!(r#"{{"Secret":"{SECRET}","Value":{value}}}"#));
        let version = rig.emulator.set_secret("another", "value").unwrap();
        assert_eq!(version.len(), answer.field("etag").trim_matches('"').len());
        for (name, value) in [
            ("content-type", "application/json; charset=utf-8"),
            ("cache-status", "keyvault-gateway; fwd=miss"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
        ] {
            assert_eq!(answer.field(name), value, "{component}: {name}");
        }
        // On a busy machine a call and its answer may take a second.
        assert!(["0", "1"].contains(&answer.field("age")), "{component}: {answer:?}");
        assert_eq!(rig.calls(), (1, 1), "{component}");
        let paths = ["/", "/api/getkeyvaultsecret", "/api/GetKeyVaultSecret/", &format!("/?code={KEY}")];
        for path in paths {
            let answer = rig.send(&format!("POST {path}"), &[&key_field(), JSON], REQUEST.as_bytes());
            assert_eq!(answer.value(), VALUE, "{component}: {path}");
        }
        let by_query = rig.send(&format!("POST /?code={KEY}"), &[JSON], REQUEST.as_bytes());
        assert_eq!(by_query.value(), VALUE);
    }
}

#[test]
fn the_token_is_kept_where_the_instance_lives_on() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2019, &[("GATEWAY_CACHE_TTL_SECONDS", "0")]);
        for _ in 0..30 {
            assert_eq!(rig.ask().value(), VALUE);
        }
        rig.assert_calls_of_one_instance(component, (1, 30));
        assert!(rig.calls().0 < 30, "{component} lives on");
    }
}

#[test]
fn requests_that_are_refused_cost_azure_nothing() {
    let key = key_field();
    let key = key.as_str();
    let long = format!("{{\"Secret\":\"a\",\"x\":\"{}\"}}", "x".repeat(8 * 1024));
    let large_field = format!("x: {}", "x".repeat(33 * 1024));
    let large_field = large_field.as_str();
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        for (request, fields, body, status, code) in [
            ("POST /", vec![JSON], REQUEST, 401, "Unauthorized"),
            ("POST /", vec![JSON, "x-functions-key: wrong"], REQUEST, 401, "Unauthorized"),
            ("POST /?code=wrong", vec![JSON], REQUEST, 401, "Unauthorized"),
            ("POST /", vec!["x-functions-key: wrong"], "not even JSON", 401, "Unauthorized"),
            ("POST /", vec![JSON, key, "X-Forwarded-For: 10.0.0.1"], REQUEST, 403, "Forbidden"),
            ("POST /", vec![JSON, key, "Via: 1.1 proxy"], REQUEST, 403, "Forbidden"),
            ("POST /", vec![JSON, key], "", 400, "BadRequest"),
            ("POST /", vec![JSON, key], "[]", 400, "BadRequest"),
            ("POST /", vec![JSON, key], "{\"Secret\":", 400, "BadRequest"),
            ("POST /", vec![JSON, key], "{}", 400, "BadRequest"),
            ("POST /", vec![JSON, key], r#"{"Secret":"../keys/a"}"#, 400, "BadRequest"),
            ("POST /", vec![JSON, key], r#"{"Secret":"a","Version":"latest"}"#, 400, "BadRequest"),
            ("POST /", vec![JSON, key], &long, 413, "ContentTooLarge"),
            ("POST /", vec![key], REQUEST, 415, "UnsupportedMediaType"),
            ("POST /", vec![key, "Content-Type: text/plain"], REQUEST, 415, "UnsupportedMediaType"),
            ("POST /", vec![JSON, key, "Content-Encoding: gzip"], REQUEST, 415, "UnsupportedMediaType"),
            ("POST /", vec![JSON, key, large_field], REQUEST, 431, "RequestHeaderFieldsTooLarge"),
            ("GET /", vec![key], "", 405, "MethodNotAllowed"),
            ("PATCH /api/GetKeyVaultSecret", vec![JSON, key], REQUEST, 405, "MethodNotAllowed"),
            ("BREW /", vec![key], "", 405, "MethodNotAllowed"),
            ("POST /healthz", vec![key], "", 405, "MethodNotAllowed"),
            ("POST /secrets/a", vec![JSON, key], REQUEST, 404, "NotFound"),
            ("GET /api", vec![], "", 404, "NotFound"),
            ("GET /metrics", vec![], "", 401, "Unauthorized"),
        ] {
            let answer = rig.send(request, &fields, body.as_bytes());
            assert_eq!(answer.error(), (status, code.to_owned()), "{component}: {request} {body}");
            let allow = if request == "POST /healthz" { "GET, HEAD" } else { "POST" };
            assert_eq!(
                answer.field("allow"),
                if status == 405 { allow } else { "" },
                "{component}: {request}"
            );
        }
        let no_name = rig.send("POST /", &[JSON, key], b"{}");
        assert_eq!(no_name.json()["error"]["message"], "Request does not contain a valid Secret.");
        assert_eq!(rig.calls(), (0, 0), "{component}");
        assert_eq!(rig.ask().value(), VALUE, "{component} still answers");
    }
}

#[test]
fn a_chunked_body_has_the_same_limit() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        for (size, status) in [(10, 200), (9000, 413)] {
            let body = format!("{{\"Secret\":\"{SECRET}\",\"x\":\"{}\"}}", "x".repeat(size));
            let head =
                format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{JSON}\r\n{}\r\n", key_field());
            let chunk = format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            assert_eq!(rig.send_raw((head + &chunk).as_bytes()).status, status, "{component}: {size}");
        }
    }
}

/// What an attacker sends who hopes that two parties see two bodies (RFC 9112, section 11.2).
#[test]
fn a_body_in_chunks_is_not_cut_at_a_length_that_is_announced_as_well() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        let (body, more) = (REQUEST, ", and more");
        let chunks = format!("{:x}\r\n{body}\r\n{:x}\r\n{more}\r\n0\r\n\r\n", body.len(), more.len());
        for fields in [
            format!("Content-Length: {}\r\nTransfer-Encoding: chunked", body.len()),
            format!("Transfer-Encoding: chunked\r\nContent-Length: {}", body.len()),
        ] {
            let head =
                format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{JSON}\r\n{}\r\n", key_field());
            let answer = rig.send_raw(format!("{head}{fields}\r\n\r\n{chunks}").as_bytes());
            assert_eq!(answer.error(), (400, "BadRequest".to_owned()), "{component}: {fields}");
        }
        assert_eq!(rig.calls(), (0, 0), "{component}");
    }
}

#[test]
fn a_body_that_never_ends_is_given_up_at_the_deadline() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_DEADLINE_SECONDS", "1")]);
        let mut stream = rig.connect();
        let head =
            format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{JSON}\r\n{}\r\n", key_field());
        stream.write_all(format!("{head}Content-Length: 100\r\n\r\n{{\"Secret\":").as_bytes()).unwrap();
        assert_eq!(rig.read(stream).error(), (504, "Timeout".to_owned()), "{component}");
        assert_eq!(rig.calls(), (0, 0));
    }
}

#[test]
fn a_client_that_hangs_up_harms_nobody() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        for cut in [10, 60, 140] {
            let head = format!(
                "POST / HTTP/1.1\r\nHost: a\r\n{JSON}\r\n{}\r\nContent-Length: 100\r\n\r\n",
                key_field()
            );
            let request = format!("{head}{REQUEST}");
            rig.connect().write_all(&request.as_bytes()[..cut]).unwrap();
        }
        assert_eq!(rig.ask().value(), VALUE, "{component}");
    }
}

#[test]
fn health_readiness_and_the_description() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        assert_eq!(rig.send("GET /healthz", &[], b"").body, r#"{"status":"ok"}"#);
        assert_eq!(rig.calls(), (0, 0));
        for _ in 0..3 {
            let ready = rig.send("GET /readyz", &[], b"");
            assert_eq!((ready.status, ready.body.as_str()), (200, r#"{"status":"ready"}"#));
        }
        rig.assert_calls_of_one_instance(component, (1, 0));
        let description = rig.send("GET /openapi.json", &[], b"");
        assert_eq!((description.status, description.json()["openapi"].as_str()), (200, Some("3.1.0")));
        rig.ask();
        let metrics = rig.send("GET /metrics", &[&key_field()], b"");
        let vault_calls = "keyvault_gateway_upstream_calls_total{upstream=\"vault\"} ";
        assert!(metrics.body.lines().any(|it| it.starts_with(vault_calls)), "{component}: {}", metrics.body);
    }
}

#[test]
fn named_callers_stay_in_their_scope() {
    // The key of "billing" is "one".
    let callers = r#"[{"name": "billing", "secrets": ["billing-*"], "key_sha256":
        ["7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"]}]"#;
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_CALLERS", callers)]);
        rig.emulator.set_secret("billing-db", "allowed").unwrap();
        let fields = [JSON, "x-functions-key: one"];
        let allowed = rig.send("POST /", &fields, br#"{"Secret":"billing-db"}"#);
        assert_eq!(allowed.value(), "allowed", "{component}");
        let calls = rig.calls();
        for name in [SECRET, "does-not-exist"] {
            let refused = rig.send("POST /", &fields, format!(r#"{{"Secret":"{name}"}}"#).as_bytes());
            assert_eq!(refused.error(), (403, "Forbidden".to_owned()), "{component}");
        }
        assert_eq!(rig.calls(), calls, "{component}");
    }
}

#[test]
fn the_trace_goes_on_to_azure_and_into_the_log() {
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("traceparent: 00-{trace}-b7ad6b7169203331-01");
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
        let fields = [JSON, &key_field(), &parent, "tracestate: vendor=1"];
        assert_eq!(rig.send("POST /", &fields, REQUEST.as_bytes()).value(), VALUE);
        for call in rig.emulator.journal() {
            assert_eq!(call.traceparent.as_deref(), parent.strip_prefix("traceparent: "), "{component}");
            assert_eq!(call.tracestate, None, "{component}");
        }
        let line =
            rig.server.wait_for_line(std::time::Duration::from_secs(10), |it| it.contains(trace)).unwrap();
        let json: serde_json::Value = serde_json::from_str(&line[line.find('{').unwrap()..]).unwrap();
        for (name, value) in [
            ("level", "info".into()),
            ("request", trace.into()),
            ("caller", "key".into()),
            ("secret", SECRET.into()),
            ("status", 200.into()),
            ("code", "OK".into()),
            ("cache", "miss".into()),
            ("upstream", serde_json::Value::from(2)),
        ] {
            assert_eq!(json[name], value, "{component}: {line}");
        }
        assert!(json["ms"].as_f64().unwrap() > 0.0);
        assert!(json["time"].as_str().unwrap().ends_with('Z'));
        assert_eq!(json.as_object().unwrap().len(), 10);
    }
}
