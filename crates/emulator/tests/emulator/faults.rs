//! Faults, control routes, and the journal that tells of both.

use std::time::Duration;

use http_body_util::BodyExt as _;
use keyvault_emulator::{Credential, Cut, Effect, Emulator, Fault, Kind, Source, TokenRefusal, Upstream};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use crate::asking::{Case, ask, token};

const READ: &str = "GET http://127.0.0.1/secrets/db-password?api-version=7.4";

#[tokio::test]
async fn every_effect_is_what_it_says() {
    for (request, upstreams, table) in [
        ("GET /secrets/db-password?$v", &["vault"][..], VAULT),
        ("GET $login/discovery/v2.0/keys", &["signing_keys", "any"], KEYS),
    ] {
        for row in table.lines().filter(|row| !row.is_empty()) {
            for upstream in upstreams {
                let (effect, expected) = row.split_once(" => ").expect("an effect and an answer");
                let fault = format!(r#"{{"upstream":"{upstream}","effect":{effect}}}"#);
                let case = Case::new().await;
                case.holds(&format!("POST $control/faults | {fault} => 204\n{request} => {expected}")).await;
            }
        }
    }
    for refusal in TokenRefusal::ALL {
        let emulator = Emulator::new();
        emulator.fault(Fault::new(Upstream::Token, Effect::RefuseToken(refusal)));
        let heard = ask(&emulator, "GET http://127.0.0.1/msi/token", &[], "").await.expect("an answer");
        assert!((400..=404).contains(&heard.status) && heard.body.len() > 20, "{refusal:?}");
        if let Some(number) = format!("{refusal:?}").strip_prefix("Aadsts") {
            assert_eq!(heard.json()["error_codes"][0].to_string(), number);
        }
    }
}

const VAULT: &str = r#"
{"refuse":"invalid_name"} => 400 | "code":"BadParameter" | !www-authenticate
{"refuse":"missing_token"} => 401 | "code":"Unauthorized" | www-authenticate: Bearer authorization=
{"refuse":"invalid_audience"} => 401 | AKV10022 | www-authenticate: Bearer authorization=
{"refuse":"invalid_issuer"} => 401 | AKV10032 | www-authenticate: Bearer authorization=
{"refuse":"unresolved_key"} => 401 | AKV10046 | www-authenticate: Bearer authorization=
{"refuse":"expired_token"} => 401 | IDX10223 | www-authenticate: Bearer authorization=
{"refuse":"insufficient_claims"} => 401 | "code":"Unauthorized" | error="insufficient_claims", claims=
{"refuse":"access_denied"} => 403 | "innererror":{"code":"AccessDenied"} | "code":"Forbidden"
{"refuse":"forbidden_by_rbac"} => 403 | "innererror":{"code":"ForbiddenByRbac"} | Resource: '/secrets/db-password'
{"refuse":"forbidden_by_firewall"} => 403 | "innererror":{"code":"ForbiddenByFirewall"}
{"refuse":"forbidden_by_connection"} => 403 | "innererror":{"code":"ForbiddenByConnection"}
{"refuse":"forbidden_by_policy"} => 403 | "innererror":{"code":"ForbiddenByPolicy"}
{"refuse":"secret_disabled"} => 403 | "innererror":{"code":"SecretDisabled"}
{"refuse":"secret_not_found"} => 404 | "code":"SecretNotFound" | (name/id) db-password was
{"refuse":"method_not_allowed"} => 405 | "code":"MethodNotAllowed"
{"refuse":"deleted_but_recoverable"} => 409 | "code":"Conflict" | "code":"ObjectIsDeletedButRecoverable"
{"refuse":"throttled"} => 429 | "code":"Throttled" | !retry-after
{"refuse":"internal_error"} => 500 | "code":"InternalServerError"
{"refuse":"unavailable"} => 503 | "code":"ServiceUnavailable"
{"status":503} => 503 | "code":"ServiceUnavailable"
{"status":502} => 502 | bytes: 0
"plain_text" => 200 | content-type: text/html | <html>
"empty_body" => 200 | bytes: 0 | content-type: application/json
"broken_json" => 200 | {"value": "half", "id": }
"truncated_json" => 200 | "attributes" | !correct horse
"byte_order_mark" => 200 | correct horse | !"error"
{"huge_body":100000} => 200 | content-length: 100000 | bytes: 100000
{"huge_chunked_body":100000} => 200 | !content-length | bytes: 100000
{"redirect":"http://127.0.0.1:1/"} => 307 | location: http://127.0.0.1:1/
{"answer":{"status":418,"headers":{"x-a":"b"},"body":"short"}} => 418 | x-a: b | short
"#;

const KEYS: &str = r#"
{"status":400} => 400 | AADSTS90002:
{"status":429} => 429 | temporarily_unavailable
"plain_text" => 200 | <html>
{"huge_chunked_body":100000} => 200 | aaaa
"#;

#[tokio::test]
async fn control_routes_do_what_they_say() {
    let case = Case::new().await;
    case.holds(CONTROL).await;
    let befalls_nothing = "this fault befalls nothing: it is for 0 requests";
    let adding = case.emulator.clone();
    let add = move || adding.fault(Fault::new(Upstream::Any, Effect::Truth).times(0));
    let panic = std::panic::catch_unwind(add).expect_err("it is not taken");
    assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(befalls_nothing));
}

