//! The control routes, which do for a process outside what the methods do in process.

use keyvault_emulator::Emulator;
use serde_json::json;

use crate::asking::{ask, token, vault};

const READ: &str = "GET /secrets/db-password?api-version=7.4";

async fn control(emulator: &Emulator, line: &str, body: &str) -> (u16, String) {
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let line = format!("{method} http://127.0.0.1:8080/emulator/{path}");
    let heard = ask(emulator, &line, &[], body).await.expect("an answer");
    (heard.status.as_u16(), String::from_utf8(heard.body.to_vec()).expect("the answer is text"))
}

#[tokio::test]
async fn a_secret_is_set_rotated_and_disabled() {
    let emulator = Emulator::new();
    let mut versions = Vec::new();
    for (body, status, value) in [
        (r#"{"value":"one"}"#, 200, Some("one")),
        (r#"{"value":"two"}"#, 200, Some("two")),
        (r#"{"enabled":false}"#, 403, None),
        (r#"{"enabled":true}"#, 200, Some("two")),
    ] {
        let (found, text) = control(&emulator, "PUT secrets/db-password", body).await;
        assert_eq!(found, 200, "{body}: {text}");
        versions.push(text);
        let heard = vault(&emulator, READ, "").await;
        assert_eq!((heard.status.as_u16(), heard.json()["value"].as_str()), (status, value), "{body}");
    }
    assert!(versions[0] != versions[1] && versions[1] == versions[2]);
}

#[tokio::test]
async fn faults_settings_tokens_and_the_journal() {
    let emulator = Emulator::new();
    emulator.set_secret("db-password", "one").expect("a valid name");
    let fault = r#"{"upstream":"vault","secret":"db-password","times":1,"delay_ms":1,"retry_after":"1",
                    "effect":{"refuse":"throttled"}}"#;
    assert_eq!(control(&emulator, "POST faults", fault).await.0, 204);
    let heard = vault(&emulator, READ, "").await;
    assert_eq!((heard.status.as_u16(), heard.header("retry-after")), (429, Some("1")));

    for effect in [
        json!("hang_before_headers"),
        json!({"status": 503}),
        json!({"answer": {"status": 200, "headers": {"x-a": "b"}, "body": "text"}}),
        json!({"redirect": "http://127.0.0.1:1/"}),
        json!({"huge_body": 1000}),
    ] {
        let body = json!({"effect": effect}).to_string();
        assert_eq!(control(&emulator, "POST faults", &body).await.0, 204, "{body}");
    }
    assert_eq!(control(&emulator, "DELETE faults", "").await.0, 204);
    assert_eq!(vault(&emulator, READ, "").await.status.as_u16(), 200);

    let (status, journal) = control(&emulator, "GET journal", "").await;
    assert!(status == 200 && journal.contains(r#""kind":{"token":"app-service-2019"}"#), "{journal}");
    assert_eq!(control(&emulator, "DELETE journal", "").await.0, 204);
    assert_eq!(emulator.journal(), []);

    assert_eq!(control(&emulator, "PUT settings", r#"{"audience":"https://vault.example"}"#).await.0, 204);
    let bearer = format!("Bearer {}", token(&emulator, "https://vault.example").await);
    let line = "GET http://127.0.0.1/secrets/db-password?api-version=7.4";
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(ask(&emulator, line, &headers, "").await.expect("an answer").status.as_u16(), 200);
    assert_eq!(control(&emulator, "DELETE tokens", "").await.0, 204);
    assert_eq!(ask(&emulator, line, &headers, "").await.expect("an answer").status.as_u16(), 401);
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let emulator = Emulator::new();
    for (line, body, status) in [
        ("POST faults", "", 400),
        ("POST faults", r#"{"effect":"explode"}"#, 400),
        ("POST faults", r#"{"upstream":"vault","time":1}"#, 400),
        ("POST faults", r#"{"effect":{"status":99}}"#, 400),
        ("POST faults", r#"{"effect":{"status":101}}"#, 400),
        ("POST faults", r#"{"retry_after":"a\nb"}"#, 400),
        ("POST faults", r#"{"effect":{"answer":{"status":200,"headers":{"a b":"c"}}}}"#, 400),
        ("PUT settings", r#"{"lifetimes":1}"#, 400),
        ("PUT secrets/a_b", r#"{"value":"a"}"#, 400),
        ("PUT secrets/a", r#"{"enabled":true}"#, 400),
        ("GET secrets", "", 404),
        ("GET faults", "", 404),
    ] {
        assert_eq!(control(&emulator, line, body).await.0, status, "{line} {body}");
    }
}
