//! The token endpoints: what they take, what they refuse, and in which words.

use std::collections::HashSet;

use keyvault_emulator::{Emulator, ExpiresIn, ExpiresOn, Settings, Source, UserAssigned, facts};
use serde_json::json;

use crate::asking::{Heard, ask, setting};

const APP_2019: &str = "http://127.0.0.1/msi/token?api-version=2019-08-01&resource=https://vault.azure.net";
const APP_2017: &str = "http://127.0.0.1/MSI/token/?api-version=2017-09-01&resource=https://vault.azure.net";
const IMDS: &str = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
                    &resource=https://vault.azure.net";
const METADATA: (&str, &str) = ("metadata", "true");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

/// Asks and returns the status and the text.
async fn said(emulator: &Emulator, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let Heard { status, body, .. } = ask(emulator, line, headers, body).await.expect("an answer");
    (status.as_u16(), String::from_utf8(body.to_vec()).expect("the answer is text"))
}

#[tokio::test]
async fn app_service_2019_takes_only_what_the_documents_say() {
    let emulator = Emulator::new();
    let key = setting(&emulator, Source::AppService2019, "IDENTITY_HEADER");
    let right = [("X-IDENTITY-HEADER", key.as_str())];
    let other = format!("{key}x");
    let base = "http://127.0.0.1/msi/token";
    let resource = "resource=https://vault.azure.net";
    let no_identity = "No User Assigned or Delegated Managed Identity found for specified \
                       ClientId/ResourceId/PrincipalId.";
    for (line, headers, status, part) in [
        (format!("GET {APP_2019}"), &right[..], 200, r#""resource":"https://vault.azure.net""#),
        (format!("GET {base}?api-version=2025-03-30&{resource}"), &right, 200, "access_token"),
        (format!("POST {APP_2019}"), &right, 405, "method"),
        (format!("GET {base}?{resource}"), &right, 400, "api-version"),
        (format!("GET {base}?api-version=&{resource}"), &right, 400, "api-version"),
        (format!("GET {base}?api-version=2018-02-01&{resource}"), &right, 400, "api-version"),
        (format!("GET {base}?api-version=latest&{resource}"), &right, 400, "api-version"),
        (format!("GET {base}?api-version=2019-08-01"), &right, 400, "resource"),
        (format!("GET {base}?api-version=2019-08-01&resource="), &right, 400, "resource"),
        (format!("GET {base}?api-version=2019-08-01&resource=https://example.com"), &right, 500, "occured"),
        (format!("GET {APP_2019}&client_id=unknown"), &right, 400, no_identity),
        (format!("GET {APP_2019}&clientid=unknown"), &right, 400, no_identity),
        (format!("GET {APP_2019}&msi_res_id=unknown"), &right, 400, no_identity),
    ] {
        let (found, text) = said(&emulator, &line, headers, "").await;
        assert!(found == status && text.contains(part), "{line} {headers:?}: {found} {text}");
    }
    // A wrong header is told nothing.
    for headers in [
        &[][..],
        &[("X-IDENTITY-HEADER", "")],
        &[("X-IDENTITY-HEADER", &other)],
        &[("secret", &key)],
        &[METADATA],
    ] {
        let heard = ask(&emulator, &format!("GET {APP_2019}"), headers, "").await.expect("an answer");
        let kind = heard.header("content-type");
        assert_eq!((heard.status.as_u16(), &heard.body[..], kind), (401, &b""[..], None), "{headers:?}");
    }
}

#[tokio::test]
async fn app_service_2017_takes_only_what_the_documents_said() {
    let emulator = Emulator::new();
    let key = setting(&emulator, Source::AppService2017, "MSI_SECRET");
    let right = [("Secret", key.as_str())];
    for (line, headers, status, part) in [
        (format!("GET {APP_2017}"), &right[..], 200, r#""token_type":"Bearer""#),
        (format!("GET {APP_2017}"), &[], 401, "Invalid secret token header: ."),
        (format!("GET {APP_2017}"), &[("X-IDENTITY-HEADER", &key)], 401, "Invalid secret token header: ."),
        (format!("GET {APP_2017}&secret={key}"), &[], 401, "Invalid secret token header: ."),
        (
            format!("GET {APP_2017}&clientid=a"),
            &right,
            400,
            "No MSI found for specified ClientId/ResourceId.",
        ),
        (format!("GET {APP_2017}&client_id=a"), &right, 400, r#""StatusCode":400"#),
    ] {
        let (found, text) = said(&emulator, &line, headers, "").await;
        assert!(found == status && text.contains(part), "{line} {headers:?}: {found} {text}");
    }
}

#[tokio::test]
async fn imds_takes_only_what_the_documents_say() {
    let emulator = Emulator::new();
    let base = "http://169.254.169.254/metadata/identity/oauth2/token";
    let metadata = "Required metadata header not specified";
    let version = json!({
        "error": "Bad request. api-version is invalid or was not specified in the request. For more information \
                  refer to aka.ms/azureimds",
        "newest-versions": ["2025-04-07", "2024-07-17", "2024-03-15"],
    });
    let version = &version.to_string();
    let resource = "resource=https://vault.azure.net";
    for (line, headers, status, part) in [
        (format!("GET {IMDS}"), &[METADATA][..], 200, r#""refresh_token":"""#),
        (format!("GET {IMDS}"), &[], 400, metadata),
        (format!("GET {IMDS}"), &[("metadata", "True")], 400, metadata),
        (format!("GET {IMDS}"), &[("metadata", "false")], 400, metadata),
        (format!("GET {IMDS}"), &[METADATA, METADATA], 400, metadata),
        (format!("GET {IMDS}"), &[METADATA, ("x-forwarded-for", "10.0.0.1")], 400, "invalid_request"),
        (format!("POST {IMDS}"), &[METADATA], 405, "invalid_request"),
        (format!("GET {base}?{resource}"), &[METADATA], 400, version),
        (format!("GET {base}?api-version=2017-09-01&{resource}"), &[METADATA], 400, version),
        (format!("GET {base}?api-version=2017-12-01&{resource}"), &[METADATA], 400, version),
        (format!("GET {base}?api-version=2018-02-02&{resource}"), &[METADATA], 400, version),
        (format!("GET {base}?api-version=2099-01-01&{resource}"), &[METADATA], 400, version),
        (format!("GET {base}?api-version=2019-08-01&{resource}"), &[METADATA], 200, "access_token"),
        (format!("GET {base}?api-version=2025-04-07&{resource}"), &[METADATA], 200, "access_token"),
        (format!("GET {IMDS}&{resource}"), &[METADATA], 400, "more than once"),
        (format!("GET {base}?api-version=2018-02-01"), &[METADATA], 400, "'resource' is missing"),
        (format!("GET {base}?api-version=2018-02-01&resource=x"), &[METADATA], 400, "invalid_resource"),
        (format!("GET {IMDS}&client_id=unknown"), &[METADATA], 400, "Identity not found"),
        (format!("GET {IMDS}&mi_res_id=unknown"), &[METADATA], 400, "Identity not found"),
    ] {
        let (found, text) = said(&emulator, &line, headers, "").await;
        assert!(found == status && text.contains(part), "{line} {headers:?}: {found} {text}");
    }
}

#[tokio::test]
async fn cloud_shell_takes_only_what_the_documents_say() {
    let emulator = Emulator::new();
    let line = "http://localhost:50342/oauth2/token";
    let resource = "resource=https%3A%2F%2Fvault.azure.net";
    let other = "resource=https%3A%2F%2Fexample.com";
    let selected = format!("{resource}&client_id=a");
    for (method, headers, body, status, part) in [
        ("POST", &[METADATA, FORM][..], resource, 200, r#""resource":"https://vault.azure.net""#),
        ("GET", &[METADATA, FORM], resource, 405, "MethodNotAllowed"),
        ("POST", &[FORM], resource, 400, "metadata header"),
        ("POST", &[METADATA], resource, 415, "not a form"),
        ("POST", &[METADATA, FORM], "", 400, "AudienceNotSupported"),
        ("POST", &[METADATA, FORM], other, 400, "AudienceNotSupported"),
        ("POST", &[METADATA, FORM], &selected, 400, "identity"),
    ] {
        let (found, text) = said(&emulator, &format!("{method} {line}"), headers, body).await;
        assert!(found == status && text.contains(part), "{method} {headers:?} {body}: {found} {text}");
    }
}

#[tokio::test]
async fn entra_takes_only_what_the_documents_say() {
    let emulator = Emulator::new();
    let secret = setting(&emulator, Source::ClientSecret, "AZURE_CLIENT_SECRET");
    let (tenant, app) = (facts::TENANT, facts::APP_ID);
    let form = |grant: &str, id: &str, secret: &str, scope: &str| {
        format!("grant_type={grant}&client_id={id}&client_secret={secret}&scope={scope}")
    };
    let (grant, scope) = ("client_credentials", "https://vault.azure.net/.default");
    let right = form(grant, app, &secret, scope);
    let part = |code: &str| format!("AADSTS{code}: ");
    let unknown =
        format!("AADSTS700016: Application with identifier 'who' was not found in the directory '{tenant}'.");
    let line = |tenant: &str| format!("https://login.microsoftonline.com/{tenant}/oauth2/v2.0/token");
    let home = line(tenant);
    for (line, headers, body, status, part) in [
        (&home, &[FORM][..], right.clone(), 200, r#""expires_in":3599"#.to_owned()),
        (&home, &[], right.clone(), 400, part("900144")),
        (&home, &[FORM], String::new(), 400, part("900144")),
        (&line("common"), &[FORM], right.clone(), 400, part("90002")),
        (&home, &[FORM], form("password", app, &secret, scope), 400, part("70003")),
        (&home, &[FORM], form(grant, "who", &secret, scope), 400, unknown),
        (&home, &[FORM], form(grant, app, "wrong", scope), 401, part("7000215")),
        (&home, &[FORM], form(grant, app, "", scope), 401, part("7000216")),
        (&home, &[FORM], form(grant, app, &secret, ""), 400, part("900144")),
        (&home, &[FORM], form(grant, app, &secret, "https://vault.azure.net"), 400, part("1002012")),
        (&home, &[FORM], form(grant, app, &secret, "https://example.com/.default"), 400, part("500011")),
    ] {
        let (found, text) = said(&emulator, &format!("POST {line}"), headers, &body).await;
        assert!(found == status && text.contains(&part), "{line} {headers:?} {body}: {found} {text}");
    }
    let (found, text) = said(&emulator, &format!("GET {home}"), &[], "").await;
    assert!(found == 405 && text.contains("AADSTS900561: "), "{found} {text}");
}

#[tokio::test]
async fn each_source_answers_in_its_own_shape() {
    let emulator = Emulator::new();
    let key = setting(&emulator, Source::AppService2019, "IDENTITY_HEADER");
    let secret = setting(&emulator, Source::ClientSecret, "AZURE_CLIENT_SECRET");
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={secret}&scope=https://vault.azure.net/.default",
        facts::APP_ID
    );
    let entra = format!("POST https://login.microsoftonline.com/{}/oauth2/v2.0/token", facts::TENANT);
    let managed =
        ["access_token", "expires_in", "expires_on", "not_before", "refresh_token", "resource", "token_type"];
    for (line, headers, body, fields) in [
        (
            format!("GET {APP_2019}"),
            &[("x-identity-header", key.as_str())][..],
            "",
            &["access_token", "client_id", "expires_on", "resource", "token_type"][..],
        ),
        (
            format!("GET {APP_2017}"),
            &[("secret", &key)],
            "",
            &["access_token", "expires_on", "resource", "token_type"],
        ),
        (format!("GET {IMDS}"), &[METADATA], "", &managed),
        (
            "POST http://localhost/oauth2/token".to_owned(),
            &[METADATA, FORM],
            "resource=https://vault.azure.net",
            &managed,
        ),
        (entra, &[FORM], &form, &["access_token", "expires_in", "ext_expires_in", "token_type"]),
    ] {
        let json = ask(&emulator, &line, headers, body).await.expect("an answer").json();
        let object = json.as_object().expect("an object");
        let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
        found.sort_unstable();
        assert_eq!(found, fields, "{line}");
        let token = json["access_token"].as_str().expect("a token");
        assert!(token.starts_with("eyJ") && token.split('.').count() == 3, "{line}");
    }
}

#[tokio::test]
async fn an_identity_is_selected_by_each_of_its_names() {
    let emulator = Emulator::new();
    emulator.configure(|it| {
        *it = Settings { system_assigned: false, user_assigned: two(), ..Settings::default() }
    });
    let key = setting(&emulator, Source::AppService2019, "IDENTITY_HEADER");
    let header = [("x-identity-header", key.as_str())];
    for (parameter, expected) in [
        ("client_id=c2", Some("c2")),
        ("client_id=C1", Some("c1")),
        ("principal_id=o1", Some("c1")),
        ("object_id=o2", Some("c2")),
        ("mi_res_id=/r/2", Some("c2")),
        ("client_id=c1&object_id=o1", None),
        ("client_id=o1", None),
        ("", None),
    ] {
        let heard = ask(&emulator, &format!("GET {APP_2019}&{parameter}"), &header, "").await;
        let json = heard.expect("an answer").json();
        assert_eq!(json["client_id"].as_str(), expected, "{parameter}");
    }
    for (parameter, part) in [
        ("msi_res_id=/r/1", "access_token"),
        ("object_id=o1", "access_token"),
        ("principal_id=o1", "Identity not found"),
        ("", "Multiple user assigned identities exist, please specify the clientId / resourceId"),
    ] {
        let (_, text) = said(&emulator, &format!("GET {IMDS}&{parameter}"), &[METADATA], "").await;
        assert!(text.contains(part), "{parameter}: {text}");
    }
    emulator.configure(|it| it.user_assigned.truncate(1));
    assert_eq!(said(&emulator, &format!("GET {IMDS}"), &[METADATA], "").await.0, 200);
    emulator.configure(|it| it.user_assigned.clear());
    assert_eq!(said(&emulator, &format!("GET {IMDS}"), &[METADATA], "").await.0, 400);
}

fn two() -> Vec<UserAssigned> {
    let one = |number: u8| UserAssigned {
        client_id: format!("c{number}"),
        object_id: format!("o{number}"),
        resource_id: format!("/r/{number}"),
    };
    vec![one(1), one(2)]
}

#[tokio::test]
async fn the_settings_choose_how_an_expiry_is_written() {
    let emulator = Emulator::new();
    emulator.configure(|it| {
        it.expires_on = Some(ExpiresOn::Absent);
        it.expires_in = Some(ExpiresIn::Number);
        it.lifetime = Some(-5);
    });
    let json = ask(&emulator, &format!("GET {IMDS}"), &[METADATA], "").await.expect("an answer").json();
    assert_eq!((json.get("expires_on"), json.get("expires_in")), (None, Some(&json!(-5))));

    // Every source says when to ask again, if it is to, and otherwise has no such field.
    let key = setting(&emulator, Source::AppService2019, "IDENTITY_HEADER");
    for (line, header) in [
        (format!("GET {APP_2019}"), ("x-identity-header", key.as_str())),
        (format!("GET {APP_2017}"), ("secret", &key)),
        (format!("GET {IMDS}"), METADATA),
    ] {
        for refresh_in in [None, Some(43_200)] {
            emulator.configure(|it| it.refresh_in = refresh_in);
            let json = ask(&emulator, &line, &[header], "").await.expect("an answer").json();
            assert_eq!(json.get("refresh_in").cloned(), refresh_in.map(|it| json!(it)), "{line}");
        }
    }

    // No lifetime is too strange to be answered.
    for lifetime in [i64::MIN, i64::MAX] {
        emulator.configure(|it| *it = Settings { lifetime: Some(lifetime), ..Settings::default() });
        assert_eq!(said(&emulator, &format!("GET {IMDS}"), &[METADATA], "").await.0, 200);
    }
}

#[tokio::test]
async fn the_platform_keeps_a_managed_identitys_token_and_entra_keeps_none() {
    let emulator = Emulator::new();
    emulator.configure(|it| it.user_assigned = two());
    let key = setting(&emulator, Source::AppService2019, "IDENTITY_HEADER");
    let secret = setting(&emulator, Source::ClientSecret, "AZURE_CLIENT_SECRET");
    let given = async |line: &str, headers: &[(&str, &str)], body: &str| {
        let json = ask(&emulator, line, headers, body).await.expect("an answer").json();
        (json["access_token"].as_str().expect("a token").to_owned(), json)
    };
    let of_2019 =
        async |more: &str| given(&format!("GET {APP_2019}{more}"), &[("x-identity-header", &key)], "").await;
    let imds = async || given(&format!("GET {IMDS}"), &[METADATA], "").await;

    // Whoever asks for the same, wherever, is given the same.
    let (first, answer) = of_2019("").await;
    assert_eq!(of_2019("").await, (first.clone(), answer));
    assert_eq!(imds().await.0, first);
    let by_client = of_2019("&client_id=c1").await.0;
    assert_eq!(of_2019("&mi_res_id=/r/1").await.0, by_client);
    assert_eq!(
        HashSet::from([&first, &by_client, &of_2019("/").await.0, &of_2019("&client_id=c2").await.0]).len(),
        4
    );

    // Nothing makes the platform give another one, neither settings nor other keys, before it has ended…
    emulator.configure(|it| it.lifetime = Some(0));
    emulator.rotate_signing_keys();
    assert_eq!(imds().await.0, first);
    // …but the test, which has it forget.
    emulator.forget_tokens();
    let ended = imds().await.0;
    assert_ne!(imds().await.0, ended);

    emulator.configure(|it| it.lifetime = None);
    let (kept, answer) = imds().await;
    assert_eq!(imds().await.0, kept);
    assert!(answer["expires_in"].as_str().is_some_and(|it| it == "86400"), "{answer}");
    // Who is told to ask again at once is given another one at once.
    emulator.forget_tokens();
    emulator.configure(|it| it.refresh_in = Some(0));
    assert_ne!(imds().await.0, imds().await.0);

    let line = format!("POST https://login.microsoftonline.com/{}/oauth2/v2.0/token", facts::TENANT);
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={secret}&scope=https://vault.azure.net/.default",
        facts::APP_ID
    );
    assert_ne!(given(&line, &[FORM], &form).await.0, given(&line, &[FORM], &form).await.0);
}