const CONTROL: &str = r#"
POST $control/faults | {"upstream":"vault","secret":"DB-password","times":2,"delay_ms":1,"retry_after":"7",
  "effect":{"refuse":"throttled"}} => 204
GET /secrets/other?$v => 404
GET /secrets/db-password?$v => 429 | retry-after: 7
GET /secrets/db-password?$v => 429 | retry-after: 7
GET /secrets/db-password?$v => 200 | !retry-after
POST $control/faults | {"effect":"hang_before_headers"} => 204
DELETE $control/faults => 204
POST $control/faults | {"upstream":"signing_keys","effect":{"status":503}} => 204
POST $control/faults | {"upstream":"token","effect":{"status":503}} => 204
GET /secrets/db-password?$v => 200
DELETE $control/faults => 204
POST $control/faults | {"upstream":"token","effect":{"status":503}} => 204
POST $control/faults | {"upstream":"any","effect":{"refuse":"throttled"},"secret":"db-password"} => 204
GET $login/discovery/v2.0/keys => 200
GET /secrets/db-password?$v => 429
DELETE $control/faults => 204
POST $control/faults | {"upstream":"vault","every":2,"effect":{"status":418}} => 204
GET /secrets/db-password?$v => 418
GET /secrets/db-password?$v => 200
GET /secrets/db-password?$v => 418
DELETE $control/faults => 204
GET $control/journal => 200 | "kind":{"token":"app-service-2019"}
DELETE $control/journal => 204
GET $control/journal => 200 | bytes: 2

POST $control/faults | {"secret":"a_b"} => 400 | befalls nothing: a secret's name is 1 to 127 letters, digits and hyphens
POST $control/faults | {"times":0} => 400 | "error":"this fault befalls nothing: it is for 0 requests"
POST $control/faults | {"every":0} => 400 | it is for 0 requests
POST $control/faults | {"upstream":"token","effect":{"refuse":"throttled"}} => 400 | `refuse` is for a vault only, `status`
POST $control/faults | {"upstream":"signing_keys","effect":{"refuse":"throttled"}} => 400 | `refuse` is for a vault only
POST $control/faults | {"effect":{"refuse_token":"proxy"}} => 400 | `refuse_token` is for a token source only
POST $control/faults | {"upstream":"token","secret":"a"} => 400 | only a request to a vault is for a secret
POST $control/faults => 400
POST $control/faults | {"effect":"explode"} => 400
POST $control/faults | {"upstream":"vault","time":1} => 400
POST $control/faults | {"effect":{"status":99}} => 400
POST $control/faults | {"effect":{"status":101}} => 400
POST $control/faults | {"retry_after":"a\nb"} => 400
POST $control/faults | {"effect":{"answer":{"status":200,"headers":{"a b":"c"}}}} => 400
PUT $control/settings | {"lifetimes":1} => 400
PUT $control/secrets/a_b | {"value":"a"} => 400
PUT $control/secrets/a | {"enabled":true} => 400
GET $control/secrets => 404
GET $control/faults => 404
GET /secrets/db-password?$v => 200
DELETE $control/tokens => 204
GET /secrets/db-password?$v => 401
"#;

