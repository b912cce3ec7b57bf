//! Every scenario in which private text could leave the gateway, with marked private text.
//!
//! Each test of this program has a leak search. These scenarios combine every token source without a file,
//! every fault of a call and every kind of request. The full product has 90,000 requests for each world. The
//! test covers all pairs of source and fault, of source and request, and of fault and request if the request
//! leads to a call; a request that is refused earlier meets some faults.

mod azure_faults;
mod requests;

use std::collections::{BTreeMap, BTreeSet};

use keyvault_emulator::{Emulator, Fault, Source, Upstream, facts};
use serde_json::{Value, json};
use testkit::leaks::Private;

use self::azure_faults::{azure_faults, configuration_responses, jwks_responses};
use self::requests::{Case, cases};
use crate::faults::{connection_faults, statuses};
use crate::gateway::{Gateway, REQUEST, SOURCES_WITHOUT_FILE, WAYS, World, azure, in_virtual_time, settings};

#[test]
fn no_scenario_leaks_private_text() {
    let coverage = std::thread::scope(|threads| {
        let worlds = WAYS.map(|world| threads.spawn(move || in_world(world)));
        worlds.map(|thread| thread.join().expect("no leak"))
    });
    for (world, coverage) in WAYS.into_iter().zip(coverage) {
        let codes: BTreeSet<&str> = coverage.outcomes.iter().map(|outcome| outcome.1.as_str()).collect();
        // Only one of several secrets is too large, never a response.
        for code in contract_codes().into_iter().filter(|code| code != "TooLarge") {
            assert!(codes.contains(code.as_str()), "{world:?} did not cover {code}: {codes:?}");
        }
        assert!(coverage.outcomes.len() >= MIN_OUTCOMES, "{world:?}: {:?}", coverage.outcomes);
        assert!(coverage.calls > 1500 && coverage.bytes > 1_000_000, "{world:?}: {coverage:?}");
    }
}

/// The coverage of one world's scenarios.
#[derive(Debug, Default)]
struct Coverage {
    calls: usize,
    bytes: usize,
    /// The statuses and error codes of responses; a code is empty if the response is not an error.
    outcomes: BTreeSet<(u16, String)>,
    /// The requests that got a secret, or the vault's refusal.
    answered: BTreeSet<&'static str>,
}

fn in_world(world: World) -> Coverage {
    let mut coverage = Coverage::default();
    let cases: Vec<Case> = cases();
    let all: Vec<&Case> = cases.iter().collect();
    for source in SOURCES_WITHOUT_FILE {
        // First without any fault.
        in_virtual_time(send_all(world, source, &[], &all, &mut coverage));
    }
    let (answered, refused): (Vec<&Case>, Vec<&Case>) =
        all.into_iter().partition(|case| coverage.answered.contains(case.name));
    assert!(answered.len() > 12 && refused.len() > 28, "{world:?}: {coverage:?}");
    for (row, fault) in azure_faults().into_iter().enumerate() {
        for (column, source) in SOURCES_WITHOUT_FILE.into_iter().enumerate() {
            // Each pair of fault and source gets another part of the requests that lead to calls.
            let part = answered.iter().skip((row + column) % SOURCE_COUNT).step_by(SOURCE_COUNT);
            let few = refused.iter().skip((row * SOURCE_COUNT + column) % 31).step_by(31);
            let some: Vec<&Case> = part.chain(few).copied().collect();
            in_virtual_time(send_all(world, source, std::slice::from_ref(&fault), &some, &mut coverage));
        }
    }
    let has_token = |case: &&Case| case.name.contains("token of the tenant");
    let token_requests: Vec<&Case> = cases.iter().filter(has_token).collect();
    assert!(token_requests.len() > 5, "{world:?}");
    for effect in connection_faults().into_iter().chain(statuses()).chain(jwks_responses()) {
        let fault = Fault::new(Upstream::SigningKeys, effect);
        in_virtual_time(send_all(world, Source::Imds, &[fault], &token_requests, &mut coverage));
    }
    let has_platform_token = |case: &&Case| case.name.contains("token of the cluster");
    let token_requests: Vec<&Case> = cases.iter().filter(has_platform_token).collect();
    assert!(token_requests.len() > 5, "{world:?}");
    let documents = jwks_responses().chain(configuration_responses());
    for effect in connection_faults().into_iter().chain(statuses()).chain(documents) {
        let fault = Fault::new(Upstream::Issuers, effect);
        in_virtual_time(send_all(world, Source::Imds, &[fault], &token_requests, &mut coverage));
    }
    for (name, wrong) in [
        ("KeyVaultUri", format!("https://{SETTING_MARK}@demo.vault.azure.net")),
        ("IDENTITY_HEADER", format!("{SETTING_MARK} {SETTING_MARK}")),
        ("GATEWAY_KEY", format!("{SETTING_MARK} {SETTING_MARK}")),
        ("GATEWAY_CALLERS", format!("[{{\"name\":\"{SETTING_MARK}\",\"{SETTING_MARK}\":1,\"secrets\":[]}}]")),
        ("GATEWAY_CALLERS", callers(SETTING_MARK)),
        ("GATEWAY_OIDC", format!("[{{\"issuer\":\"http://{SETTING_MARK}.example\",\"audience\":\"a\"}}]")),
        ("GATEWAY_LOG", SETTING_MARK.to_owned()),
    ] {
        in_virtual_time(misconfigured(world, name, wrong, &mut coverage));
    }
    coverage
}

