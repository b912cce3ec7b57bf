//! The built components under the real `wasmtime serve`, over sockets: what only a real host and real connections show.
//!
//! What the components answer to whatever Azure does is in `embedded`, in virtual time.

mod rig;
mod schemathesis;

use std::io::{BufReader, Write as _};
use std::net::Ipv4Addr;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use keyvault_emulator::{Credential, Effect, Fault, Kind, Source, Upstream};
use tokio::net::TcpSocket;

use dev_host::wait_for;
use rig::{BOTH, JSON, KEY, REQUEST, Rig, SECRET, VALUE, key_field};

/// Load balancers and uptime monitors ask with HEAD.
#[test]
fn every_route_answers_and_head_is_get_without_the_body() {
    let key = key_field();
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[]);
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
            let get = rig.send(&format!("GET {route}"), &fields, b"");
            assert!(get.body.contains(body), "{component} {route} {get:?}");
            let head = rig.send(&format!("HEAD {route}"), &fields, b"");
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
            let answer = rig.send(&format!("POST {path}"), &fields, REQUEST.as_bytes());
            assert_eq!(answer.value(), VALUE, "{component} {path}");
            let head = rig.send(&format!("HEAD {path}"), &[&key], b"");
            let seen = (head.status, head.field("allow"), head.body.as_str());
            assert_eq!(seen, (405, "POST", ""), "{component} {path}");
        }
        let (calls, large) = (rig.calls(), format!("x: {}", "x".repeat(33 * 1024)));
        for (fields, body, error) in [
            (vec![JSON, "x-functions-key: wrong"], REQUEST, (401, "Unauthorized")),
            (vec![JSON, &key, "Via: 1.1 proxy"], REQUEST, (403, "Forbidden")),
            (vec![JSON, &key], "{}", (400, "BadRequest")),
            (vec![JSON, &key, &large], REQUEST, (431, "RequestHeaderFieldsTooLarge")),
        ] {
            let answer = rig.send("POST /", &fields, body.as_bytes());
            assert_eq!(answer.error(), (error.0, error.1.to_owned()), "{component} {body}");
        }
        assert_eq!(rig.calls(), calls, "{component}");
        // The connection is as good as before: what comes next on it is the next answer.
        let next = "HEAD /openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n\
                    GET /healthz HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
        let both = rig.send_raw(next.as_bytes());
        assert_eq!(both.status, 200);
        assert!(both.body.starts_with("HTTP/1.1 200"), "{component} {:?}", both.body);
        assert!(both.body.contains(r#"{"status":"ok"}"#), "{component} {:?}", both.body);
    }
}

#[test]
fn every_source_gives_a_token() {
    for component in BOTH {
        for (name, source) in Source::ALL {
            let rig = Rig::start(component, source, &[]);
            let answer = rig.ask();
            let value = serde_json::to_string(VALUE).unwrap();
            assert_eq!(
                answer.body,
                format!(r#"{{"Secret":"{SECRET}","Value":{value}}}"#),
                "{component}: {name}"
            );
            assert_eq!(answer.field("cache-status"), "keyvault-gateway; fwd=miss", "{component}: {name}");
            let [call] = rig.emulator.token_calls().try_into().unwrap();
            assert_eq!((call.kind, call.credential), (Kind::Token(source), Credential::Right));
            assert_eq!(rig.calls(), (1, 1), "{component}: {name}");
        }
    }
}

#[test]
fn bodies_come_in_chunks_never_end_or_are_hung_up_on() {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{JSON}\r\n{}\r\n", key_field());
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_DEADLINE_SECONDS", "4")]);
        // What an attacker sends to have two parties see two bodies (RFC 9112, section 11.2).
        let chunks = [chunk(REQUEST), chunk(", and more"), chunk("")].concat();
        let length = format!("Content-Length: {}\r\n", REQUEST.len());
        for fields in [
            format!("{length}Transfer-Encoding: chunked\r\n\r\n"),
            format!("Transfer-Encoding: chunked\r\n{length}\r\n"),
        ] {
            let answer = rig.send_raw([head.as_str(), &fields, &chunks].concat().as_bytes());
            assert_eq!(answer.error(), (400, "BadRequest".to_owned()), "{component}: {fields}");
        }
        let mut stream = rig.connect();
        stream.write_all(format!("{head}Content-Length: 100\r\n\r\n{{\"Secret\":").as_bytes()).unwrap();
        assert_eq!(rig.read(stream).error(), (504, "Timeout".to_owned()), "{component}");
        for cut in [10, 60, 140] {
            let request = format!("{head}Content-Length: 100\r\n\r\n{REQUEST}");
            rig.connect().write_all(&request.as_bytes()[..cut]).unwrap();
        }
        assert_eq!(rig.calls(), (0, 0), "{component}");
        for (size, status) in [(9000, 413), (10, 200)] {
            let body = format!("{{\"Secret\":\"{SECRET}\",\"x\":\"{}\"}}", "x".repeat(size));
            let request = [&head, "Transfer-Encoding: chunked\r\n\r\n", &chunk(&body), &chunk("")].concat();
            assert_eq!(rig.send_raw(request.as_bytes()).status, status, "{component}: {size}");
        }
    }
}

