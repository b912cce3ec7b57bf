//! Key Vault: what it takes, what it refuses, and in which words.

use keyvault_emulator::{Emulator, Kind, NotTaken, facts};
use serde_json::{Value, json};

use crate::asking::{ask, token, vault};

const READ: &str = "/secrets/db-password?api-version=2025-07-01";

fn seeded() -> (Emulator, String) {
    let emulator = Emulator::new();
    let version = emulator.set_secret("db-password", "correct horse").expect("a valid name");
    (emulator, version)
}

#[tokio::test]
async fn a_read_is_answered_as_in_the_recordings() {
    let (emulator, version) = seeded();
    for path in [
        READ.to_owned(),
        "/secrets/DB-password/?api-version=7.4".to_owned(),
        format!("/secrets/db-password/{version}?api-version=2026-03-01-preview"),
        format!("/secrets/db-password/{}/?api-version=7.4", version.to_uppercase()),
    ] {
        let heard = vault(&emulator, &format!("GET {path}"), "").await;
        let mut json = heard.json();
        let attributes = json["attributes"].as_object_mut().expect("attributes");
        let created = attributes.remove("created").and_then(|it| it.as_i64()).expect("a time");
        assert_eq!(attributes.remove("updated"), Some(created.into()), "{path}");
        let expected = json!({
            "value": "correct horse",
            "id": format!("https://demo.vault.azure.net/secrets/db-password/{version}"),
            "attributes": {"enabled": true, "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90},
        });
        assert_eq!((heard.status.as_u16(), json), (200, expected), "{path}");
        for (name, value) in [
            ("content-type", "application/json; charset=utf-8"),
            ("cache-control", "no-cache"),
            ("x-ms-keyvault-region", "westeurope"),
            ("strict-transport-security", "max-age=31536000;includeSubDomains"),
        ] {
            assert_eq!(heard.header(name), Some(value), "{path}");
        }
        assert_eq!(heard.header("x-ms-request-id").map(str::len), Some(36), "{path}");
    }
}

#[tokio::test]
async fn a_clients_request_id_comes_back_if_it_is_wished() {
    let (emulator, _) = seeded();
    let line = format!("GET https://demo.vault.azure.net{READ}");
    let id = ("x-ms-client-request-id", "one");
    for (headers, expected) in
        [(&[id][..], None), (&[id, ("x-ms-return-client-request-id", "true")], Some("one"))]
    {
        let heard = ask(&emulator, &line, headers, "").await.expect("an answer");
        assert_eq!(heard.header("x-ms-client-request-id"), expected);
    }
}

#[tokio::test]
async fn without_a_good_token_there_is_a_challenge() {
    let (emulator, _) = seeded();
    emulator.configure(|it| it.lifetime = Some(0));
    let expired = token(&emulator, "https://vault.azure.net").await;
    emulator.configure(|it| it.lifetime = None);
    let good = token(&emulator, "https://vault.azure.net").await;
    let slash = token(&emulator, "https://vault.azure.net/").await;
    let management = token(&emulator, "https://management.azure.com/").await;

    let missing = "AKV10000: Request is missing a Bearer or PoP token.";
    let audience = "AKV10022: Invalid audience. Expected https://vault.azure.net";
    for (value, message) in [
        (None, missing),
        (Some(String::new()), missing),
        (Some("Bearer".to_owned()), missing),
        (Some("Bearer ".to_owned()), missing),
        (Some(format!("Basic {good}")), missing),
        (Some(good.clone()), missing),
        (Some(format!("Bearer {good}x")), "AKV10046: "),
        (Some("Bearer eyJ0.e30.x".to_owned()), "AKV10046: "),
        (Some(format!("Bearer {slash}")), audience),
        (Some(format!("Bearer {management}")), "found: https://management.azure.com/."),
        (Some(format!("Bearer {expired}")), "Error validating token: IDX10223"),
    ] {
        let headers: Vec<_> = value.iter().map(|it| ("authorization", it.as_str())).collect();
        let line = format!("GET https://demo.vault.azure.net{READ}");
        let heard = ask(&emulator, &line, &headers, "").await.expect("an answer");
        let (status, code, _, text) = heard.refusal();
        assert_eq!((status, code.as_str()), (401, "Unauthorized"), "{message}");
        assert!(text.contains(message), "{message}: {text}");
        let challenge = format!(
            "Bearer authorization=\"https://login.microsoftonline.com/{}\", resource=\"https://vault.azure.net\"",
            facts::TENANT
        );
        assert_eq!(heard.header("www-authenticate"), Some(challenge.as_str()), "{message}");
    }
}

#[tokio::test]
async fn the_audience_follows_the_host() {
    let (emulator, _) = seeded();
    emulator.configure(|it| {
        it.audience = "https://vault.example".to_owned();
        it.hosts = vec!["keys.example".to_owned(), "10.0.0.1".to_owned()];
    });
    let audiences = [
        ("https://demo.vault.azure.net", "https://vault.azure.net"),
        ("https://demo.vault.azure.cn", "https://vault.azure.cn"),
        ("https://demo.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"),
        ("https://keys.example", "https://vault.example"),
        ("http://10.0.0.1", "https://vault.example"),
        ("http://127.0.0.1:8080", "https://vault.example"),
    ];
    for (vault, wanted) in audiences {
        for (_, audience) in audiences {
            let bearer = format!("Bearer {}", token(&emulator, audience).await);
            let line = format!("GET {vault}{READ}");
            let heard = ask(&emulator, &line, &[("authorization", &bearer)], "").await.expect("an answer");
            let expected = if audience == wanted { 200 } else { 401 };
            assert_eq!(heard.status.as_u16(), expected, "{vault} {audience}");
        }
    }
}

#[tokio::test]
async fn a_request_that_strays_is_answered_with_nothing_and_is_in_the_journal() {
    let (emulator, _) = seeded();
    let good = format!("Bearer {}", token(&emulator, "https://vault.azure.net").await);
    let imds = "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https://vault.azure.net";
    for (scheme, host, path) in [
        ("https", "other.example", READ),
        ("http", "demo.vault.azure.net", READ),
        ("http", "demo.vault.azure.net:443", READ),
        ("http", "10.0.0.1", READ),
        ("http", "login.microsoftonline.com", "/organizations/v2.0/.well-known/openid-configuration"),
        ("https", "169.254.169.254", imds),
        ("http", "169.254.169.253", imds),
        ("http", "[fe80::1]", imds),
    ] {
        let line = format!("GET {scheme}://{host}{path}");
        let headers = [("authorization", good.as_str()), ("metadata", "true")];
        let heard = ask(&emulator, &line, &headers, "").await.expect("an answer");
        assert_eq!((heard.status.as_u16(), &heard.body[..]), (421, &b""[..]), "{line}");
        let last = emulator.journal().pop().map(|it| (it.kind, it.scheme, it.authority));
        assert_eq!(last, Some((Kind::Nothing, scheme.to_owned(), host.to_owned())), "{line}");
    }
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let (emulator, version) = seeded();
    let long = "a".repeat(128);
    let large = json!({"value": "a".repeat(25 * 1024 + 1)}).to_string();
    let many: serde_json::Map<_, _> = (0..16).map(|it| (it.to_string(), json!("a"))).collect();
    let many = json!({"value": "a", "tags": many}).to_string();
    for (line, body, status, code) in [
        ("GET /secrets/db-password".to_owned(), "", 400, "BadParameter"),
        ("GET /secrets/db-password?api-version=".to_owned(), "", 400, "BadParameter"),
        ("GET /secrets/db-password?api-version=newest".to_owned(), "", 400, "BadParameter"),
        (format!("GET {READ}"), "{}", 400, "BadParameter"),
        ("GET /secrets/db_password?api-version=7.4".to_owned(), "", 400, "BadParameter"),
        ("GET /secrets/db%2Fpassword?api-version=7.4".to_owned(), "", 400, "BadParameter"),
        ("GET /secrets/..?api-version=7.4".to_owned(), "", 400, "BadParameter"),
        ("GET /secrets//?api-version=7.4".to_owned(), "", 400, "BadParameter"),
        (format!("GET /secrets/{long}?api-version=7.4"), "", 400, "BadParameter"),
        ("GET /secrets/db-password/1?api-version=7.4".to_owned(), "", 400, "BadParameter"),
        (format!("GET /secrets/db-password/{version}0?api-version=7.4"), "", 400, "BadParameter"),
        ("GET /secrets?api-version=7.4&maxresults=0".to_owned(), "", 400, "BadParameter"),
        ("GET /secrets?api-version=7.4&maxresults=26".to_owned(), "", 400, "BadParameter"),
        ("GET /secrets?api-version=7.4&maxresults=all".to_owned(), "", 400, "BadParameter"),
        ("GET /secrets?api-version=7.4&$skiptoken=a_b".to_owned(), "", 400, "BadParameter"),
        ("GET /deletedsecrets?api-version=7.4&$skiptoken=a_b".to_owned(), "", 400, "BadParameter"),
        ("GET /secrets/a/versions?api-version=7.4&$skiptoken=a".to_owned(), "", 400, "BadParameter"),
        ("PUT /secrets/a?api-version=7.4".to_owned(), "", 400, "BadParameter"),
        ("PUT /secrets/a?api-version=7.4".to_owned(), "{}", 400, "BadParameter"),
        ("PUT /secrets/a?api-version=7.4".to_owned(), r#"{"value":1}"#, 400, "BadParameter"),
        ("PUT /secrets/a?api-version=7.4".to_owned(), &large, 400, "BadParameter"),
        ("PUT /secrets/a?api-version=7.4".to_owned(), &many, 400, "BadParameter"),
        (format!("PUT /secrets/a/{version}?api-version=7.4"), "{}", 405, "MethodNotAllowed"),
        ("POST /secrets/db-password?api-version=7.4".to_owned(), "", 405, "MethodNotAllowed"),
        ("DELETE /secrets?api-version=7.4".to_owned(), "", 405, "MethodNotAllowed"),
        ("PATCH /secrets/absent?api-version=7.4".to_owned(), "{}", 404, "SecretNotFound"),
        ("GET /secrets/absent?api-version=7.4".to_owned(), "", 404, "SecretNotFound"),
        (format!("GET /secrets/db-password/{}?api-version=7.4", "0".repeat(32)), "", 404, "SecretNotFound"),
        ("GET /deletedsecrets/db-password?api-version=7.4".to_owned(), "", 404, "SecretNotFound"),
    ] {
        let (found, text, _, message) = vault(&emulator, &line, body).await.refusal();
        assert_eq!((found, text.as_str()), (status, code), "{line}: {message}");
    }
    let huge = "a".repeat(300 * 1024);
    assert_eq!(vault(&emulator, "PUT /secrets/a?api-version=7.4", &huge).await.status.as_u16(), 413);
}

#[tokio::test]
async fn texts_are_those_of_the_service() {
    let (emulator, _) = seeded();
    emulator.enable_secret("db-password", false).expect("it is there");
    for (path, status, code, inner, message) in [
        (
            "/secrets/absent?api-version=7.4",
            404,
            "SecretNotFound",
            "",
            "A secret with (name/id) absent was not found in this key vault. If you recently deleted this secret \
             you may be able to recover it using the correct recovery command. For help resolving this issue, \
             please see https://go.microsoft.com/fwlink/?linkid=2125182",
        ),
        (READ, 403, "Forbidden", "SecretDisabled", "Operation get is not allowed on a disabled secret."),
        (
            "/secrets/a_b?api-version=7.4",
            400,
            "BadParameter",
            "",
            "The request URI contains an invalid name: a_b",
        ),
    ] {
        let found = vault(&emulator, &format!("GET {path}"), "").await.refusal();
        assert_eq!(found, (status, code.to_owned(), inner.to_owned(), message.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn only_a_disabled_secret_cannot_be_read() {
    let emulator = Emulator::new();
    let body = json!({"value": "", "attributes": {"nbf": 4_000_000_000_i64, "exp": 1}}).to_string();
    assert_eq!(vault(&emulator, "PUT /secrets/a?api-version=7.4", &body).await.status.as_u16(), 200);
    let json = vault(&emulator, "GET /secrets/a?api-version=7.4", "").await.json();
    let attributes = &json["attributes"];
    assert_eq!((&json["value"], &attributes["exp"]), (&json!(""), &json!(1)));

    // The newest version hides those before it, also when it is disabled.
    let first = json["id"].as_str().and_then(|it| it.rsplit('/').next()).expect("a version").to_owned();
    emulator.set_secret("a", "new").expect("a valid name");
    emulator.enable_secret("a", false).expect("it is there");
    assert_eq!(vault(&emulator, "GET /secrets/a?api-version=7.4", "").await.status.as_u16(), 403);
    let line = format!("GET /secrets/a/{first}?api-version=7.4");
    assert_eq!(vault(&emulator, &line, "").await.status.as_u16(), 200);
}

#[tokio::test]
async fn a_deleted_name_is_taken_until_it_is_purged() {
    let (emulator, version) = seeded();
    let deleted = vault(&emulator, "DELETE /secrets/db-password?api-version=7.4", "").await.json();
    let base = "https://demo.vault.azure.net";
    assert_eq!(deleted["recoveryId"], json!(format!("{base}/deletedsecrets/db-password")));
    assert_eq!(deleted["id"], json!(format!("{base}/secrets/db-password/{version}")));
    let days = deleted["scheduledPurgeDate"].as_i64().zip(deleted["deletedDate"].as_i64());
    assert_eq!(days.map(|(purged, deleted)| purged - deleted), Some(90 * 24 * 60 * 60));
    assert_eq!(deleted.get("value"), None);

    let put = "PUT /secrets/db-password?api-version=7.4";
    let message = "Secret db-password is currently in a deleted but recoverable state, and its name cannot be \
                   reused; in this state, the secret can only be recovered or purged.";
    let inner = "ObjectIsDeletedButRecoverable";
    let expected = (409, "Conflict".to_owned(), inner.to_owned(), message.to_owned());
    assert_eq!(vault(&emulator, put, r#"{"value":"a"}"#).await.refusal(), expected);

    let line = "POST /deletedsecrets/db-password/recover?api-version=7.4";
    assert_eq!(vault(&emulator, line, "").await.status.as_u16(), 200);
    assert_eq!(vault(&emulator, &format!("GET {READ}"), "").await.status.as_u16(), 200);

    emulator.delete_secret("db-password").expect("it is there");
    // A value that is not taken recovers nothing.
    assert_eq!(emulator.set_secret("db-password", &"a".repeat(25_601)), Err(NotTaken));
    assert_eq!(vault(&emulator, &format!("GET {READ}"), "").await.status.as_u16(), 404);
    emulator.set_secret("db-password", "new").expect("it is recovered");
    assert_eq!(vault(&emulator, &format!("GET {READ}"), "").await.json()["value"], json!("new"));

    emulator.delete_secret("db-password").expect("it is there");
    let line = "DELETE /deletedsecrets/db-password?api-version=7.4";
    assert_eq!(vault(&emulator, line, "").await.status.as_u16(), 204);
    assert_eq!(vault(&emulator, put, r#"{"value":"a"}"#).await.status.as_u16(), 200);
}

#[tokio::test]
async fn lists_come_in_pages_whose_last_is_empty() {
    let emulator = Emulator::new();
    for name in ["a", "B", "c", "d"] {
        emulator.set_secret(name, "1").expect("a valid name");
    }
    let mut line = "GET /secrets?api-version=7.4&maxresults=2".to_owned();
    let mut pages = Vec::new();
    loop {
        let json = vault(&emulator, &line, "").await.json();
        let ids = json["value"].as_array().expect("a list").iter().map(|it| it["id"].clone());
        pages.push(ids.collect::<Vec<Value>>());
        assert!(!json.to_string().contains("\"value\":\"1\""));
        let Some(next) = json["nextLink"].as_str() else { break };
        let path = next.strip_prefix("https://demo.vault.azure.net:443").expect("the vault with its port");
        line = format!("GET {path}");
    }
    let id = |name: &str| json!(format!("https://demo.vault.azure.net/secrets/{name}"));
    assert_eq!(pages, [vec![id("a"), id("B")], vec![id("c"), id("d")], vec![]]);

    let absent = vault(&emulator, "GET /secrets/absent/versions?api-version=7.4", "").await.json();
    assert_eq!(absent, json!({"value": [], "nextLink": null}));
}

/// Asks for a list as Microsoft's clients do, which follow `nextLink` wherever it leads; between two pages `between` is done
/// with what the last one had.
async fn listed(emulator: &Emulator, path: &str, between: impl Fn(&[String])) -> Vec<Vec<String>> {
    let mut line = format!("GET {path}?api-version=7.4&maxresults=2");
    let mut pages = Vec::new();
    loop {
        let heard = vault(emulator, &line, "").await;
        assert_eq!(heard.status.as_u16(), 200, "{line}");
        let json = heard.json();
        let last = |it: &Value| {
            let path = it["id"].as_str().expect("an id").split_once("/secrets/").expect("a secret").1;
            path.to_owned()
        };
        let page: Vec<String> = json["value"].as_array().expect("a list").iter().map(last).collect();
        between(&page);
        pages.push(page);
        let Some(next) = json["nextLink"].as_str() else { return pages };
        line = format!("GET {}", next.strip_prefix("https://demo.vault.azure.net:443").expect("the vault"));
    }
}

#[tokio::test]
async fn a_list_goes_on_after_what_its_client_has_deleted() {
    let emulator = Emulator::new();
    for name in ["a", "B", "c", "D", "e"] {
        emulator.set_secret(name, "1").expect("a valid name");
    }
    let delete = |page: &[String]| {
        page.iter().for_each(|it| emulator.delete_secret(it).expect("it is there"));
    };
    assert_eq!(listed(&emulator, "/secrets", delete).await, [vec!["a", "B"], vec!["c", "D"], vec!["e"]]);

    // The same for who recovers what has been deleted.
    let recover = |page: &[String]| {
        for it in page {
            emulator.set_secret(it.split('/').next().expect("a name"), "2").expect("it is recovered");
        }
    };
    let pages = listed(&emulator, "/deletedsecrets", recover).await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(listed(&emulator, "/deletedsecrets", |_| ()).await, [Vec::<String>::new()]);

    // And for the versions of one, which all go at once.
    for _ in 0..3 {
        emulator.set_secret("versions-of-it", "1").expect("a valid name");
    }
    let whole = listed(&emulator, "/secrets/versions-of-it/versions", |_| ()).await;
    assert_eq!(whole.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
    let delete = |page: &[String]| {
        if !page.is_empty() {
            emulator.delete_secret("versions-of-it").expect("it is there");
        }
    };
    let cut_short = listed(&emulator, "/secrets/versions-of-it/versions", delete).await;
    assert_eq!(cut_short, [whole[0].clone(), Vec::new()]);
}

#[tokio::test]
async fn only_the_api_versions_of_the_service_are_taken() {
    let (emulator, _) = seeded();
    let read = async |version: &str| {
        vault(&emulator, &format!("GET /secrets/db-password?api-version={version}"), "").await
    };
    for version in
        ["2015-06-01", "2016-10-01", "7.0", "7.6-preview.2", "7.6", "2025-07-01", "2026-07-01-preview"]
    {
        assert_eq!(read(version).await.status.as_u16(), 200, "{version}");
    }
    for version in
        ["7.7", "7.10", "7", "7.4-preview", "2025-07-02", "2025-07-01-preview", "2099-01-01", "newest"]
    {
        let message = format!(
            "The specified version ({version}) is not recognized. Consider using the latest supported version \
             (2026-04-01)."
        );
        let expected = (400, "BadParameter".to_owned(), String::new(), message);
        assert_eq!(read(version).await.refusal(), expected, "{version}");
    }
    let missing = vault(&emulator, "GET /secrets/db-password", "").await.refusal();
    assert_eq!(missing.3, "api-version must be specified");
}
