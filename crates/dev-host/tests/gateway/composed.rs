//! The composed examples under the real host: secrets by function call.

use dev_host::{agent, wait_for};
use http::StatusCode;
use keyvault_emulator::{Effect, Fault, Refusal, Source, Upstream};

use crate::harness::{Harness, RESPONSE_TIMEOUT, REUSED_INSTANCES, SECRET, VALUE};
use crate::in_parallel;

/// The application that reads its configuration, for both versions of WASI.
const CONFIGURED: [&str; 2] = ["configured-proxy", "configured-service"];

#[test]
fn an_application_reads_secrets_as_configuration() {
    for application in CONFIGURED {
        let with_version = "@Microsoft.KeyVault(SecretUri={vault}/secrets/Integration-Team-Blog/{version}/)";
        let configuration =
            [("greeting", "hello"), ("password", REFERENCE), ("pinned", with_version), ("empty", "")];
        let harness = start(application, &configuration, &[], &REUSED_INSTANCES);
        for (key, response) in [
            ("greeting", (200, "hello")),
            ("password", (200, VALUE)),
            ("pinned", (200, VALUE)),
            ("empty", (200, "")),
            ("missing", (404, "There is no such key.")),
            ("password", (200, VALUE)),
        ] {
            assert_eq!(get(&harness, key), (response.0, response.1.to_owned()), "{application}: {key}");
        }
        let all = format!("empty = \ngreeting = hello\npassword = {VALUE}\npinned = {VALUE}\n");
        assert_eq!(get(&harness, ""), (200, all), "{application}");
        let calls = harness.emulator.vault_calls();
        assert!(calls.iter().any(|call| call.path.ends_with(&harness.version)), "{application}");
    }
}