#[test]
fn an_azure_that_hangs_or_is_gone_costs_no_more_than_the_deadline() {
    // An address that is taken and does not listen.
    let taken = TcpSocket::new_v4().unwrap();
    taken.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let gone = format!("http://{}/", taken.local_addr().unwrap());
    for component in BOTH {
        // The first call to the vault has half of it; a machine that needs almost the other half for all that comes before is
        // told of the vault, and not of the time.
        let settings = [("GATEWAY_DEADLINE_SECONDS", "4")];
        let without_memory = ["--max-instance-reuse-count", "1"];
        let rig = Rig::start_with(component, Source::AppService2019, &settings, &without_memory);
        for effect in [Effect::HangBeforeHeaders, Effect::HangWithinBody] {
            let start = Instant::now();
            rig.emulator.fault(Fault::new(Upstream::Vault, effect));
            assert_eq!(rig.ask().error(), (504, "Timeout".to_owned()), "{component}");
            assert!(start.elapsed() < Duration::from_secs(15), "{component}: {:?}", start.elapsed());
            rig.emulator.clear_faults();
            assert_eq!(rig.ask().value(), VALUE, "{component}");
        }
        let rig = Rig::start(component, Source::AppService2017, &[("KeyVaultUri", &gone)]);
        let answer = rig.ask();
        assert_eq!(answer.error(), (503, "Unavailable".to_owned()), "{component}");
        assert_eq!((answer.field("retry-after"), rig.calls()), ("1", (1, 0)));
    }
}

#[test]
fn without_a_key_a_foreign_name_or_site_gets_nothing() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2017, &[("GATEWAY_KEY", "")]);
        assert_eq!(rig.ask().error(), (401, "Unauthorized".to_owned()), "{component}");
        let open = [("GATEWAY_KEY", ""), ("GATEWAY_ALLOW_ANONYMOUS", "true")];
        let rig = Rig::start(component, Source::AppService2017, &open);
        // Stock `wasmtime serve` does not tell a component of WASI 0.3 the authority.
        let foreign_host = if component == "proxy" { 403 } else { 200 };
        for (fields, status) in [
            (&["Host: localhost:8080"][..], 200),
            (&["Host: localhost", "Origin: http://127.0.0.1:3000"], 200),
            (&["Host: localhost", "Origin: http://attacker.example"], 403),
            (&["Host: attacker.example"], foreign_host),
        ] {
            let fields = [&["Content-Type: application/json"], fields].concat();
            let answer = rig.send("POST /", &fields, REQUEST.as_bytes());
            assert_eq!(answer.status, status, "{component} {fields:?}");
        }
    }
}

#[test]
fn ten_thousand_warm_reads_cost_one_token_and_one_vault_call_in_an_instance() {
    for component in BOTH {
        let rig = Rig::start(component, Source::AppService2019, &[]);
        at_once(CONNECTIONS, || {
            let mut connection = BufReader::new(rig.connect());
            for _ in 0..READS.div_ceil(CONNECTIONS) {
                assert_eq!(rig.ask_on(&mut connection).value(), VALUE);
            }
        });
        let instances = assert_calls_by_instance(&rig, 0, 1);
        // Under 0.2 there is an instance for each request that is under way, and one is free only when its guest has returned,
        // which is after the answer: a client may ask again before.
        assert!(instances <= 2 * CONNECTIONS, "{component}: {instances}");
    }
}

#[test]
fn a_leader_that_hangs_up_while_others_wait_for_its_call_harms_none_of_them() {
    let rig = Rig::start("service", Source::AppService2019, &[]);
    rig.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(2)));
    let leader = rig.begin(REQUEST);
    wait_for("the leader's call", || (rig.calls().1 == 1).then_some(()));
    // An instance takes another request only when it has nothing to do but wait.
    let begin = |_| {
        sleep(Duration::from_millis(20));
        rig.begin(REQUEST)
    };
    let waiters: Vec<_> = (0..8).map(begin).collect();
    sleep(Duration::from_millis(20));
    drop(leader);
    let answers: Vec<_> = waiters.into_iter().map(|waiter| rig.read(waiter)).collect();
    assert!(answers.iter().all(|answer| answer.value() == VALUE));
    assert!(answers.iter().any(|answer| answer.field("cache-status").contains("collapsed")), "{answers:?}");
    // Where the host ends the leader with its client, one of the waiters makes a call of its own; and if they have all gone to
    // other instances, the leader's ends without a line.
    assert_calls_by_instance(&rig, 1, 2);
}

/// Checks that each instance made at most one call for a token and `most` to the vault, and returns how many instances there
/// are. So many may have answered no request; the line of an instance's last request may come a moment after its answer.
#[track_caller]
fn assert_calls_by_instance(rig: &Rig, silent: usize, most: usize) -> usize {
    wait_for("an instance for each call", || {
        let (instances, (tokens, secrets)) = (rig.instances() + silent, rig.calls());
        (tokens <= instances && secrets <= most * instances).then_some(())
    });
    rig.instances()
}

/// Does something many times at once.
fn at_once(times: usize, work: impl Fn() + Sync) {
    scope(|scope| (0..times).for_each(|_| drop(scope.spawn(&work))));
}

const READS: usize = 10_000;

const CONNECTIONS: usize = 32;
