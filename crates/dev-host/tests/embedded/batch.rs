//! Several secrets in one request, in the built components.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Request;
use keyvault_emulator::{Effect, Emulator, Fault, Refusal, Source, Upstream};
use serde_json::{Value, json};
use tokio::time::Instant;
use wasmtime_wasi_http::WasiBody;

use crate::gateway::{Gateway, World, full, in_both_worlds, in_virtual_time, request, request_for};

fn several(names: &[String]) -> Request<WasiBody> {
    let mut request = request(full(json!({ "Secrets": names }).to_string()));
    *request.uri_mut() = "/api/GetKeyVaultSecrets".parse().unwrap();
    request
}

/// Fifty secrets, of which some are missing, disabled, out of scope and throttled.
fn vault() -> (Emulator, Vec<String>) {
    let emulator = Emulator::new();
    let names: Vec<_> = (0..50)
        .map(|number| {
            format!("{}-{number}", ["app", "app", "missing", "disabled", "ops", "throttled"][number % 6])
        })
        .collect();
    for name in names.iter().filter(|name| !name.starts_with("missing")) {
        emulator.set_secret(name, &format!("value of {name}")).unwrap();
        if name.starts_with("disabled") {
            emulator.enable_secret(name, false).unwrap();
        }
        if name.starts_with("throttled") {
            emulator.fault(Fault::refuse(Refusal::Throttled).secret(name).retry_after("7"));
        }
    }
    (emulator, names)
}

#[test]
fn fifty_secrets_have_the_outcomes_of_single_reads_in_one_answer() {
    in_both_worlds(async |world| {
        let (emulator, names) = vault();
        let settings = [("GATEWAY_KEY", ""), ("GATEWAY_CALLERS", CALLERS), ("GATEWAY_DEADLINE_SECONDS", "5")];
        let gateway = |emulator| Gateway::new(world, emulator, Source::AppService2019, &settings);
        let start = Instant::now();
        let together = gateway(&emulator);
        let response = together.send(several(&names)).await;
        response.expect((200, ""), world);
        assert!(start.elapsed() <= Duration::from_millis(5100), "{world:?} {:?}", start.elapsed());
        assert_eq!(response.field("retry-after"), "7", "{world:?}");
        let body: Value = response.json();
        let entries = body["Secrets"].as_array().unwrap();
        assert_eq!(entries.len(), 50);
        for (name, entry) in names.iter().zip(entries) {
            assert_eq!(entry["Secret"], name.as_str());
            let kind = name.split('-').next().unwrap();
            let expected = match kind {
                "app" => {
                    assert_eq!(entry["Value"], format!("value of {name}"), "{world:?}");
                    continue;
                }
                "missing" => "SecretNotFound",
                "disabled" => "SecretDisabled",
                "ops" => "Forbidden",
                _ => "VaultThrottled",
            };
            assert_eq!(entry["Error"]["code"], expected, "{world:?} {name}");
            // A request of its own says the same.
            let single = gateway(&emulator);
            let response = single.exchange(request_for(name)).await;
            assert_eq!(entry["Error"], response.json()["error"], "{world:?} {name}");
        }
    });
}

/// 128 requests of which each wants 50 of the largest values, which would be 160 MB: an instance keeps its bound.
#[test]
fn requests_for_many_large_values_do_not_fill_the_memory() {
    in_virtual_time(async {
        let emulator = Emulator::new();
        let value = "x".repeat(25 * 1024);
        let names: Vec<_> = (0..600).map(|number| format!("large-{number}")).collect();
        for name in &names {
            emulator.set_secret(name, &value).unwrap();
        }
        emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_millis(20)));
        let settings = [("GATEWAY_CALLER_CALLS_PER_SECOND", "0")];
        let gateway = Arc::new(Gateway::new(World::Service, &emulator, Source::AppService2019, &settings));
        let mut requests = Vec::new();
        for number in 0..128 {
            let wanted: Vec<_> =
                (0..50).map(|index| names[(number * 47 + index * 13) % names.len()].clone()).collect();
            let gateway = Arc::clone(&gateway);
            requests.push(tokio::spawn(async move { gateway.exchange(several(&wanted)).await }));
        }
        let (mut read, mut without_room) = (0, 0);
        for request in requests {
            let response = request.await.unwrap();
            assert_eq!(response.status, 200);
            for entry in response.json()["Secrets"].as_array().unwrap() {
                let code = entry["Error"]["code"].as_str();
                assert!([None, Some("TooLarge"), Some("Timeout")].contains(&code), "{entry}");
                read += usize::from(code.is_none());
                without_room += usize::from(code == Some("TooLarge"));
            }
        }
        gateway.wait_until_idle().await;
        let memory = gateway.observed.memory.load(Relaxed);
        assert!(
            memory <= 56 << 20 && gateway.instances() == 1,
            "{memory} bytes, {} instances",
            gateway.instances()
        );
        assert!(read > 500 && without_room > 500, "{read} {without_room}");
    });
}

/// The caller of [`KEY`](crate::gateway::KEY), by the SHA-256 of that.
const CALLERS: &str = r#"[{"name": "app", "secrets": ["app-*", "missing-*", "disabled-*", "throttled-*"],
    "key_sha256": ["58366e9ef1ced01d47c9af84deecb613be45a9b742f996e5a1b703bccee3845c"]}]"#;
