//! The examples, composed with the gateway, under the real host: secrets without HTTP.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread::scope;
use std::time::Duration;

use dev_host::{Launch, Server, agent, component, wait_for};
use http::StatusCode;
use keyvault_emulator::{Effect, Emulator, Fault, Refusal, Served, Source, Upstream};
use testkit::leaks::{Private, Search};
use tokio::runtime::Runtime;
use ureq::Agent;

/// The application that reads its configuration, in both versions of WASI.
const CONFIGURED: [&str; 2] = ["configured-proxy", "configured-service"];

#[test]
fn an_application_that_reads_its_configuration_prints_a_secret_that_it_could_not_have_reached() {
    for application in CONFIGURED {
        let with_version = "@Microsoft.KeyVault(SecretUri={vault}/secrets/db-password/{version}/)";
        let configuration =
            [("greeting", "hello"), ("password", REFERENCE), ("pinned", with_version), ("empty", "")];
        let rig = Rig::start(application, &configuration, &[]);
        for (key, answer) in [
            ("greeting", (200, "hello")),
            ("password", (200, VALUE)),
            ("pinned", (200, VALUE)),
            ("empty", (200, "")),
            ("missing", (404, "There is no such key.")),
            ("password", (200, VALUE)),
        ] {
            assert_eq!(rig.get(key), (answer.0, answer.1.to_owned()), "{application}: {key}");
        }
        let all = format!("empty = \ngreeting = hello\npassword = {VALUE}\npinned = {VALUE}\n");
        assert_eq!(rig.get(""), (200, all), "{application}");
        let calls = rig.emulator.vault_calls();
        assert!(calls.iter().any(|call| call.path.ends_with(&rig.version)), "{application}");
    }
}

#[test]
fn what_cannot_be_resolved_is_an_error_and_no_value() {
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
        let rig = Rig::start(application, &configuration, &[callers]);
        rig.emulator.set_secret("ops", "for others").unwrap();
        rig.emulator.set_secret("db-off", "disabled").unwrap();
        rig.emulator.enable_secret("db-off", false).unwrap();
        for (key, _, reason) in cases {
            assert_eq!(rig.get(key), (500, format!("{key}: {reason}")), "{application}");
        }
        // Of all of them, too, as one of them is wrong.
        let (status, text) = rig.get("");
        assert!(status == 500 && text.contains(": "), "{application}: {text}");
    }
}

#[test]
fn what_azure_has_against_it_is_told_in_words_of_ours() {
    let configuration = [("password", REFERENCE)];
    let without_memory = ["--max-instance-reuse-count", "1"];
    let start = |settings: &[(&str, &str)]| {
        Rig::start_with("configured-proxy", &configuration, settings, &without_memory)
    };
    let rig = start(&[]);
    let [rbac, broken] = [Effect::Refuse(Refusal::ForbiddenByRbac), Effect::BrokenJson];
    let [throttled, down, bad] = [429, 503, 400].map(|it| Effect::Status(StatusCode::from_u16(it).unwrap()));
    for (upstream, effect, reason) in [
        (Upstream::Vault, rbac, "Key Vault does not let the gateway read the secret"),
        (Upstream::Vault, broken, "Key Vault gave the gateway an answer that cannot be used"),
        (Upstream::Vault, throttled, "Azure has had too many requests; again in "),
        (Upstream::Vault, down, "Azure is not available; again in "),
        (Upstream::Token, bad, "the token source gave the gateway no token"),
    ] {
        rig.emulator.fault(Fault::new(upstream, effect));
        let (status, text) = rig.get("password");
        assert!(status == 500 && text.starts_with(&format!("password: {reason}")), "{text}");
        rig.emulator.clear_faults();
    }
    assert_eq!(rig.get("password"), (200, VALUE.to_owned()));

    let rig = start(&[("GATEWAY_DEADLINE_SECONDS", "1")]);
    rig.emulator.fault(Fault::new(Upstream::Any, Effect::HangBeforeHeaders));
    assert_eq!(rig.get("password"), (500, "password: there was no answer in time".to_owned()));

    let rig = Rig::start(
        "configured-service",
        &[("password", REFERENCE), ("greeting", "hello")],
        &[("KeyVaultUri", "")],
    );
    let missing = "password: the gateway's setting KeyVaultUri is missing or wrong".to_owned();
    assert_eq!(rig.get("password"), (500, missing));
    // What is no reference needs no gateway.
    assert_eq!(rig.get("greeting"), (200, "hello".to_owned()));
    assert_eq!(rig.calls(), (0, 0));
}

#[test]
fn an_application_that_asks_for_secrets_itself_gets_values_typed_errors_and_fresh_values() {
    let rig = Rig::start("awaiting", &[], &[]);
    rig.emulator.set_secret("off", "disabled").unwrap();
    rig.emulator.enable_secret("off", false).unwrap();
    for (name, answer) in [
        (SECRET, (200, VALUE)),
        ("DB-Password", (200, VALUE)),
        ("not-there", (500, "Error::NotFound")),
        ("a_b", (500, "Error::InvalidName")),
        ("off", (500, "Error::Disabled")),
    ] {
        assert_eq!(rig.get(name), (answer.0, answer.1.to_owned()), "{name}");
    }
    let rotated = rig.emulator.set_secret(SECRET, "another horse").unwrap();
    assert_eq!(rig.get(SECRET), (200, VALUE.to_owned()));
    // What was asked for a second ago or less is not asked for again.
    let fresh = || Some(rig.get(&format!("{SECRET}?again"))).filter(|it| it.1.starts_with("another horse"));
    let (status, text) = wait_for("a new value", fresh);
    assert!(status == 200 && text.starts_with(&format!("another horse (version {rotated}, ")), "{text}");
    assert_eq!(rig.get(SECRET), (200, "another horse".to_owned()));
    rig.emulator.fault(Fault::new(Upstream::Vault, Effect::BrokenJson));
    assert_eq!(rig.get("broken"), (500, "Error::Vault".to_owned()));
}