/// Sends these requests to a gateway whose upstream has these faults.
async fn send_all(world: World, source: Source, faults: &[Fault], cases: &[&Case], coverage: &mut Coverage) {
    let emulator = azure();
    emulator.set_secret(DISABLED, DISABLED_VALUE).unwrap();
    emulator.enable_secret(DISABLED, false).unwrap();
    faults.iter().for_each(|fault| emulator.fault(fault.clone()));
    let gateway = gateway(world, &emulator, settings(&emulator, source));
    let right = Case::post("the right request", REQUEST).with("cache-control", "no-cache");
    for case in [&[&right], cases].concat() {
        coverage.add(case.name, &gateway.send(case.request()).await);
    }
    let met = emulator.journal().iter().any(|call| call.fault.is_some());
    assert_eq!(met, !faults.is_empty(), "{world:?} {source:?} {faults:?}");
    coverage.add_searched(gateway);
}

/// Starts a gateway with a wrong setting. The response names the setting and nothing shows its value.
async fn misconfigured(world: World, name: &'static str, wrong: String, coverage: &mut Coverage) {
    let emulator = azure();
    let mut settings = settings(&emulator, Source::AppService2019);
    settings.push((name, wrong));
    let gateway = gateway(world, &emulator, settings);
    for case in [Case::post("a wrong setting", REQUEST), Case::get("readiness", "/readyz")] {
        let response = gateway.send(case.request()).await;
        let json = response.json();
        assert_eq!(json["error"]["code"], "ConfigurationError", "{world:?} {name} {response:?}");
        assert!(json["error"]["message"].to_string().contains(name), "{name} {response:?}");
        coverage.add(case.name, &response);
    }
    assert_eq!(emulator.journal(), [], "{world:?} {name}");
    coverage.add_searched(gateway);
}

impl Coverage {
    fn add(&mut self, case: &'static str, response: &crate::gateway::Response) {
        let code = if response.status == 200 {
            String::new()
        } else {
            let json = response.json();
            json["error"]["code"].as_str().unwrap_or_else(|| panic!("{case}: {response:?}")).to_owned()
        };
        if code.is_empty() || code.starts_with("Secret") {
            self.answered.insert(case);
        }
        self.outcomes.insert((response.status, code));
    }

    fn add_searched(&mut self, gateway: Gateway) {
        let leaks = gateway.leaks();
        (self.calls, self.bytes) = (self.calls + leaks.calls, self.bytes + leaks.bytes);
    }
}

