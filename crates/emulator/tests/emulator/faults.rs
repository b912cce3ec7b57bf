//! Faults, and the journal that tells of them.

use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use keyvault_emulator::{
    Answer, Credential, Cut, Effect, Emulator, Fault, Kind, Refusal, Source, TokenRefusal, Upstream, facts,
};
use serde_json::{Value, json};

use crate::asking::{Heard, ask, token, vault};

const READ: &str = "GET /secrets/db-password?api-version=7.4";

fn seeded() -> Emulator {
    let emulator = Emulator::new();
    emulator.set_secret("db-password", "correct horse").expect("a valid name");
    emulator
}

/// What a read is answered when the vault does this.
async fn under(effect: Effect) -> Heard {
    let emulator = seeded();
    emulator.fault(Fault::new(Upstream::Vault, effect));
    vault(&emulator, READ, "").await
}

#[tokio::test]
async fn every_refusal_has_its_status_and_its_codes() {
    for (refusal, status, code, inner) in [
        (Refusal::InvalidName, 400, "BadParameter", ""),
        (Refusal::MissingToken, 401, "Unauthorized", ""),
        (Refusal::InvalidAudience, 401, "Unauthorized", ""),
        (Refusal::InvalidIssuer, 401, "Unauthorized", ""),
        (Refusal::UnresolvedKey, 401, "Unauthorized", ""),
        (Refusal::ExpiredToken, 401, "Unauthorized", ""),
        (Refusal::InsufficientClaims, 401, "Unauthorized", ""),
        (Refusal::AccessDenied, 403, "Forbidden", "AccessDenied"),
        (Refusal::ForbiddenByRbac, 403, "Forbidden", "ForbiddenByRbac"),
        (Refusal::ForbiddenByFirewall, 403, "Forbidden", "ForbiddenByFirewall"),
        (Refusal::ForbiddenByConnection, 403, "Forbidden", "ForbiddenByConnection"),
        (Refusal::ForbiddenByPolicy, 403, "Forbidden", "ForbiddenByPolicy"),
        (Refusal::SecretDisabled, 403, "Forbidden", "SecretDisabled"),
        (Refusal::SecretNotFound, 404, "SecretNotFound", ""),
        (Refusal::MethodNotAllowed, 405, "MethodNotAllowed", ""),
        (Refusal::DeletedButRecoverable, 409, "Conflict", "ObjectIsDeletedButRecoverable"),
        (Refusal::Throttled, 429, "Throttled", ""),
        (Refusal::InternalError, 500, "InternalServerError", ""),
        (Refusal::Unavailable, 503, "ServiceUnavailable", ""),
    ] {
        let heard = under(Effect::Refuse(refusal)).await;
        let (found, text, deeper, _) = heard.refusal();
        assert_eq!((found, text.as_str(), deeper.as_str()), (status, code, inner), "{refusal:?}");
        assert_eq!(heard.header("www-authenticate").is_some(), status == 401, "{refusal:?}");
        assert_eq!(heard.header("retry-after"), None, "{refusal:?}");
    }
    let claims = under(Effect::Refuse(Refusal::InsufficientClaims)).await;
    let challenge = claims.header("www-authenticate").expect("a challenge");
    assert!(challenge.contains("error=\"insufficient_claims\""), "{challenge}");
}

#[tokio::test]
async fn refusals_are_full_of_what_nobody_may_see() {
    let mut texts = String::new();
    for refusal in [Refusal::AccessDenied, Refusal::ForbiddenByRbac, Refusal::ForbiddenByFirewall] {
        texts += &under(Effect::Refuse(refusal)).await.refusal().3;
    }
    for fact in facts::ALL {
        assert!(texts.contains(fact), "{fact}");
    }
}

