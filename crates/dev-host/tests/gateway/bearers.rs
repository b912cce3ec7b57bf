//! Callers who come with a token of Entra ID, which the emulator is as well.

use keyvault_emulator::{Effect, Emulator, Fault, Source, Upstream};
use serde_json::{Value, json};
use ureq::Agent;

use crate::rig::{Answer, BOTH, JSON, PATIENCE, Rig, VALUE, key_field};

#[test]
fn a_token_of_the_tenant_is_as_good_as_a_key_in_its_scope() {
    for component in BOTH {
        let rig = start(component);
        let tokens = [
            rig.emulator.caller_token(AUDIENCE, OID, APP_ID, &[]),
            rig.emulator.caller_token_v2(AUDIENCE, OID, APP_ID, &[]),
            // As the identity endpoint gives it to the caller itself.
            token_of_an_identity(&rig),
        ];
        for token in &tokens {
            assert_eq!(ask(&rig, token, "billing-db").value(), VALUE, "{component}");
            let refused = ask(&rig, token, "other");
            assert_eq!(refused.error(), (403, "Forbidden".to_owned()), "{component}");
        }
        let line = rig.server.wait_for_line(PATIENCE, |it| it.contains("\"caller\":\"billing\""));
        assert!(line.is_some(), "{component}: {:?}", rig.server.log());
        if component == "service" {
            assert_eq!(rig.emulator.signing_key_calls().len(), 1);
        }
        assert!(rig.emulator.signing_key_calls().iter().all(|it| it.path.ends_with("/discovery/v2.0/keys")));
    }
}

#[test]
fn forged_and_foreign_tokens_get_nothing() {
    for component in BOTH {
        let rig = start(component);
        let emulator = &rig.emulator;
        let claims = claims();
        let header = emulator.signing_header();
        let with = |name: &str, value: Value| {
            let mut changed = claims.clone();
            changed[name] = value;
            emulator.sign(&header, &changed)
        };
        let algorithm = |name: &str| {
            let mut changed = header.clone();
            changed["alg"] = name.into();
            changed
        };
        let unsigned = emulator.sign(&algorithm("none"), &claims);
        let (unsigned, _) = unsigned.rsplit_once('.').unwrap();
        for token in [
            format!("{unsigned}."),
            emulator.sign_as_stranger(&header, &claims),
            emulator.sign_with_secret(&algorithm("HS256"), &claims, emulator.signing_key_pem().as_bytes()),
            emulator.sign_with_secret(&algorithm("HS256"), &claims, &emulator.signing_key_der()),
            with("aud", "https://vault.azure.net".into()),
            with("iss", "https://sts.windows.net/11111111-2222-3333-4444-555555555555/".into()),
            with("tid", "11111111-2222-3333-4444-555555555555".into()),
            with("exp", (unix_now() - 61).into()),
            with("nbf", (unix_now() + 3600).into()),
            with("scp", "user_impersonation".into()),
            with("oid", "11111111-2222-3333-4444-555555555555".into()),
            "x".repeat(20_000),
        ] {
            let answer = ask(&rig, &token, "billing-db");
            assert_eq!(answer.error(), (401, "Unauthorized".to_owned()), "{component}: {token}");
        }
        assert_eq!(rig.calls(), (0, 0), "{component}");
        assert_eq!(ask(&rig, &emulator.sign(&header, &claims), "billing-db").value(), VALUE, "{component}");
    }
}

#[test]
fn a_directory_that_is_gone_harms_no_caller_with_a_key() {
    for component in BOTH {
        let rig = start(component);
        rig.emulator.fault(Fault::new(Upstream::SigningKeys, Effect::CutBeforeHeaders));
        let token = rig.emulator.caller_token(AUDIENCE, OID, APP_ID, &[]);
        assert_eq!(ask(&rig, &token, "billing-db").error(), (503, "Unavailable".to_owned()), "{component}");
        assert_eq!(rig.ask().value(), VALUE, "{component}");
        rig.emulator.clear_faults();
    }
}

#[test]
fn guesses_are_told_to_wait_and_a_good_key_is_not() {
    let rig = start("service");
    let mut told = Vec::new();
    for number in 0..30 {
        let key = format!("x-functions-key: guess-{number}");
        let answer = rig.send("POST /", &[JSON, &key], br#"{"Secret":"billing-db"}"#);
        told.push(answer.status);
        let pause = answer.field("retry-after").parse::<u64>();
        assert_eq!(answer.status == 429, pause.is_ok_and(|it| (1..=10).contains(&it)), "{answer:?}");
    }
    assert_eq!(told[..20], [401; 20]);
    // A machine that is slow enough gets a new span of ten seconds.
    assert!(told[20..].contains(&429), "{told:?}");
    assert_eq!(rig.ask().value(), VALUE);
    assert_eq!(rig.send("GET /metrics", &[&key_field()], b"").status, 200);
}

fn start(component: &str) -> Rig {
    let callers = json!([{"name": "billing", "oid": [OID], "secrets": ["billing-*"]}]).to_string();
    let settings = [
        ("GATEWAY_JWT_TENANT", keyvault_emulator::facts::TENANT),
        ("GATEWAY_JWT_AUDIENCE", AUDIENCE),
        ("GATEWAY_CALLERS", callers.as_str()),
    ];
    // With the address of Entra ID, which is the emulator's.
    let rig = Rig::start(component, Source::ClientSecret, &settings);
    rig.emulator.set_secret("billing-db", VALUE).unwrap();
    rig.emulator.configure(|it| it.caller_audience = Some(AUDIENCE.to_owned()));
    rig
}

fn ask(rig: &Rig, token: &str, name: &str) -> Answer {
    let field = format!("authorization: Bearer {token}");
    rig.send("POST /", &[JSON, &field], format!(r#"{{"Secret":"{name}"}}"#).as_bytes())
}

fn claims() -> Value {
    Emulator::caller_claims(unix_now(), AUDIENCE, OID, APP_ID, &[])
}

fn token_of_an_identity(rig: &Rig) -> String {
    let resource = AUDIENCE.replace(':', "%3A").replace('/', "%2F");
    let url =
        format!("{}/metadata/identity/oauth2/token?api-version=2018-02-01&resource={resource}", rig.azure());
    let agent = Agent::config_builder().proxy(None).timeout_global(Some(PATIENCE)).build().new_agent();
    let mut answer = agent.get(&url).header("metadata", "true").call().unwrap();
    let answer: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
    answer["access_token"].as_str().unwrap().to_owned()
}

fn unix_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

const AUDIENCE: &str = "api://keyvault-gateway";
const OID: &str = keyvault_emulator::facts::OBJECT_ID;
const APP_ID: &str = keyvault_emulator::facts::APP_ID;
