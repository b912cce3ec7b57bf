//! The built components under the real `wasmtime serve` and the gateway's own host, over real sockets.
//!
//! Azure's faults are tested in `embedded`, in virtual time. Each token source is in one of the tests here.

mod clients;
mod composed;
mod federated;
mod harness;
mod own_host;
mod platform_tokens;
mod schemathesis;
mod volume;

use std::io::{BufReader, Write as _};
use std::net::Ipv4Addr;
use std::thread::scope;
use std::time::{Duration, Instant};

use keyvault_emulator::{Effect, Fault, Source, Upstream};
use tokio::net::TcpSocket;

use dev_host::wait_for;
use harness::{ALL, Harness, JSON, KEY, REQUEST, SECRET, VALUE, key_field, request_bytes};

/// Load balancers and uptime monitors send HEAD requests.
#[test]
fn every_route_responds_and_head_has_no_body() {
    let key = key_field();
    for component in ALL {
        let harness = Harness::start(component, Source::ClientSecret, &[]);
        for (route, fields, status, body) in [
            ("/healthz", vec![], 200, r#"{"status":"ok"}"#),
            ("/readyz", vec![], 200, r#"{"status":"ready"}"#),
            ("/openapi.json", vec![], 200, r#""openapi":"#),
            (
                "/metrics",
                vec![key.as_str()],
                200,
                "keyvault_gateway_upstream_calls_total{upstream=\"vault\"} ",
            ),
            ("/metrics", vec![], 401, "Unauthorized"),
            ("/nothing", vec![], 404, "NotFound"),
        ] {
            let get = harness.send(&format!("GET {route}"), &fields, b"");
            assert!(get.body.contains(body), "{component} {route} {get:?}");
            let head = harness.send(&format!("HEAD {route}"), &fields, b"");
            assert_eq!(
                (get.status, head.status, head.body.as_str()),
                (status, status, ""),
                "{component} {route}"
            );
            for field in ["content-type", "cache-control", "x-content-type-options", "www-authenticate"] {
                assert_eq!(head.field(field), get.field(field), "{component} {route} {field}");
            }
        }
        for path in ["/", "/api/GetKeyVaultSecret", "/api/getkeyvaultsecret/", &format!("/?code={KEY}")] {
            let fields = if path.contains('?') { vec![JSON] } else { vec![&key, JSON] };
            let response = harness.send(&format!("POST {path}"), &fields, REQUEST.as_bytes());
            assert_eq!(response.value(), VALUE, "{component} {path}");
            let head = harness.send(&format!("HEAD {path}"), &[&key], b"");
            let seen = (head.status, head.field("allow"), head.body.as_str());
            assert_eq!(seen, (405, "POST", ""), "{component} {path}");
        }
        let (calls, large) = (harness.calls(), format!("x: {}", "x".repeat(33 * 1024)));
        for (fields, body, error) in [
            (vec![JSON, "x-functions-key: wrong"], REQUEST, (401, "Unauthorized")),
            (vec![JSON, &key, "Via: 1.1 proxy"], REQUEST, (403, "Forbidden")),
            (vec![JSON, &key], "{}", (400, "BadRequest")),
            (vec![JSON, &key, &large], REQUEST, (431, "RequestHeaderFieldsTooLarge")),
        ] {
            let response = harness.send("POST /", &fields, body.as_bytes());
            assert_eq!(response.error(), (error.0, error.1.to_owned()), "{component} {body}");
        }
        assert_eq!(harness.calls(), calls, "{component}");
        // The connection stays usable: the next request on it gets its own response.
        let next = "HEAD /openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n\
                    GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
        let both = harness.send_raw(next.as_bytes());
        assert_eq!(both.status, 200);
        assert!(both.body.starts_with("HTTP/1.1 200"), "{component} {:?}", both.body);
        assert!(both.body.contains(r#"{"status":"ok"}"#), "{component} {:?}", both.body);
    }
}

#[test]
fn chunked_bodies_are_read_and_incomplete_ones_time_out() {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{JSON}\r\n{}\r\n", key_field());
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    for component in ALL {
        let harness = Harness::start(component, Source::CloudShell, &[("GATEWAY_DEADLINE_SECONDS", "4")]);
        // Request smuggling: two servers would see two different bodies (RFC 9112, section 11.2).
        let chunks = [chunk(REQUEST), chunk(", and more"), chunk("")].concat();
        let length = format!("Content-Length: {}\r\n", REQUEST.len());
        for fields in [
            format!("{length}Transfer-Encoding: chunked\r\n\r\n"),
            format!("Transfer-Encoding: chunked\r\n{length}\r\n"),
        ] {
            let response = harness.send_raw([head.as_str(), &fields, &chunks].concat().as_bytes());
            assert_eq!(response.error(), (400, "BadRequest".to_owned()), "{component}: {fields}");
        }
        let mut stream = harness.connect();
        stream.write_all(format!("{head}Content-Length: 100\r\n\r\n{{\"Secret\":").as_bytes()).unwrap();
        assert_eq!(harness.read(stream).error(), (504, "Timeout".to_owned()), "{component}");
        for cut in [10, 60, 140] {
            let request = format!("{head}Content-Length: 100\r\n\r\n{REQUEST}");
            harness.connect().write_all(&request.as_bytes()[..cut]).unwrap();
        }
        assert_eq!(harness.calls(), (0, 0), "{component}");
        for (size, status) in [(9000, 413), (10, 200)] {
            let body = format!("{{\"Secret\":\"{SECRET}\",\"x\":\"{}\"}}", "x".repeat(size));
            let request = [&head, "Transfer-Encoding: chunked\r\n\r\n", &chunk(&body), &chunk("")].concat();
            assert_eq!(harness.send_raw(request.as_bytes()).status, status, "{component}: {size}");
        }
    }
}

#[test]
fn an_unreachable_azure_ends_within_the_deadline() {
    // A bound port without a listener refuses connections.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let gone = format!("http://{}/", taken.local_addr().unwrap());
    for component in ALL {
        // The first vault call has half of the deadline. A slow machine that needs the other half before it
        // gets an error of the vault instead of a timeout.
        let settings = [("GATEWAY_DEADLINE_SECONDS", "4")];
        for effect in [Effect::HangBeforeHeaders, Effect::HangWithinBody] {
            let harness = Harness::start(component, Source::AppService2019, &settings);
            let start = Instant::now();
            harness.emulator.fault(Fault::new(Upstream::Vault, effect));
            assert_eq!(harness.post().error(), (504, "Timeout".to_owned()), "{component}");
            assert!(start.elapsed() < Duration::from_secs(15), "{component}: {:?}", start.elapsed());
            harness.emulator.clear_faults();
            assert_eq!(harness.post().value(), VALUE, "{component}");
        }
        let harness = Harness::start(component, Source::AppService2017, &[("KeyVaultUri", &gone)]);
        let response = harness.post();
        assert_eq!(response.error(), (503, "Unavailable".to_owned()), "{component}");
        assert_eq!((response.field("retry-after"), harness.calls()), ("1", (1, 0)));
    }
}

#[test]
fn anonymous_requests_need_a_local_host_and_origin() {
    for component in ALL {
        let harness = Harness::start(component, Source::Imds, &[("GATEWAY_KEY", "")]);
        assert_eq!(harness.post().error(), (401, "Unauthorized".to_owned()), "{component}");
        let open = [("GATEWAY_KEY", ""), ("GATEWAY_ALLOW_ANONYMOUS", "true")];
        let harness = Harness::start(component, Source::Imds, &open);
        // Stock `wasmtime serve` does not pass the authority to a component of WASI 0.3.
        let foreign_host = if component == "service" { 200 } else { 403 };
        for (fields, status) in [
            (&["Host: localhost:8080"][..], 200),
            (&["Host: localhost", "Origin: http://127.0.0.1:3000"], 200),
            (&["Host: localhost", "Origin: http://attacker.example"], 403),
            (&["Host: attacker.example"], foreign_host),
        ] {
            let fields = [&["Content-Type: application/json"], fields].concat();
            let response = harness.send("POST /", &fields, REQUEST.as_bytes());
            assert_eq!(response.status, status, "{component} {fields:?}");
        }
    }
}

#[test]
fn an_instance_serves_warm_reads_without_calls() {
    for component in ALL {
        let harness = Harness::start(component, Source::AppService2019, &[]);
        in_parallel(CONNECTIONS, || {
            let mut connection = BufReader::new(harness.connect());
            for _ in 0..READS.div_ceil(CONNECTIONS) {
                assert_eq!(harness.post_on(&mut connection).value(), VALUE);
            }
        });
        let instances = assert_calls_by_instance(&harness);
        // WASI 0.2 has an instance for each concurrent request. It is free only when its guest has returned,
        // which is after the response: the client's next request may start another instance.
        assert!(instances <= 2 * CONNECTIONS, "{component}: {instances}");
    }
}

/// A waiter makes the call of its own if the host cancels the leader with its client. If all waiters are in
/// other instances, the leader's instance logs nothing.
#[test]
fn a_leader_that_disconnects_fails_no_waiter() {
    let harness = Harness::start("service", Source::AppService2019, &[]);
    harness.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(2)));
    let request = request_bytes("POST /", &[&key_field(), JSON], REQUEST.as_bytes());
    let leader = harness.begin(&request);
    wait_for("the leader's call", || (harness.calls().1 == 1).then_some(()));
    let waiters: Vec<_> = (0..8).map(|_| harness.begin(&request)).collect();
    drop(leader);
    assert!(waiters.into_iter().all(|waiter| harness.read(waiter).value() == VALUE));
    let (tokens, secrets) = harness.calls();
    let instances = harness.instances() + 1;
    assert!(tokens <= instances && secrets <= 2 * instances, "{tokens} {secrets} {instances}");
}

/// Checks that each instance made at most one token call and one vault call, and returns the number of
/// instances. An instance's last log line may follow its response.
#[track_caller]
fn assert_calls_by_instance(harness: &Harness) -> usize {
    wait_for("a log line of each instance", || {
        let (instances, (tokens, secrets)) = (harness.instances(), harness.calls());
        (tokens <= instances && secrets <= instances).then_some(())
    });
    harness.instances()
}

/// Runs `work` on several threads at once.
fn in_parallel(times: usize, work: impl Fn() + Sync) {
    scope(|scope| (0..times).for_each(|_| drop(scope.spawn(&work))));
}

const READS: usize = 10_000;

const CONNECTIONS: usize = 32;
