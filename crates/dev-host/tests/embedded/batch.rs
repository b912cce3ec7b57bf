//! Several secrets in one request, in the built components.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt as _;
use keyvault_emulator::{Effect, Emulator, Fault, Refusal, Source, Upstream};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use wasmtime_wasi_http::WasiBody;

use crate::gateway::{Gateway, World, full, in_both_worlds, in_virtual_time, request, request_for};

fn several(names: &[String]) -> Request<WasiBody> {
    let mut request = request(full(json!({ "Secrets": names }).to_string()));
    *request.uri_mut() = "/api/GetKeyVaultSecrets".parse().unwrap();
    request
}

/// Gives a request the key of [`CALLERS`].
fn as_caller(mut request: Request<WasiBody>) -> Request<WasiBody> {
    request.headers_mut().insert("x-functions-key", "a".parse().unwrap());
    request
}

/// Fifty secrets, of which some are missing, disabled, out of scope and throttled.
fn vault() -> (Emulator, Vec<String>) {
    let emulator = Emulator::new();
    // The throttled ones last: after a 429 the gateway leaves the whole vault alone for a while.
    let kind = |number: usize| {
        if number < 44 { ["app", "app", "missing", "disabled", "ops"][number % 5] } else { "throttled" }
    };
    let names: Vec<_> = (0..50).map(|number| format!("{}-{number}", kind(number))).collect();
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
        let settings = [("GATEWAY_CALLERS", CALLERS), ("GATEWAY_DEADLINE_SECONDS", "5")];
        let gateway = |emulator| Gateway::new(world, emulator, Source::AppService2019, &settings);
        let start = Instant::now();
        let together = gateway(&emulator);
        let response = together.send(as_caller(several(&names))).await;
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
            let response = single.exchange(as_caller(request_for(name))).await;
            assert_eq!(entry["Error"], response.json()["error"], "{world:?} {name}");
        }
    });
}

/// Four requests have all 32 reads of an instance for a second. The fifth has one, which takes longer than
/// theirs: it has to be woken when theirs end.
#[test]
fn a_request_goes_on_when_the_reads_of_others_end() {
    in_virtual_time(async {
        let emulator = Emulator::new();
        let names: Vec<_> = (0..40).map(|number| format!("delayed-{number}")).collect();
        for (index, name) in names.iter().enumerate() {
            emulator.set_secret(name, "value").unwrap();
            let seconds = if index < 32 { 1 } else { 3 };
            let delay = Fault::new(Upstream::Vault, Effect::Truth).secret(name);
            emulator.fault(delay.delay(Duration::from_secs(seconds)));
        }
        let gateway = Arc::new(Gateway::new(World::Service, &emulator, Source::AppService2019, &[]));
        let start = Instant::now();
        let mut requests = Vec::new();
        for wanted in names.chunks(8) {
            let (gateway, request) = (Arc::clone(&gateway), several(wanted));
            requests.push(tokio::spawn(async move {
                gateway.exchange(request).await.expect((200, ""), World::Service);
                start.elapsed()
            }));
            // An instance takes another request only while it waits.
            sleep(Duration::from_millis(1)).await;
        }
        let mut ends = Vec::new();
        for request in requests {
            ends.push(request.await.unwrap());
        }
        gateway.wait_until_idle().await;
        // One read of the last request takes three seconds from the start, and the others from the first
        // second.
        let last = ends.iter().max().unwrap();
        assert!((Duration::from_secs(4)..Duration::from_secs(5)).contains(last), "{ends:?}");
        assert_eq!(gateway.instances(), 1);
    });
}

/// As many requests as the own host has in progress at a time. Together the values would be 1.2 GB: the
/// instance keeps its bound, and some of the requests too.
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
        gateway.observed.crowded.store(true, Relaxed);
        let mut requests = Vec::new();
        for number in 0..REQUESTS {
            let wanted: Vec<_> =
                (0..50).map(|index| names[(number * 47 + index * 13) % names.len()].clone()).collect();
            let gateway = Arc::clone(&gateway);
            requests.push(tokio::spawn(async move {
                let response = gateway.exchange_head(several(&wanted)).await;
                assert_eq!(response.status(), 200);
                response.into_body().collect().await.unwrap().to_bytes()
            }));
            // An instance takes another request only while it waits.
            sleep(Duration::from_millis(1)).await;
        }
        let (mut read, mut without_room) = (0, 0);
        for request in requests {
            let body: Value = serde_json::from_slice(&request.await.unwrap()).unwrap();
            for entry in body["Secrets"].as_array().unwrap() {
                let code = entry["Error"]["code"].as_str();
                assert!([None, Some("TooLarge"), Some("Timeout")].contains(&code), "{entry}");
                read += usize::from(code.is_none());
                without_room += usize::from(code == Some("TooLarge"));
            }
        }
        gateway.wait_until_idle().await;
        // The leak search would take a minute for these.
        gateway.observed.calls.lock().unwrap().clear();
        let memory = gateway.observed.memory.load(Relaxed);
        println!("{memory} bytes, {read} read, {without_room} without room");
        assert!(
            memory <= 56 << 20 && gateway.instances() == 1,
            "{memory} bytes, {} instances",
            gateway.instances()
        );
        assert!(read > 500 && without_room > 500, "{read} {without_room}");
    });
}

const REQUESTS: usize = 128;

/// A caller with the key `a`, by its SHA-256.
const CALLERS: &str = r#"[{"name": "app", "secrets": ["app-*", "missing-*", "disabled-*", "throttled-*"],
    "key_sha256": ["ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"]}]"#;