/// One token, and one call for each secret, in each instance that the host has started.
#[test]
fn what_many_ask_for_is_read_once_in_an_instance() {
    for (application, path) in
        [("awaiting", SECRET), ("configured-proxy", "password"), ("configured-service", "password")]
    {
        let mut rig = Rig::start(application, &[("password", REFERENCE)], &[]);
        at_once(16, || {
            for _ in 0..25 {
                assert_eq!(rig.get(path), (200, VALUE.to_owned()), "{application}");
            }
        });
        let (tokens, secrets) = rig.calls();
        assert_eq!(tokens, secrets, "{application}");
        // A read that called has a line in the log, and one from memory has none.
        let log = rig.server.end().join("\n");
        let called = log.matches(r#""cache":"miss","upstream":2"#).count();
        assert_eq!((called, log.contains(r#""cache":"hit""#)), (secrets, false), "{application}: {log}");
        // An instance of 0.2 is free only when its guest has returned, which is after the answer: its client may ask again
        // before, and gets another.
        assert!(tokens <= 32, "{application}: {tokens}");
    }
}

/// Does the same so many times at once.
fn at_once(times: usize, work: impl Fn() + Sync) {
    scope(|scope| (0..times).for_each(|_| drop(scope.spawn(&work))));
}

/// A composed application under `wasmtime serve`, and the emulator that its gateway takes for Azure. Neither its log nor a failed
/// answer may show a value, a token, or what the gateway authenticates with.
struct Rig {
    emulator: Emulator,
    version: String,
    server: Server,
    served: Served,
    agent: Agent,
    _runtime: Runtime,
}

impl Rig {
    /// The composed application `name`, with this configuration, in which `{vault}` stands for the vault's address, and with
    /// more settings of the gateway than those that lead to the emulator.
    fn start(name: &str, configuration: &[(&str, &str)], settings: &[(&str, &str)]) -> Self {
        let reuse = ["--max-instance-reuse-count", "100000", "--max-instance-concurrent-reuse-count", "64"];
        Self::start_with(
            name,
            configuration,
            settings,
            &[&reuse[..], &["--idle-instance-timeout", "60s"]].concat(),
        )
    }

    fn start_with(
        name: &str,
        configuration: &[(&str, &str)],
        settings: &[(&str, &str)],
        options: &[&str],
    ) -> Self {
        let (runtime, emulator) = (Runtime::new().unwrap(), Emulator::new());
        let version = emulator.set_secret(SECRET, VALUE).unwrap();
        let served = runtime.block_on(emulator.serve()).unwrap();
        let vault = served.http_base();
        let variables = configuration.iter().flat_map(|(key, value)| {
            let value = value.replace("{vault}", vault.trim_end_matches('/')).replace("{version}", &version);
            ["-S".to_owned(), format!("config-var={key}={value}")]
        });
        let launch = Launch::new(HOST, compiled(name))
            .options(["--allow-precompiled", "-S", "config", "--no-logging-prefix"])
            .options(options.iter().copied())
            .options(variables)
            .environment(served.settings(Source::AppService2019))
            .environment(settings.iter().copied());
        let server = launch.start().unwrap_or_else(|problem| panic!("{problem}"));
        Self { emulator, version, server, served, agent: agent(PATIENCE), _runtime: runtime }
    }

    /// The status and the text of the answer to `GET /PATH`.
    fn get(&self, path: &str) -> (u16, String) {
        let mut answer = self.agent.get(self.server.url(&format!("/{path}"))).call().unwrap();
        let (status, text) = (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap());
        if status != 200 {
            self.search().expect_nothing(&text, &[], "an answer that is an error");
        }
        (status, text)
    }

    /// How many calls the emulator has seen: for tokens, and to the vault.
    fn calls(&self) -> (usize, usize) {
        (self.emulator.token_calls().len(), self.emulator.vault_calls().len())
    }

    fn search(&self) -> Search {
        let mut search = Search::new();
        search.add(Private::Value, VALUE);
        self.emulator.tokens().iter().for_each(|token| search.add(Private::Token, token));
        let settings = self.served.settings(Source::AppService2019).into_iter();
        for (_, secret) in settings.filter(|setting| setting.0 == "IDENTITY_HEADER") {
            search.add(Private::IdentitySecret, &secret);
        }
        search
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let printed = self.server.end().join("\n");
        if !std::thread::panicking() {
            self.search().expect_nothing(&printed, &[], "what the host printed");
        }
    }
}

/// A component as machine code, compiled once for all tests: each of them starts a host of its own.
fn compiled(name: &str) -> PathBuf {
    static COMPILED: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    // Held until it is there, for those who wait for it.
    let mut compiled = COMPILED.lock().unwrap();
    let folder = env!("CARGO_TARGET_TMPDIR");
    let compile = || dev_host::compile(HOST, &[], &component(name).unwrap(), folder).unwrap();
    compiled.entry(name.to_owned()).or_insert_with(compile).clone()
}

/// What the vault has under [`SECRET`].
const VALUE: &str = "correct horse battery staple";

const SECRET: &str = "db-password";

/// A reference to [`SECRET`].
const REFERENCE: &str = "@Microsoft.KeyVault(SecretUri={vault}/secrets/db-password)";

const HOST: &str = env!("CARGO_BIN_EXE_dev-host");

/// Longer than any answer takes, and short enough that a hang is seen as one.
const PATIENCE: Duration = Duration::from_secs(30);
