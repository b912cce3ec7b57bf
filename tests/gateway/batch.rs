//! Several secrets in one request: each as in a request of its own, in one answer, within one deadline.

use std::time::Duration;

use serde_json::{Value, json};

use crate::scripted::*;

fn post(gateway: &Scripted, body: &str) -> Value {
    let reply = gateway.request("POST", "/api/GetKeyVaultSecrets", &WITH_KEY, body);
    assert_eq!(reply.status(), 200, "{}", body_of(&reply));
    serde_json::from_str(&body_of(&reply)).unwrap()
}

fn list(names: &[&str]) -> String {
    json!({ "Secrets": names }).to_string()
}

/// The value or the code of each entry.
fn outcomes(body: &Value) -> Vec<String> {
    let entries = body["Secrets"].as_array().unwrap().iter();
    entries
        .map(|entry| entry["Value"].as_str().or(entry["Error"]["code"].as_str()).unwrap().to_owned())
        .collect()
}

#[test]
fn each_item_gets_what_a_request_of_its_own_gets() {
    let disabled = answer(403, r#"{"error":{"code":"Forbidden","innererror":{"code":"SecretDisabled"}}}"#);
    let throttled = vec![retry_after(429, "1"), retry_after(429, "1"), retry_after(429, "7")];
    let rows = [
        (json!("ops-a"), vec![secret("ops-a", "v1")]),
        (json!("ops-missing"), vec![not_found()]),
        (json!("ops-disabled"), vec![disabled]),
        (json!("billing-a"), vec![]),
        (json!("no name!"), vec![]),
        (json!({"Secret": "ops-b", "Version": "not one"}), vec![]),
        (json!({"secret": "ops-b", "VERSION": VERSION}), vec![secret("ops-b", "v\"2")]),
        (json!("ops-html"), vec![answer(200, "<html>")]),
        (json!("ops-throttled"), throttled),
    ];
    let settings = [("GATEWAY_CALLERS", OPS), ("GATEWAY_LOG", "debug")];
    let fields = [JSON, OPS_KEY];
    let several = Scripted::new(&settings).with_script([token(3600)]);
    several.script(rows.iter().flat_map(|row| row.1.clone()));
    let body = json!({ "Secrets": rows.iter().map(|row| &row.0).collect::<Vec<_>>() }).to_string();
    let reply = several.request("POST", "/GetKeyVaultSecrets/", &fields, &body);
    let answered: Value = serde_json::from_str(&body_of(&reply)).unwrap();
    assert_eq!((reply.status().as_u16(), field(&reply, "retry-after")), (200, "7"));
    for (index, (item, outcomes)) in rows.iter().enumerate() {
        let alone = Scripted::new(&settings).with_script([token(3600)]);
        alone.script(outcomes.iter().cloned());
        let body = if item.is_string() { json!({ "Secret": item }) } else { item.clone() };
        let reply = alone.request("POST", "/", &fields, &body.to_string());
        let single: Value = serde_json::from_str(&body_of(&reply)).unwrap();
        let entry = &answered["Secrets"][index];
        let name = item.as_str().or(item["Secret"].as_str()).or(item["secret"].as_str()).unwrap();
        // What cannot be a name is not repeated.
        let name = if name.contains(' ') { "" } else { name };
        let expected = match &single["Value"] {
            Value::Null => json!({ "Secret": name, "Error": single["error"] }),
            value => json!({ "Secret": name, "Value": value }),
        };
        assert_eq!(*entry, expected, "{item}");
    }
    // One line for the request, with counts, and at level debug one for each item.
    let log = several.log();
    let lines: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let last = lines.last().unwrap();
    let codes = json!({"OK": 2, "SecretNotFound": 1, "SecretDisabled": 1, "Forbidden": 1, "BadRequest": 2,
        "VaultError": 1, "VaultThrottled": 1});
    assert_eq!((&last["codes"], &last["code"], &last["level"]), (&codes, &json!("OK"), &json!("error")));
    assert_eq!(last["cause"], "the vault answered with something that is not a secret");
    let items = lines.iter().filter(|line| line["code"].is_null() && line["call"].is_null());
    let items: Vec<_> = items.map(|line| (line["secret"].as_str(), line["item"].as_str().unwrap())).collect();
    assert_eq!(
        items,
        [
            (Some("ops-a"), "OK"),
            (Some("ops-missing"), "SecretNotFound"),
            (Some("ops-disabled"), "SecretDisabled"),
            (Some("billing-a"), "Forbidden"),
            (None, "BadRequest"),
            (None, "BadRequest"),
            (Some("ops-b"), "OK"),
            (Some("ops-html"), "VaultError"),
            (Some("ops-throttled"), "VaultThrottled"),
        ]
    );
    let metrics = several.request("GET", "/metrics", &WITH_KEY, "");
    assert!(body_of(&metrics).contains("keyvault_gateway_items_total{code=\"BadRequest\"} 2\n"));
}

#[test]
fn a_request_that_is_no_list_fails_as_a_whole() {
    let many = json!({ "Secrets": vec!["a"; 51] }).to_string();
    let large = format!("{}{}", list(&["a"]), " ".repeat(32 * 1024));
    for (body, expected) in [
        ("{}", (400, "BadRequest")),
        (r#"{"Secrets": []}"#, (400, "BadRequest")),
        (r#"{"Secrets": "a"}"#, (400, "BadRequest")),
        (r#"{"Secrets": [7]}"#, (400, "BadRequest")),
        (r#"{"Secrets": [{}]}"#, (400, "BadRequest")),
        (r#"{"Secrets": [{"Secret": "a", "secret": "b"}]}"#, (400, "BadRequest")),
        (r#"{"Secrets": ["a"], "secrets": ["b"]}"#, (400, "BadRequest")),
        (r#"{"Secrets": ["a"], "Details": "yes"}"#, (400, "BadRequest")),
        ("[]", (400, "BadRequest")),
        (&many, (400, "BadRequest")),
        (&large, (413, "ContentTooLarge")),
    ] {
        let gateway = Scripted::new(&[]);
        let reply = gateway.request("POST", "/api/GetKeyVaultSecrets", &WITH_KEY, body);
        assert_eq!((outcome(&reply), gateway.calls().len()), (expected, 0), "{body:.80}");
    }
    for (fields, expected) in [
        (&[JSON][..], (401, "Unauthorized")),
        (&[WITH_KEY[1]], (415, "UnsupportedMediaType")),
        (&[JSON, WITH_KEY[1], ("content-length", "32769")], (413, "ContentTooLarge")),
    ] {
        let reply = Scripted::new(&[]).request("POST", "/api/GetKeyVaultSecrets", fields, &list(&["a"]));
        assert_eq!(outcome(&reply), expected);
    }
    let reply = Scripted::new(&[]).get("/api/GetKeyVaultSecrets");
    assert_eq!(outcome(&reply), (405, "MethodNotAllowed"));
}

#[test]
fn a_secret_that_is_asked_for_twice_is_read_once() {
    let gateway = Scripted::new(&[("GATEWAY_CACHE_TTL_SECONDS", "0")]).with_script([token(3600)]);
    gateway.script([secret("a", "v"), secret("b", "w"), not_found()]);
    let body = post(&gateway, &list(&["a", "b", "A", "a", "none", "NONE"]));
    assert_eq!(outcomes(&body), ["v", "w", "v", "v", "SecretNotFound", "SecretNotFound"]);
    let entries = body["Secrets"].as_array().unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry["Secret"].as_str().unwrap()).collect();
    assert_eq!((names, gateway.calls().len()), (vec!["a", "b", "A", "a", "none", "NONE"], 4));
    // Each is told of the name as it was spelled.
    for entry in &entries[4..] {
        let (name, message) =
            (entry["Secret"].as_str().unwrap(), entry["Error"]["message"].as_str().unwrap());
        assert!(message.contains(&format!(" {name} ")), "{message}");
    }
}

#[test]
fn cached_values_are_served_and_no_cache_applies_to_each() {
    let gateway = Scripted::new(&[]).with_script([token(3600), secret("a", "v"), secret("b", "w")]);
    assert_eq!(outcomes(&post(&gateway, &list(&["a", "b"]))), ["v", "w"]);
    assert_eq!(outcomes(&post(&gateway, &list(&["b", "a"]))), ["w", "v"]);
    assert_eq!((gateway.read("a").1, gateway.calls().len()), ("OK", 3));
    gateway.script_after(2, [secret("a", "v2"), lost(), lost(), lost()]);
    let fields = [WITH_KEY[0], WITH_KEY[1], ("cache-control", "no-cache")];
    let reply = gateway.request("POST", "/api/GetKeyVaultSecrets", &fields, &list(&["a", "b"]));
    // A vault that cannot be reached lets a cached value be served, as for one secret.
    assert_eq!(outcomes(&serde_json::from_str(&body_of(&reply)).unwrap()), ["v2", "w"]);
    gateway.script_after(330, vec![lost(); 2]);
    assert_eq!(outcomes(&post(&gateway, &list(&["a", "b"]))), ["v2", "w"]);
    assert!(gateway.log().last().unwrap().contains(r#""codes":{"OK":2},"stale":2,"#));
}

#[test]
fn one_deadline_is_for_all() {
    let gateway = Scripted::new(&[("GATEWAY_DEADLINE_SECONDS", "4")]).with_script([token(3600)]);
    gateway.script([secret("a", "v").after(Duration::from_secs(1))]);
    gateway.script([Outcome::Late, Outcome::Late]);
    let body = post(&gateway, &list(&["a", "b", "c"]));
    assert_eq!(outcomes(&body), ["v", "Timeout", "Timeout"]);
    assert!(gateway.now() <= Duration::from_secs(4), "{:?}", gateway.now());
}

#[test]
fn the_budget_of_a_caller_is_for_each_item() {
    let gateway = Scripted::new(&[("GATEWAY_CALLER_CALLS_PER_SECOND", "1")]).with_script([token(3600)]);
    let names: Vec<_> = (0..150).map(|number| format!("n-{number}")).collect();
    let mut codes = Vec::new();
    for names in names.chunks(50) {
        gateway.script(names.iter().map(|name| secret(name, "v")));
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        codes.extend(outcomes(&post(&gateway, &list(&names))));
    }
    let throttled = codes.iter().filter(|code| *code == "TooManyRequests").count();
    assert_eq!((throttled, codes.len()), (50, 150));
}

#[test]
fn what_does_not_fit_into_the_answer_is_said_in_its_place() {
    let gateway = Scripted::new(&[]).with_script([token(3600)]);
    let names: Vec<_> = (0..50).map(|number| format!("n-{number}")).collect();
    // Each byte of the last ones is written with six in JSON.
    let (plain, escaped) = ("x".repeat(25 * 1024), "\u{1}".repeat(25 * 1024));
    gateway.script(
        names
            .iter()
            .enumerate()
            .map(|(index, name)| secret(name, if index < 40 { &plain } else { &escaped })),
    );
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let reply = gateway.request("POST", "/api/GetKeyVaultSecrets", &WITH_KEY, &list(&names));
    let size = reply.body().expose().len();
    assert!((1_000_000..1_050_000).contains(&size), "{size}");
    let codes = outcomes(&serde_json::from_str(&body_of(&reply)).unwrap());
    let fitting = codes.iter().filter(|code| *code != "TooLarge").count();
    assert_eq!(fitting, 40, "40 of 25 KiB fit, and none of 150");
    // One that did not fit is read alone.
    assert_eq!(gateway.read("n-49").1, "OK");
}

#[test]
fn details_are_those_of_key_vault() {
    let id = format!("https://my-vault.vault.azure.net/secrets/a/{VERSION}");
    let bundle = json!({"value": "v", "id": id, "contentType": "application/x-pkcs12",
        "attributes": {"enabled": true, "created": 1_735_689_599, "updated": 0, "nbf": 86_400, "exp": 4_102_444_800_u64},
        "tags": {"team": "a", "note": "\"quoted\""}})
    .to_string();
    let gateway = Scripted::new(&[]).with_script([token(3600), answer(200, bundle), secret("b", "w")]);
    let details = json!({"Version": VERSION, "ContentType": "application/x-pkcs12", "Enabled": true,
        "Created": "2024-12-31T23:59:59Z", "Updated": "1970-01-01T00:00:00Z", "NotBefore": "1970-01-02T00:00:00Z",
        "Expires": "2100-01-01T00:00:00Z", "Tags": {"team": "a", "note": "\"quoted\""}});
    let body = post(&gateway, r#"{"Secrets": ["a", "b"], "Details": true}"#);
    assert_eq!(body["Secrets"][0], json!({"Secret": "a", "Value": "v", "Details": details}));
    assert_eq!(body["Secrets"][1]["Details"], json!({"Version": VERSION, "Tags": {}}));
    // They are cached with the value, for a request for one secret as well, and only for one that wants them.
    let single = gateway.post("/", r#"{"Secret": "a", "details": true}"#);
    let single: Value = serde_json::from_str(&body_of(&single)).unwrap();
    assert_eq!(single, json!({"Secret": "a", "Value": "v", "Details": details}));
    assert_eq!(body_of(&gateway.post("/", &request_for("a"))), r#"{"Secret":"a","Value":"v"}"#);
    assert_eq!(gateway.calls().len(), 3);
    assert!(!gateway.log().join("").contains("pkcs12"));
}

#[test]
fn secrets_are_read_eight_at_a_time() {
    let gateway = Scripted::new(&[]).with_script([token(3600)]);
    gateway.script((0..20).map(|number| secret(&format!("n-{number}"), "v").held()));
    let names: Vec<_> = (0..20).map(|number| format!("n-{number}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let mut request = gateway.start("POST", "/api/GetKeyVaultSecrets", &WITH_KEY, &list(&names));
    for released in 0..20 {
        assert!(request.reply().is_none());
        assert_eq!(gateway.calls().len() - 1, usize::min(8 + released, 20));
        gateway.release();
    }
    let reply = request.reply().unwrap();
    assert_eq!(outcomes(&serde_json::from_str(&body_of(&reply)).unwrap()), ["v"; 20]);
}

#[test]
fn an_instance_reads_thirty_two_at_a_time_and_one_for_each_request() {
    let gateway = Scripted::new(&[]).with_script([token(3600)]);
    let names: Vec<_> = (0..50).map(|number| format!("n-{number}")).collect();
    gateway.script(names.iter().map(|name| secret(name, "v").held()));
    let requests = names.chunks(10).map(|names| {
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        gateway.start("POST", "/api/GetKeyVaultSecrets", &WITH_KEY, &list(&names))
    });
    let mut requests: Vec<_> = requests.collect();
    assert_eq!(gateway.calls().len() - 1, 4 * 8 + 1);
    for calls in [4 * 8 + 1, 4 * 8 + 2] {
        gateway.release();
        for request in &mut requests {
            assert!(request.reply().is_none());
        }
        assert_eq!(gateway.calls().len() - 1, calls, "with one less than 32 another one is read");
    }
}

#[test]
fn a_client_that_hangs_up_leaves_its_reads_and_its_room() {
    let gateway =
        Scripted::new(&[("GATEWAY_CACHE_TTL_SECONDS", "0"), ("GATEWAY_CALLER_CALLS_PER_SECOND", "0")])
            .with_script([token(3600)]);
    let value = "x".repeat(25 * 1024);
    let names: Vec<_> = (0..8).map(|number| format!("n-{number}")).collect();
    let body = list(&names.iter().map(String::as_str).collect::<Vec<_>>());
    // Fifty times seven values are more than 8 MiB.
    for _ in 0..50 {
        gateway.script(names[..7].iter().map(|name| secret(name, &value)));
        gateway.script([secret("n-7", &value).held()]);
        drop(gateway.start("POST", "/api/GetKeyVaultSecrets", &WITH_KEY, &body));
    }
    let calls = gateway.calls().len();
    gateway.script(names.iter().map(|name| secret(name, &value).held()));
    let mut request = gateway.start("POST", "/api/GetKeyVaultSecrets", &WITH_KEY, &body);
    assert_eq!(gateway.calls().len() - calls, 8);
    let reply = loop {
        gateway.release();
        if let Some(reply) = request.reply() {
            break reply;
        }
    };
    assert_eq!(outcomes(&serde_json::from_str(&body_of(&reply)).unwrap()), [value.as_str(); 8]);
}

#[test]
fn what_the_settings_name_is_read_after_the_first_answer() {
    let settings = [("GATEWAY_PREFETCH", "a, b,c"), ("GATEWAY_CALLER_CALLS_PER_SECOND", "1")];
    let gateway = Scripted::new(&settings).with_script([token(3600)]);
    // Neither a probe nor a request without a good key causes a call.
    assert_eq!(gateway.get("/readyz").status(), 200);
    assert_eq!(gateway.request("POST", "/", &[JSON], &request_for("a")).code(), "Unauthorized");
    assert!(!gateway.refresh_ahead());
    gateway.script([secret("z", "v")]);
    assert_eq!((gateway.read("z").1, gateway.calls().len()), ("OK", 2));
    gateway.script([secret("a", "v1"), not_found(), secret("c", "v3")]);
    assert!(gateway.refresh_ahead());
    assert_eq!(gateway.calls().len(), 5);
    let errors: Vec<_> = gateway.log().into_iter().filter(|line| line.contains("\"item\"")).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(
        errors[0].contains(r#""level":"info""#)
            && errors[0].contains(r#""secret":"b","item":"SecretNotFound""#)
    );
    assert_eq!(outcomes(&post(&gateway, &list(&["a", "b", "c"]))), ["v1", "SecretNotFound", "v3"]);
    assert!(!gateway.refresh_ahead());
    assert_eq!(gateway.calls().len(), 5);
}