#[tokio::test]
async fn a_token_endpoint_fails_in_its_own_words() {
    let imds = "GET http://169.254.169.254/metadata/identity/oauth2/token";
    let app_service = "GET http://127.0.0.1/msi/token";
    let older = "GET http://127.0.0.1/msi/token?api-version=2017-09-01";
    let shell = "POST http://127.0.0.1/oauth2/token";
    let entra = "POST https://login.microsoftonline.com/t/oauth2/v2.0/token";
    for (line, status, part) in [
        (imds, 400, "Identity not found"),
        (imds, 404, "error_description"),
        (imds, 410, "error_description"),
        (imds, 429, "error_description"),
        (imds, 500, r#""error":"unknown""#),
        (app_service, 400, "No User Assigned or Delegated Managed Identity found"),
        (app_service, 500, "An unexpected error occured while fetching the AAD Token."),
        (app_service, 503, "correlationId"),
        (older, 400, "No MSI found for specified ClientId/ResourceId."),
        (older, 500, "CorrelationId"),
        (shell, 500, r#""code":"InternalServerError""#),
        (entra, 400, "AADSTS700016"),
        (entra, 401, "AADSTS7000215"),
        (entra, 503, "temporarily_unavailable"),
    ] {
        let emulator = Emulator::new();
        let status = http::StatusCode::from_u16(status).expect("a status");
        emulator.fault(Fault::new(Upstream::Token, Effect::Status(status)));
        let heard = ask(&emulator, line, &[], "").await.expect("an answer");
        let text = String::from_utf8_lossy(&heard.body);
        assert!(heard.status == status && text.contains(part), "{line} {status}: {} {text}", heard.status);
    }
}

#[tokio::test]
async fn every_other_request_is_befallen() {
    let emulator = Emulator::new();
    emulator.fault(Fault::new(Upstream::Token, Effect::Status(http::StatusCode::IM_A_TEAPOT)).every(2));
    let mut seen = Vec::new();
    for _ in 0..5 {
        let heard =
            ask(&emulator, "GET http://169.254.169.254/metadata/identity/oauth2/token", &[], "").await;
        seen.push(heard.expect("an answer").status.as_u16() == 418);
    }
    assert_eq!(seen, [true, false, true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_fault_may_end_by_itself() {
    let emulator = Emulator::new();
    let late = Fault::new(Upstream::Token, Effect::CutBeforeHeaders).lasting(Duration::from_secs(5));
    emulator.fault(late);
    for (wait, cut) in [(0, true), (4999, true), (1, false)] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let heard =
            ask(&emulator, "GET http://169.254.169.254/metadata/identity/oauth2/token", &[], "").await;
        assert_eq!(heard.is_err(), cut, "{wait}");
    }
}

#[tokio::test]
async fn a_token_source_refuses_in_the_words_that_were_met() {
    for refusal in TokenRefusal::ALL {
        let emulator = Emulator::new();
        emulator.fault(Fault::new(Upstream::Token, Effect::RefuseToken(refusal)));
        let line = "GET http://169.254.169.254/metadata/identity/oauth2/token";
        let heard = ask(&emulator, line, &[], "").await.expect("an answer");
        assert!((400..=404).contains(&heard.status.as_u16()) && heard.body.len() > 20, "{refusal:?}");
        let name = format!("{refusal:?}");
        if let Some(number) = name.strip_prefix("Aadsts") {
            let body: Value = serde_json::from_slice(&heard.body).expect("JSON");
            assert_eq!(body["error_codes"][0].to_string(), number);
        }
    }
}

#[tokio::test]
async fn a_byte_order_mark_stands_before_the_true_answer() {
    let (plain, marked) = (under(Effect::Truth).await, under(Effect::ByteOrderMark).await);
    assert_eq!(marked.body.len(), plain.body.len() + 3);
    assert!(marked.body.starts_with(b"\xEF\xBB\xBF{"), "{:?}", marked.body);
}

#[tokio::test]
async fn a_status_without_documented_words_has_none() {
    let heard = under(Effect::Status(http::StatusCode::BAD_GATEWAY)).await;
    assert_eq!((heard.status.as_u16(), heard.body.as_ref()), (502, &b""[..]));
}

#[tokio::test]
async fn bodies_are_spoiled_as_wished() {
    let whole = under(Effect::Truth).await.body;
    let cases = [
        (Effect::EmptyBody, ""),
        (Effect::BrokenJson, "{\"value\": \"half\", \"id\": }"),
        (Effect::TruncatedJson, std::str::from_utf8(&whole[..whole.len() / 2]).expect("text")),
    ];
    for (effect, expected) in cases {
        let heard = under(effect.clone()).await;
        // Each emulator names its version otherwise; the start is the same.
        let start = &expected[..expected.len().min(20)];
        assert!(heard.status.as_u16() == 200 && heard.body.starts_with(start.as_bytes()), "{effect:?}");
        assert_eq!(heard.body.len(), expected.len(), "{effect:?}");
        assert_eq!(serde_json::from_slice::<Value>(&heard.body).ok(), None, "{effect:?}");
    }
    let page = under(Effect::PlainText).await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, Some("text/html")));

    let huge = under(Effect::HugeBody(100_000)).await;
    assert_eq!((huge.body.len(), huge.header("content-length")), (100_000, Some("100000")));
    assert!(huge.json()["value"].is_string());
    let chunked = under(Effect::HugeChunkedBody(100_000)).await;
    assert_eq!((chunked.body.len(), chunked.header("content-length")), (100_000, None));

    let redirect = under(Effect::Redirect(http::HeaderValue::from_static("http://127.0.0.1:1/"))).await;
    assert_eq!((redirect.status.as_u16(), redirect.header("location")), (307, Some("http://127.0.0.1:1/")));

    let headers = http::HeaderMap::from_iter([(
        http::HeaderName::from_static("x-a"),
        http::HeaderValue::from_static("b"),
    )]);
    let answer = Answer { status: http::StatusCode::IM_A_TEAPOT, headers, body: "short".to_owned() };
    let heard = under(Effect::Answer(answer)).await;
    assert_eq!(
        (heard.status.as_u16(), heard.header("x-a"), heard.body.as_ref()),
        (418, Some("b"), &b"short"[..])
    );
}

#[tokio::test]
async fn a_fault_befalls_only_its_requests_and_only_so_often() {
    let emulator = seeded();
    emulator.set_secret("other", "1").expect("a valid name");
    emulator.fault(Fault::refuse(Refusal::Throttled).secret("DB-password").times(2).retry_after("7"));
    for (line, status, retry_after) in [
        ("GET /secrets/other?api-version=7.4", 200, None),
        (READ, 429, Some("7")),
        (READ, 429, Some("7")),
        (READ, 200, None),
    ] {
        let heard = vault(&emulator, line, "").await;
        assert_eq!((heard.status.as_u16(), heard.header("retry-after")), (status, retry_after), "{line}");
    }
    emulator.fault(Fault::new(Upstream::Vault, Effect::Status(http::StatusCode::SERVICE_UNAVAILABLE)));
    assert_eq!(vault(&emulator, READ, "").await.status.as_u16(), 503);
    emulator.clear_faults();
    assert_eq!(vault(&emulator, READ, "").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_fault_that_nothing_can_meet_is_not_taken() {
    let elsewhere = [(Upstream::Token, "token"), (Upstream::SigningKeys, "signing_keys")];
    let refuses = "this fault befalls nothing: `refuse` is for a vault only, `status` for every upstream";
    let secret = "this fault befalls nothing: only a request to a vault is for a secret";
    let mut cases = vec![
        (
            Fault::refuse(Refusal::Throttled).secret("a_b"),
            json!({"secret": "a_b"}),
            "this fault befalls nothing: a secret's name is 1 to 127 letters, digits and hyphens",
        ),
        (
            Fault::new(Upstream::Any, Effect::Truth).times(0),
            json!({"times": 0}),
            "this fault befalls nothing: it is for 0 requests",
        ),
    ];
    for (upstream, name) in elsewhere {
        let refused = Fault::new(upstream, Effect::Refuse(Refusal::Throttled));
        cases.push((refused, json!({"upstream": name, "effect": {"refuse": "throttled"}}), refuses));
        let for_a_secret = Fault::new(upstream, Effect::BrokenJson).secret("a");
        cases.push((for_a_secret, json!({"upstream": name, "secret": "a", "effect": "broken_json"}), secret));
    }
    for (fault, written, sentence) in cases {
        let emulator = seeded();
        let adding = emulator.clone();
        let panic = std::panic::catch_unwind(move || adding.fault(fault)).expect_err("it is not taken");
        assert_eq!(panic.downcast_ref::<String>().map(String::as_str), Some(sentence), "{written}");

        let line = "POST http://127.0.0.1/emulator/faults";
        let heard = ask(&emulator, line, &[], &written.to_string()).await.expect("an answer");
        assert_eq!((heard.status.as_u16(), heard.json()), (400, json!({"error": sentence})), "{written}");

        // Nothing has come of it.
        assert_eq!(vault(&emulator, READ, "").await.status.as_u16(), 200, "{written}");
    }
    // Any upstream has vaults among them.
    let emulator = seeded();
    emulator.fault(Fault::new(Upstream::Any, Effect::Refuse(Refusal::Throttled)).secret("db-password"));
    assert_eq!(vault(&emulator, READ, "").await.status.as_u16(), 429);
}

#[tokio::test(start_paused = true)]
async fn a_connection_fails_in_process_as_on_a_socket() {
    let emulator = seeded();
    let line = "GET http://127.0.0.1/secrets/db-password?api-version=7.4";

    emulator.fault(Fault::new(Upstream::Vault, Effect::CutBeforeHeaders).times(1));
    assert_eq!(ask(&emulator, line, &[], "").await.err(), Some(Cut));

    emulator.fault(Fault::new(Upstream::Vault, Effect::CutWithinBody).times(1));
    assert_eq!(ask(&emulator, line, &[], "").await.err(), Some(Cut));

    emulator.fault(Fault::new(Upstream::Vault, Effect::HangBeforeHeaders).times(1));
    // Virtual time: it passes when nothing else can happen.
    let patience = Duration::from_secs(3_600);
    assert!(tokio::time::timeout(patience, ask(&emulator, line, &[], "")).await.is_err());

    emulator.fault(Fault::new(Upstream::Vault, Effect::HangWithinBody).times(1));
    let request = http::Request::get("http://127.0.0.1/secrets/a").body(String::new()).expect("a request");
    let mut body = emulator.answer(request).await.expect("an answer").into_body();
    let half = body.frame().await.expect("a frame").expect("half a body").into_data().expect("data");
    assert!(half.starts_with(b"{\"error\":{"));
    assert!(tokio::time::timeout(patience, body.frame()).await.is_err());

    let statuses: Vec<_> = emulator.journal().into_iter().map(|it| (it.fault, it.status)).collect();
    let expected = [
        (Some("cut_before_headers"), None),
        (Some("cut_within_body"), Some(401)),
        (Some("hang_before_headers"), None),
        (Some("hang_within_body"), Some(401)),
    ];
    assert_eq!(statuses, expected);
}

#[tokio::test(start_paused = true)]
async fn a_delay_comes_first() {
    let emulator = seeded();
    emulator.fault(Fault::new(Upstream::Token, Effect::Truth).delay(Duration::from_secs(30)));
    let (wall, virtual_start) = (Instant::now(), tokio::time::Instant::now());
    token(&emulator, "https://vault.azure.net").await;
    assert_eq!(virtual_start.elapsed(), Duration::from_secs(30));
    assert!(wall.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn the_journal_tells_what_was_asked_and_no_secret() {
    let emulator = seeded();
    let token = token(&emulator, "https://vault.azure.net").await;
    let bearer = format!("Bearer {token}");
    let line = "GET https://demo.vault.azure.net/secrets/db-password/?api-version=7.4&code=hush";
    let headers = [("authorization", bearer.as_str()), ("traceparent", "00-1-2-01"), ("tracestate", "a=b")];
    ask(&emulator, line, &headers, "").await.expect("an answer");
    ask(&emulator, line, &[("authorization", "Bearer guess")], "").await.expect("an answer");

    let tokens = emulator.token_calls();
    let call = &tokens[0];
    assert_eq!((call.kind, call.credential), (Kind::Token(Source::AppService2019), Credential::Right));
    assert_eq!(call.audience.as_deref(), Some("https://vault.azure.net"));

    let calls = emulator.vault_calls();
    let call = &calls[0];
    assert_eq!((call.kind, call.credential, call.status), (Kind::Vault, Credential::Right, Some(200)));
    assert_eq!((call.authority.as_str(), call.scheme.as_str()), ("demo.vault.azure.net", "https"));
    assert_eq!((call.path.as_str(), call.secret.as_deref()), ("/secrets/db-password/", Some("db-password")));
    assert_eq!((call.traceparent.as_deref(), call.tracestate.as_deref()), (Some("00-1-2-01"), Some("a=b")));
    assert_eq!(call.headers, ["authorization", "traceparent", "tracestate"]);
    let query =
        [("api-version", "7.4"), ("code", "…")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(call.query, query);
    assert_eq!((calls[1].credential, calls[1].status), (Credential::Wrong, Some(401)));

    let text = json!(emulator.journal()).to_string();
    for secret in [token.as_str(), "correct horse", "guess", "hush"] {
        assert!(!text.contains(secret), "{secret}");
    }
    emulator.clear_journal();
    assert_eq!(emulator.journal(), []);
}