#[tokio::test(start_paused = true)]
async fn a_connection_fails_in_process_as_on_a_socket() {
    let emulator = Emulator::new();
    let fault = |effect| emulator.fault(Fault::new(Upstream::Vault, effect).times(1));
    for effect in [Effect::CutBeforeHeaders, Effect::CutWithinBody] {
        fault(effect);
        assert_eq!(ask(&emulator, READ, &[], "").await.err(), Some(Cut));
    }
    fault(Effect::HangBeforeHeaders);
    // Virtual time: it passes when nothing else can happen.
    let patience = Duration::from_secs(3_600);
    assert!(timeout(patience, ask(&emulator, READ, &[], "")).await.is_err());

    fault(Effect::HangWithinBody);
    let request = http::Request::get("http://127.0.0.1/secrets/a").body(String::new()).expect("a request");
    let mut body = emulator.answer(request).await.expect("an answer").into_body();
    let half = body.frame().await.expect("a frame").expect("half a body").into_data().expect("data");
    assert!(half.starts_with(b"{\"error\":{"));
    assert!(timeout(patience, body.frame()).await.is_err());

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
async fn a_fault_may_wait_first_and_may_end_by_itself() {
    let emulator = Emulator::new();
    emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_secs(30)).times(1));
    let start = Instant::now();
    ask(&emulator, READ, &[], "").await.expect("an answer");
    assert_eq!(start.elapsed(), Duration::from_secs(30));

    emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders).lasting(Duration::from_secs(5)));
    for (wait, cut) in [(0, true), (4999, true), (1, false)] {
        sleep(Duration::from_millis(wait)).await;
        assert_eq!(ask(&emulator, READ, &[], "").await.is_err(), cut, "{wait}");
    }
}

#[tokio::test]
async fn the_journal_tells_what_was_asked_and_no_secret() {
    let emulator = Emulator::new();
    emulator.set_secret("db-password", "correct horse").expect("a valid name");
    let token = token(&emulator, "https://vault.azure.net").await;
    let bearer = format!("Bearer {token}");
    let line = "GET https://demo.vault.azure.net/secrets/db-password/?api-version=7.4&code=hush";
    let headers = [("authorization", bearer.as_str()), ("traceparent", "00-1-2-01"), ("tracestate", "a=b")];
    ask(&emulator, line, &headers, "").await.expect("an answer");
    ask(&emulator, line, &[("authorization", "Bearer guess")], "").await.expect("an answer");

    let call = &emulator.token_calls()[0];
    assert_eq!((call.kind, call.credential), (Kind::Token(Source::AppService2019), Credential::Right));
    assert_eq!(call.audience.as_deref(), Some("https://vault.azure.net"));
    let calls = emulator.vault_calls();
    let expected = json!({
        "number": 1, "kind": "vault", "method": "GET", "scheme": "https", "authority": "demo.vault.azure.net",
        "path": "/secrets/db-password/", "query": [["api-version", "7.4"], ["code", "…"]],
        "headers": ["authorization", "traceparent", "tracestate"], "credential": "right", "audience": null,
        "secret": "db-password", "traceparent": "00-1-2-01", "tracestate": "a=b", "body_length": 0, "fault": null,
        "status": 200,
    });
    assert_eq!(json!(calls[0]), expected);
    assert_eq!((calls[1].credential, calls[1].status), (Credential::Wrong, Some(401)));
    let text = json!(emulator.journal()).to_string();
    assert_eq!([&token, "correct horse", "guess", "hush"].map(|secret| text.contains(secret)), [false; 4]);

    // Entra's keys are public.
    let line = format!(
        "GET https://login.microsoftonline.com/{}/discovery/v2.0/keys",
        keyvault_emulator::facts::TENANT
    );
    ask(&emulator, &line, &[], "").await.expect("an answer");
    let calls = emulator.signing_key_calls();
    let call = (calls.len(), calls[0].kind, calls[0].credential);
    assert_eq!(call, (1, Kind::SigningKeys, Credential::Absent));
    emulator.clear_journal();
    assert_eq!(emulator.journal(), []);
}
