//! Every scenario in which something private could leave, with what is private marked.
//!
//! Each test of this program has its gateway watched. Here the scenarios are put together: every token source with
//! everything that can come of a call, and every way in which a request can be. The full product would be some 55,000
//! requests for each world. Of it every two of source and outcome meet, of source and way, and of outcome and way where
//! the way is one that Azure is asked for; a request that is refused before that meets some of the outcomes.

mod outcomes;
mod ways;

use std::collections::BTreeSet;

use keyvault_emulator::{Emulator, Fault, Source, Upstream, facts};
use serde_json::{Value, json};
use testkit::leaks::Private;

use self::outcomes::{outcomes, said_by_directory};
use self::ways::{Way, ways};
use crate::faults::{connection_faults, statuses};
use crate::gateway::{BOTH, Gateway, REQUEST, World, azure, in_virtual_time, settings};

#[test]
fn nothing_private_leaves_in_any_scenario() {
    let reached = std::thread::scope(|threads| {
        let worlds = BOTH.map(|world| threads.spawn(move || in_world(world)));
        worlds.map(|it| it.join().expect("nothing that leaves"))
    });
    for (world, reached) in BOTH.into_iter().zip(reached) {
        let codes: BTreeSet<&str> = reached.outcomes.iter().map(|it| it.1.as_str()).collect();
        for code in contract() {
            assert!(codes.contains(code.as_str()), "{world:?} has not seen {code}: {codes:?}");
        }
        assert!(reached.outcomes.len() >= LEAST_OUTCOMES, "{world:?}: {:?}", reached.outcomes);
        assert!(reached.calls > 1500 && reached.bytes > 1_000_000, "{world:?}: {reached:?}");
        println!("{world:?}: {} requests, {} calls", reached.requests, reached.calls);
    }
}

/// What one world's scenarios have come to.
#[derive(Debug, Default)]
struct Reached {
    requests: usize,
    calls: usize,
    bytes: usize,
    /// The statuses and codes of answers; a code is empty where the answer is no error.
    outcomes: BTreeSet<(u16, String)>,
    /// The ways that have been answered with what was asked for, or with what the vault says of it.
    answered: BTreeSet<&'static str>,
}

fn in_world(world: World) -> Reached {
    let mut reached = Reached::default();
    let ways: Vec<Way> = ways();
    let all: Vec<&Way> = ways.iter().collect();
    for (_, source) in Source::ALL {
        // Everything is well.
        in_virtual_time(ask(world, source, &[], &all, &mut reached));
    }
    let (answered, refused): (Vec<&Way>, Vec<&Way>) =
        all.into_iter().partition(|it| reached.answered.contains(it.name));
    assert!(answered.len() > 12 && refused.len() > 28, "{world:?}: {reached:?}");
    for (row, outcome) in outcomes().into_iter().enumerate() {
        for (column, (_, source)) in Source::ALL.into_iter().enumerate() {
            // A fifth of the ways that lead to Azure, the next outcome has the next fifth at this source, and so on.
            let fifth = answered.iter().skip((row + column) % 5).step_by(5);
            let few = refused.iter().skip((row * 5 + column) % 31).step_by(31);
            let some: Vec<&Way> = fifth.chain(few).copied().collect();
            in_virtual_time(ask(world, source, std::slice::from_ref(&outcome), &some, &mut reached));
        }
    }
    let bearers: Vec<&Way> = ways.iter().filter(|it| it.name.contains("token of the tenant")).collect();
    assert!(bearers.len() > 5, "{world:?}");
    for effect in connection_faults().into_iter().chain(statuses()).chain(said_by_directory()) {
        let fault = Fault::new(Upstream::SigningKeys, effect);
        in_virtual_time(ask(world, Source::Imds, &[fault], &bearers, &mut reached));
    }
    for (name, wrong) in [
        ("KeyVaultUri", format!("https://{SETTING}@demo.vault.azure.net")),
        ("IDENTITY_HEADER", format!("{SETTING} {SETTING}")),
        ("GATEWAY_KEY", format!("{SETTING} {SETTING}")),
        ("GATEWAY_CALLERS", format!("[{{\"name\":\"{SETTING}\",\"{SETTING}\":1,\"secrets\":[]}}]")),
        ("GATEWAY_CALLERS", callers(SETTING)),
        ("GATEWAY_LOG", SETTING.to_owned()),
    ] {
        in_virtual_time(misconfigured(world, name, wrong, &mut reached));
    }
    reached
}

/// A gateway whose upstream has these faults, asked in these ways.
async fn ask(world: World, source: Source, faults: &[Fault], ways: &[&Way], reached: &mut Reached) {
    let emulator = azure();
    emulator.set_secret(DISABLED, DISABLED_VALUE).unwrap();
    emulator.enable_secret(DISABLED, false).unwrap();
    faults.iter().for_each(|it| emulator.fault(it.clone()));
    let gateway = gateway(world, &emulator, settings(&emulator, source));
    let right = Way::post("the right request", REQUEST).with("cache-control", "no-cache");
    for way in [&[&right], ways].concat() {
        reached.see(way.name, &gateway.send(way.request()).await);
    }
    let met = emulator.journal().iter().any(|it| it.fault.is_some());
    assert_eq!(met, !faults.is_empty(), "{world:?} {source:?} {faults:?}");
    reached.look(gateway);
}