#[test]
fn an_unresolvable_reference_is_an_error() {
    let elsewhere = "@Microsoft.KeyVault(SecretUri=https://other.vault.azure.net/secrets/db-password)";
    for application in CONFIGURED {
        let cases = [
            ("no-reference", "@Microsoft.KeyVault(db)", "this is no reference to a secret of Key Vault"),
            ("elsewhere", elsewhere, "the gateway reads from another vault"),
            ("not-there", "{secrets}/not-there)", "there is no such secret"),
            ("no-name", "{secrets}/a_b)", "this is not the name of a secret"),
            ("ops", "{secrets}/ops)", "GATEWAY_CALLERS does not give this secret to the caller composed"),
            ("off", "{secrets}/db-off)", "the secret is disabled"),
        ];
        let secrets = "@Microsoft.KeyVault(SecretUri={vault}/secrets";
        let configuration = cases.map(|(key, reference, _)| (key, reference.replace("{secrets}", secrets)));
        let configuration = configuration.each_ref().map(|(key, reference)| (*key, reference.as_str()));
        let callers = ("GATEWAY_CALLERS", r#"[{"name":"composed","secrets":["db-*","not-*"]}]"#);
        let harness = start(application, &configuration, &[callers], &REUSED_INSTANCES);
        harness.emulator.set_secret("ops", "for others").unwrap();
        harness.emulator.set_secret("db-off", "disabled").unwrap();
        harness.emulator.enable_secret("db-off", false).unwrap();
        for (key, _, reason) in cases {
            assert_eq!(get(&harness, key), (500, format!("{key}: {reason}")), "{application}");
        }
        // One wrong reference fails the request for all keys.
        let (status, text) = get(&harness, "");
        assert!(status == 500 && text.contains(": "), "{application}: {text}");
    }
}

#[test]
fn azure_errors_are_reported_without_azures_text() {
    let configuration = [("password", REFERENCE)];
    let single_use = ["--max-instance-reuse-count", "1"];
    let harness = start("configured-proxy", &configuration, &[], &single_use);
    let [rbac, broken] = [Effect::Refuse(Refusal::ForbiddenByRbac), Effect::BrokenJson];
    let [throttled, down, bad] =
        [429, 503, 400].map(|status| Effect::Status(StatusCode::from_u16(status).unwrap()));
    for (upstream, effect, reason) in [
        (Upstream::Vault, rbac, "Key Vault does not let the gateway read the secret"),
        (Upstream::Vault, broken, "Key Vault gave the gateway an answer that cannot be used"),
        (Upstream::Vault, throttled, "Azure received too many requests; try again in "),
        (Upstream::Vault, down, "Azure is not available; again in "),
        (Upstream::Token, bad, "the token source gave the gateway no token"),
    ] {
        harness.emulator.fault(Fault::new(upstream, effect));
        let (status, text) = get(&harness, "password");
        assert!(status == 500 && text.starts_with(&format!("password: {reason}")), "{text}");
        harness.emulator.clear_faults();
    }
    assert_eq!(get(&harness, "password"), (200, VALUE.to_owned()));

    let short = ("GATEWAY_DEADLINE_SECONDS", "1");
    let harness = start("configured-proxy", &configuration, &[short], &single_use);
    harness.emulator.fault(Fault::new(Upstream::Any, Effect::HangBeforeHeaders));
    assert_eq!(get(&harness, "password"), (500, "password: there was no answer in time".to_owned()));

    let configuration = [("password", REFERENCE), ("greeting", "hello")];
    let harness = start("configured-service", &configuration, &[("KeyVaultUri", "")], &REUSED_INSTANCES);
    let missing = "password: the gateway's setting KeyVaultUri is missing or wrong".to_owned();
    assert_eq!(get(&harness, "password"), (500, missing));
    // A value without a reference needs no gateway.
    assert_eq!(get(&harness, "greeting"), (200, "hello".to_owned()));
    assert_eq!(harness.calls(), (0, 0));
}

#[test]
fn an_application_reads_values_and_typed_errors() {
    let harness = start("awaiting", &[], &[], &REUSED_INSTANCES);
    harness.emulator.set_secret("off", "disabled").unwrap();
    harness.emulator.enable_secret("off", false).unwrap();
    for (name, response) in [
        (SECRET, (200, VALUE)),
        ("INTEGRATION-team-blog", (200, VALUE)),
        ("not-there", (500, "Error::NotFound")),
        ("a_b", (500, "Error::InvalidName")),
        ("off", (500, "Error::Disabled")),
    ] {
        assert_eq!(get(&harness, name), (response.0, response.1.to_owned()), "{name}");
    }
    let rotated = harness.emulator.set_secret(SECRET, "rotated value").unwrap();
    assert_eq!(get(&harness, SECRET), (200, VALUE.to_owned()));
    // A value that was fetched less than a second ago is not fetched again.
    let read_fresh = || Some(get(&harness, &format!("{SECRET}?again")));
    let fresh = || read_fresh().filter(|(_, text)| text.starts_with("rotated value"));
    let (status, text) = wait_for("a new value", fresh);
    assert!(status == 200 && text.starts_with(&format!("rotated value (version {rotated}, ")), "{text}");
    assert_eq!(get(&harness, SECRET), (200, "rotated value".to_owned()));
    harness.emulator.fault(Fault::new(Upstream::Vault, Effect::BrokenJson));
    assert_eq!(get(&harness, "broken"), (500, "Error::Vault".to_owned()));
}

/// Each instance makes one token call, and one vault call for each secret.
#[test]
fn an_instance_reads_each_secret_once() {
    for (application, path) in
        [("awaiting", SECRET), ("configured-proxy", "password"), ("configured-service", "password")]
    {
        let mut harness = start(application, &[("password", REFERENCE)], &[], &REUSED_INSTANCES);
        in_parallel(16, || {
            for _ in 0..25 {
                assert_eq!(get(&harness, path), (200, VALUE.to_owned()), "{application}");
            }
        });
        let (tokens, secrets) = harness.calls();
        assert_eq!(tokens, secrets, "{application}");
        // Only reads that call Azure have a log line.
        let log = harness.server.stop().join("\n");
        let called = log.matches(r#""cache":"miss","upstream":2"#).count();
        assert_eq!((called, log.contains(r#""cache":"hit""#)), (secrets, false), "{application}: {log}");
        // An instance of WASI 0.2 is free only when its guest has returned, which is after the response: the
        // client's next request may start another instance.
        assert!(tokens <= 32, "{application}: {tokens}");
    }
}

/// Starts a composed application with this configuration and additional settings of the gateway.
fn start(name: &str, configuration: &[(&str, &str)], settings: &[(&str, &str)], reuse: &[&str]) -> Harness {
    let variables: Vec<_> =
        configuration.iter().map(|(key, value)| format!("-Sconfig-var={key}={value}")).collect();
    let variables = variables.iter().map(String::as_str);
    let options: Vec<_> = ["-Sconfig", "--no-logging-prefix"].into_iter().chain(variables).collect();
    let settings = [&[("GATEWAY_KEY", "")], settings].concat();
    Harness::start_with(name, Source::AppService2019, &settings, &[reuse, &options].concat())
}

/// Returns the status and the text of the response to `GET /PATH`.
fn get(harness: &Harness, path: &str) -> (u16, String) {
    let mut response = agent(RESPONSE_TIMEOUT).get(harness.server.url(&format!("/{path}"))).call().unwrap();
    let (status, text) = (response.status().as_u16(), response.body_mut().read_to_string().unwrap());
    harness.expect_nothing_private(status, "", &text);
    (status, text)
}

/// A reference to [`SECRET`].
const REFERENCE: &str = "@Microsoft.KeyVault(SecretUri={vault}/secrets/Integration-Team-Blog)";
