//! Faults, the control routes and the journal.

use std::time::Duration;

use http_body_util::BodyExt as _;
use keyvault_emulator::{Credential, Cut, Effect, Emulator, Fault, Kind, Source, Upstream};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::case::{Case, fetch_token, send};

const READ: &str = "GET http://127.0.0.1/secrets/db-password?api-version=7.4";

#[tokio::test]
async fn each_effect_changes_the_response_as_documented() {
    let (mut upstream, mut request) = ("", "");
    for row in
        include_str!("tables/faults.txt").lines().filter(|row| !row.is_empty() && !row.starts_with('#'))
    {
        if let Some(heading) = row.strip_prefix("@ ") {
            (upstream, request) = heading.split_once(' ').expect("an upstream and a request");
            continue;
        }
        let (effect, expected) = row.split_once(" => ").expect("an effect and an answer");
        let fault = format!(r#"{{"upstream":"{upstream}","effect":{effect}}}"#);
        let rows = format!("POST $control/faults | {fault} => 204\n{request} => {expected}");
        Case::new().await.check(&rows).await;
    }
}

#[tokio::test]
async fn control_routes_do_what_the_methods_do() {
    let case = Case::new().await;
    case.check(include_str!("tables/control.txt")).await;
    let reason = "no request can match this fault: `times` and `every` must be at least 1";
    let emulator = case.emulator.clone();
    let add = move || emulator.fault(Fault::new(Upstream::Any, Effect::Truth).times(0));
    let panic = std::panic::catch_unwind(add).expect_err("the fault is invalid");
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(reason));
}

#[tokio::test(start_paused = true)]
async fn connection_faults_work_in_process() {
    let emulator = Emulator::new();
    let fault = |effect| emulator.fault(Fault::new(Upstream::Vault, effect).times(1));
    for effect in [Effect::CutBeforeHeaders, Effect::CutWithinBody] {
        fault(effect);
        assert_eq!(send(&emulator, READ, &[], "").await.err(), Some(Cut));
    }
    fault(Effect::HangBeforeHeaders);
    // Virtual time advances while all tasks wait.
    let limit = Duration::from_secs(3_600);
    assert!(timeout(limit, send(&emulator, READ, &[], "")).await.is_err());

    fault(Effect::HangWithinBody);
    let request = http::Request::get("http://127.0.0.1/secrets/a").body(String::new()).expect("a request");
    let mut body = emulator.answer(request).await.expect("a response").into_body();
    let half = body.frame().await.expect("a frame").expect("half a body").into_data().expect("data");
    assert!(half.starts_with(b"{\"error\":{"));
    assert!(timeout(limit, body.frame()).await.is_err());

    let statuses: Vec<_> = emulator.journal().into_iter().map(|call| (call.fault, call.status)).collect();
    let expected = [
        (Some("cut_before_headers"), None),
        (Some("cut_within_body"), Some(401)),
        (Some("hang_before_headers"), None),
        (Some("hang_within_body"), Some(401)),
    ];
    assert_eq!(statuses, expected);
}

#[tokio::test(start_paused = true)]
async fn a_fault_can_delay_and_expire() {
    let emulator = Emulator::new();
    emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(30)).times(1));
    let start = Instant::now();
    send(&emulator, READ, &[], "").await.expect("a response");
    assert_eq!(start.elapsed(), Duration::from_secs(30));

    emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders).lasting(Duration::from_secs(5)));
    for (wait, cut) in [(0, true), (4999, true), (1, false)] {
        sleep(Duration::from_millis(wait)).await;
        assert_eq!(send(&emulator, READ, &[], "").await.is_err(), cut, "{wait}");
    }
}

#[tokio::test]
async fn journal_records_requests_without_secrets() {
    let emulator = Emulator::new();
    emulator.set_secret("db-password", "correct horse").expect("a valid name");
    let token = fetch_token(&emulator, "https://vault.azure.net").await;
    let bearer = format!("Bearer {token}");
    let line = "GET https://demo.vault.azure.net/secrets/db-password/?api-version=7.4&code=hush";
    let headers = [("authorization", bearer.as_str()), ("traceparent", "00-1-2-01"), ("tracestate", "a=b")];
    send(&emulator, line, &headers, "").await.expect("a response");
    send(&emulator, line, &[("authorization", "Bearer guess")], "").await.expect("a response");

    let call = &emulator.token_calls()[0];
    assert_eq!((call.kind, call.credential), (Kind::Token(Source::AppService2019), Credential::Right));
    assert_eq!(call.audience.as_deref(), Some("https://vault.azure.net"));
    let calls = emulator.vault_calls();
    let expected = json!({
        "number": 1, "kind": "vault", "method": "GET", "scheme": "https", "authority": "demo.vault.azure.net",
        "path": "/secrets/db-password/", "query": [["api-version", "7.4"], ["code", "…"]],
        "headers": ["authorization", "traceparent", "tracestate"], "credential": "right", "audience": null,
        "secret": "db-password", "traceparent": "00-1-2-01", "tracestate": "a=b", "body_length": 0,
        "fault": null, "status": 200,
    });
    assert_eq!(json!(calls[0]), expected);
    assert_eq!((calls[1].credential, calls[1].status), (Credential::Wrong, Some(401)));
    let text = json!(emulator.journal()).to_string();
    assert_eq!([&token, "correct horse", "guess", "hush"].map(|secret| text.contains(secret)), [false; 4]);

    // The JWKS requires no credential.
    let line = "GET http://127.0.0.1/tenant/discovery/v2.0/keys";
    send(&emulator, line, &[], "").await.expect("a response");
    let last = emulator.journal().pop().map(|call| (call.kind, call.credential));
    assert_eq!(last, Some((Kind::SigningKeys, Credential::Absent)));
    emulator.clear_journal();
    assert_eq!(emulator.journal(), []);
}