/// A gateway with a setting that is wrong. Its answer names the setting, and nothing shows what it holds.
async fn misconfigured(world: World, name: &'static str, wrong: String, reached: &mut Reached) {
    let emulator = azure();
    let mut settings = settings(&emulator, Source::AppService2019);
    settings.push((name, wrong));
    let gateway = gateway(world, &emulator, settings);
    for way in [Way::post("a wrong setting", REQUEST), Way::get("a wrong setting, and ready?", "/readyz")] {
        let answer = gateway.send(way.request()).await;
        let json = answer.json();
        assert_eq!(json["error"]["code"], "ConfigurationError", "{world:?} {name} {answer:?}");
        assert!(json["error"]["message"].as_str().is_some_and(|it| it.contains(name)), "{name} {answer:?}");
        reached.see(way.name, &answer);
    }
    assert_eq!(emulator.journal(), [], "{world:?} {name}");
    reached.look(gateway);
}

impl Reached {
    fn see(&mut self, way: &'static str, answer: &crate::gateway::Answer) {
        self.requests += 1;
        let code = if answer.status == 200 {
            String::new()
        } else {
            let json = answer.json();
            json["error"]["code"].as_str().unwrap_or_else(|| panic!("{way}: {answer:?}")).to_owned()
        };
        if code.is_empty() || code.starts_with("Secret") {
            self.answered.insert(way);
        }
        self.outcomes.insert((answer.status, code));
    }

    fn look(&mut self, gateway: Gateway) {
        let (calls, bytes) = gateway.searched();
        (self.calls, self.bytes) = (self.calls + calls, self.bytes + bytes);
    }
}

/// A gateway that logs all it can, for two callers, with everything marked.
fn gateway(world: World, emulator: &Emulator, mut settings: Vec<(&'static str, String)>) -> Gateway {
    let callers = callers(SCOPED_KEY_HASH);
    for (name, value) in [
        ("GATEWAY_LOG", "debug"),
        ("GATEWAY_DEADLINE_SECONDS", "7"),
        ("GATEWAY_CALLERS", &callers),
        ("GATEWAY_JWT_TENANT", facts::TENANT),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE),
    ] {
        if !settings.iter().any(|it| it.0 == name) {
            settings.push((name, value.to_owned()));
        }
    }
    // A later one of the same name wins.
    settings.reverse();
    let mut names = BTreeSet::new();
    settings.retain(|it| names.insert(it.0));
    let gateway = Gateway::start(world, emulator, &settings);
    for (what, text) in [
        (Private::Value, DISABLED_VALUE),
        (Private::CallerKey, SCOPED_KEY),
        (Private::Setting, SCOPED_KEY_HASH),
        (Private::Setting, SETTING),
        (Private::Setting, AUDIENCE),
        (Private::Request, SENT),
        (Private::Request, NUMBER),
        (Private::Azure, SAID),
    ] {
        gateway.hide(what, text);
    }
    gateway
}

fn callers(hash: &str) -> String {
    let keyed = json!({"name": "billing", "key_sha256": [hash], "secrets": ["db-*"]});
    let bearer = json!({"name": "bearer", "oid": [facts::OBJECT_ID], "secrets": ["*"]});
    json!([keyed, bearer]).to_string()
}

/// Every code that the description of the contract has, but for the one of what cannot happen.
fn contract() -> BTreeSet<String> {
    fn codes(document: &Value) -> Vec<String> {
        let listed = document["code"]["enum"].as_array().into_iter().flatten();
        let own = listed.filter_map(|code| code.as_str().map(str::to_owned));
        let (members, items) = (document.as_object(), document.as_array());
        let within = members.into_iter().flat_map(|it| it.values()).chain(items.into_iter().flatten());
        own.chain(within.flat_map(codes)).collect()
    }
    let document: Value = serde_json::from_str(include_str!("../../../../../src/openapi.json")).unwrap();
    let mut codes: BTreeSet<String> = codes(&document).into_iter().collect();
    codes.remove("InternalError");
    assert!(codes.len() >= 17, "{codes:?}");
    codes
}

/// Different pairs of a status and a code that the scenarios come to at the least.
const LEAST_OUTCOMES: usize = 21;

/// A secret that is there and disabled.
const DISABLED: &str = "disabled-one";

const DISABLED_VALUE: &str = "marked-9a04-value-of-the-disabled";

/// The key of a caller that may read `db-*`, and its SHA-256.
const SCOPED_KEY: &str = "e2b7c04d-the-scoped-callers-key";
const SCOPED_KEY_HASH: &str = "539744405c3f7ba5b38eb0f4b2b582450ef97d0b5150af63189aa529005f0dce";

/// The audience of callers' tokens.
const AUDIENCE: &str = "api://marked-5e0c9a7d-audience";

/// What a request has in it, beside what it is about.
const SENT: &str = "marked-4b1e7f90-sent-by-a-caller";

/// The same where only a number can stand.
const NUMBER: &str = "918273645546372819";

/// What Azure says, in any place where it says something.
const SAID: &str = "marked-c27d5a18-said-by-azure";

/// What a setting holds.
const SETTING: &str = "marked-77d0e3b6-held-by-a-setting";