/// Starts a gateway with debug logs, two callers and marked private text.
fn gateway(world: World, emulator: &Emulator, settings: Vec<(&'static str, String)>) -> Gateway {
    let all = [
        ("GATEWAY_LOG", "debug".to_owned()),
        ("GATEWAY_DEADLINE_SECONDS", "7".to_owned()),
        ("GATEWAY_CALLERS", callers(SCOPED_KEY_HASH)),
        ("GATEWAY_JWT_TENANT", facts::TENANT.to_owned()),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE.to_owned()),
        ("GATEWAY_OIDC", json!([{"issuer": ISSUER, "audience": AUDIENCE}]).to_string()),
    ];
    // A later setting of the same name wins.
    let all: BTreeMap<_, _> = all.into_iter().chain(settings).collect();
    let gateway = Gateway::start(world, emulator, &Vec::from_iter(all));
    for (what, text) in [
        (Private::Value, DISABLED_VALUE),
        (Private::CallerKey, SCOPED_KEY),
        (Private::Setting, SCOPED_KEY_HASH),
        (Private::Setting, SETTING_MARK),
        (Private::Setting, AUDIENCE),
        (Private::Setting, ACCOUNT),
        (Private::Request, REQUEST_MARK),
        (Private::Request, NUMBER_MARK),
        (Private::Azure, AZURE_MARK),
    ] {
        gateway.leaks().add_private(what, text);
    }
    gateway
}

fn callers(hash: &str) -> String {
    let keyed = json!({"name": "billing", "key_sha256": [hash], "secrets": ["db-*"]});
    let bearer = json!({"name": "bearer", "oid": [facts::OBJECT_ID], "secrets": ["*"]});
    let account = json!({"name": "account", "iss": ISSUER, "sub": [ACCOUNT], "secrets": ["*"]});
    json!([keyed, bearer, account]).to_string()
}

/// Returns every error code of the API description, except the one of internal errors.
fn contract_codes() -> BTreeSet<String> {
    fn codes(document: &Value) -> Vec<String> {
        let listed = document["code"]["enum"].as_array().into_iter().flatten();
        let own = listed.filter_map(|code| code.as_str().map(str::to_owned));
        let (members, items) = (document.as_object(), document.as_array());
        let values = members.into_iter().flat_map(|members| members.values());
        own.chain(values.chain(items.into_iter().flatten()).flat_map(codes)).collect()
    }
    let document: Value = serde_json::from_str(include_str!("../../../../../src/openapi.json")).unwrap();
    let mut codes: BTreeSet<String> = codes(&document).into_iter().collect();
    codes.remove("InternalError");
    assert!(codes.len() >= 17, "{codes:?}");
    codes
}

const SOURCE_COUNT: usize = SOURCES_WITHOUT_FILE.len();

/// The number of different pairs of status and code that the scenarios must produce.
const MIN_OUTCOMES: usize = 21;

/// The name of a disabled secret.
const DISABLED: &str = "disabled-one";

const DISABLED_VALUE: &str = "marked-9a04-value-of-the-disabled";

/// The key of a caller that may read `db-*`, and its SHA-256.
const SCOPED_KEY: &str = "e2b7c04d-the-scoped-callers-key";
const SCOPED_KEY_HASH: &str = "539744405c3f7ba5b38eb0f4b2b582450ef97d0b5150af63189aa529005f0dce";

/// The audience of callers' access tokens.
const AUDIENCE: &str = "api://marked-5e0c9a7d-audience";

/// An issuer at the emulator's address, and the subject of a caller.
const ISSUER: &str = "http://127.0.0.1:41741/oidc/marked-0d51-cluster";
const ACCOUNT: &str = "system:serviceaccount:marked-6fe3:account";

/// The mark in requests.
const REQUEST_MARK: &str = "marked-4b1e7f90-sent-by-a-caller";

/// The mark in requests where only a number is possible.
const NUMBER_MARK: &str = "918273645546372819";

/// The mark in responses of Azure.
const AZURE_MARK: &str = "marked-c27d5a18-said-by-azure";

/// The mark in values of settings.
const SETTING_MARK: &str = "marked-77d0e3b6-held-by-a-setting";
