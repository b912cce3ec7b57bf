//! Callers with a token of their platform: service accounts of a cluster, jobs of GitHub, and their issuers.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::entra::SigningKey;
use testkit::oidc::{self, EcKey};

use crate::access_tokens::{UNAUTHORIZED, request_with_token};
use crate::scripted::*;

#[test]
fn two_service_accounts_read_the_secrets_of_their_entries() {
    let gateway = gateway().with_script([cluster_jwks(), vec![token(86_400)]].concat());
    gateway.script(["billing-db", "ops-db"].map(|name| secret(name, "v")));
    let (billing, ops) = (account(ACCOUNT), account("system:serviceaccount:ops:deployer"));
    for (bearer, name, expected) in [
        (&billing, "billing-db", OK),
        (&billing, "ops-db", FORBIDDEN),
        (&ops, "ops-db", OK),
        (&ops, "billing-db", FORBIDDEN),
        (&account("system:serviceaccount:default:default"), "billing-db", UNAUTHORIZED),
    ] {
        assert_eq!(outcome(&request_with_token(&gateway, bearer, name)), expected, "{name}");
    }
    let callers: Vec<_> = gateway.log().iter().map(|line| line.contains(r#""caller":"ops""#)).collect();
    assert_eq!(callers, [false, false, true, true, false]);
    // The configuration and the JWKS were fetched once each, and nothing of a caller was sent along.
    let sent =
        [format!("GET {CLUSTER}.well-known/openid-configuration"), format!("GET {CLUSTER}openid/v1/jwks")];
    assert_eq!(gateway.calls()[..2], sent);
    assert_eq!(gateway.calls().len(), 5);
}

#[test]
fn a_call_to_an_issuer_has_nothing_of_the_caller() {
    let gateway = gateway().with_script(cluster_jwks());
    gateway.script([token(86_400), secret("billing-db", "v")]);
    let bearer = format!("Bearer {}", account(ACCOUNT));
    let trace = ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
    let fields = [JSON, ("authorization", &bearer), trace, ("user-agent", "the-client")];
    assert_eq!(outcome(&gateway.request("POST", "/", &fields, &request_for("billing-db"))), OK);
    let sent = gateway.headers();
    let plain =
        ["accept: application/json", concat!("user-agent: keyvault-gateway/", env!("CARGO_PKG_VERSION"))];
    assert_eq!(sent[..2], [plain, plain]);
    assert!(sent[3].iter().any(|header| header.starts_with("traceparent: ")), "{sent:?}");
}

#[test]
fn tokens_of_other_platforms_are_taken() {
    let ec = EcKey::first();
    let plain = |issuer: &str, subject: &str| json!({"iss": issuer, "sub": subject, "aud": AUDIENCE, "exp": BEGINNING + 60, "iat": BEGINNING});
    let spiffe = |typ: &str| {
        let mut header = ec.header();
        header["typ"] = typ.into();
        ec.token(&header, &plain(CLUSTER, "spiffe://example.org/ns/billing/sa/app"))
    };
    let github = SigningKey::number(2);
    let mut header = github.header();
    header["kid"] = "shared".into();
    for (bearer, jwks) in [
        (spiffe("JWT"), cluster_jwks()),
        (spiffe("JOSE"), cluster_jwks()),
        (github.token(&header, &plain(GITHUB, JOB)), github_jwks()),
        (github.token(&header, &plain(GITHUB, &format!("{JOB}:x"))), github_jwks()),
    ] {
        let gateway = gateway().with_script(jwks);
        gateway.script([token(86_400), secret("ci-db", "v")]);
        let reply = request_with_token(&gateway, &bearer, "ci-db");
        assert_eq!(outcome(&reply), OK, "{bearer} {:?}", gateway.log());
    }
}

#[test]
fn a_configuration_must_be_the_issuers_own_and_name_a_jwks_on_its_host() {
    let good = || json!({"issuer": CLUSTER, "jwks_uri": format!("{CLUSTER}openid/v1/jwks")});
    let with = |name: &str, value: Value| {
        let mut changed = good();
        changed[name] = value;
        answer(200, changed.to_string())
    };
    let unusable = (502, "IdentityError");
    for (case, outcomes, expected) in [
        ("another port", vec![with("jwks_uri", "https://oidc.example:8443/keys".into())], unusable),
        ("another host", vec![with("jwks_uri", "https://attacker.example/keys".into())], unusable),
        (
            "a host that begins alike",
            vec![with("jwks_uri", "https://oidc.example.attacker/keys".into())],
            unusable,
        ),
        ("plain http", vec![with("jwks_uri", "http://oidc.example/keys".into())], unusable),
        (
            "user information",
            vec![with("jwks_uri", "https://oidc.example@attacker.example/".into())],
            unusable,
        ),
        ("no address", vec![with("jwks_uri", Value::Null)], unusable),
        ("another issuer", vec![with("issuer", "https://oidc.example/other/".into())], unusable),
        ("no issuer", vec![with("issuer", Value::Null)], unusable),
        ("issuer without its slash", vec![with("issuer", CLUSTER.trim_end_matches('/').into())], unusable),
        ("a redirect", vec![status(302)], unusable),
        ("not found", vec![status(404)], unusable),
        ("HTML", vec![answer(200, "<html>".to_owned())], unusable),
        ("failing", vec![status(503), status(503), status(503)], (503, "Unavailable")),
        ("the default port", vec![with("jwks_uri", "https://OIDC.example:443/keys".into()), own_jwks()], OK),
    ] {
        let gateway = gateway().with_script(outcomes.clone());
        if expected == OK {
            gateway.script([token(86_400), secret("billing-db", "v")]);
        }
        let reply = request_with_token(&gateway, &account(ACCOUNT), "billing-db");
        assert_eq!(outcome(&reply), expected, "{case} {:?}", gateway.calls());
        let calls = outcomes.len() + if expected == OK { 2 } else { 0 };
        assert_eq!(gateway.calls().len(), calls, "{case}");
        // A host allows the authority of the setting, and no other spelling of it.
        let issuers = gateway.calls().into_iter().filter(|call| call.contains("example"));
        assert!(issuers.into_iter().all(|call| call.starts_with("GET https://oidc.example/")), "{case}");
    }
}

#[test]
fn a_jwks_that_has_moved_is_found_again() {
    let gateway =
        gateway().with_script([cluster_jwks(), vec![token(86_400), secret("billing-db", "v")]].concat());
    assert_eq!(read(&gateway), OK);
    // An hour later there is nothing at the old address. The known keys are used meanwhile.
    gateway.script_after(3600, [status(404), secret("billing-db", "v")]);
    assert_eq!(read(&gateway), OK);
    let moved = json!({"issuer": CLUSTER, "jwks_uri": format!("{CLUSTER}moved")});
    gateway.script_after(30, [answer(200, moved.to_string()), own_jwks()]);
    assert_eq!(read(&gateway), OK);
    assert_eq!(gateway.calls().last().unwrap(), &format!("GET {CLUSTER}moved"));
}

#[test]
fn an_issuer_that_fails_stops_no_other() {
    let gateway = gateway();
    // Three requests open the circuit breaker of the cluster's issuer.
    for _ in 0..2 {
        gateway.script(vec![lost(); 3]);
        assert_eq!(read(&gateway), (503, "Unavailable"));
        gateway.advance(Duration::from_secs(1));
    }
    gateway.script([github_jwks(), vec![token(86_400), secret("ci-db", "v")]].concat());
    assert_eq!(outcome(&request_with_token(&gateway, &job(), "ci-db")), OK);
}

#[test]
fn unknown_key_ids_cost_one_call_in_30_seconds_for_each_issuer() {
    let gateway =
        gateway().with_script([cluster_jwks(), vec![token(86_400), secret("billing-db", "v")]].concat());
    assert_eq!(read(&gateway), OK);
    gateway.script([github_jwks(), vec![secret("ci-db", "v")]].concat());
    assert_eq!(outcome(&request_with_token(&gateway, &job(), "ci-db")), OK);
    let stranger = SigningKey::stranger();
    let before = gateway.calls().len();
    for second in 0..90 {
        if second > 0 && second % 30 == 0 {
            gateway.script([own_jwks(), github_jwks().remove(0)]);
        }
        for issuer in [CLUSTER, GITHUB] {
            let mut header = stranger.header();
            header["kid"] = format!("made-up-{second}").into();
            let claims = oidc::service_account(issuer, AUDIENCE, ACCOUNT, BEGINNING);
            let reply = request_with_token(&gateway, &stranger.token(&header, &claims), "billing-db");
            assert!(matches!(reply.status().as_u16(), 401 | 429));
        }
        gateway.advance(Duration::from_secs(1));
    }
    assert_eq!(gateway.calls().len() - before, 4, "{:?}", gateway.calls());
}

#[test]
fn a_key_verifies_tokens_of_its_own_issuer_only() {
    // Both issuers publish a key by the id "shared", and each key signs a token of either.
    for (key, issuer, subject, secret_name, expected) in [
        (1, CLUSTER, ACCOUNT, "billing-db", OK),
        (2, CLUSTER, ACCOUNT, "billing-db", UNAUTHORIZED),
        (1, GITHUB, JOB, "ci-db", UNAUTHORIZED),
        (2, GITHUB, JOB, "ci-db", OK),
        // A subject counts for its own issuer only.
        (1, CLUSTER, JOB, "ci-db", UNAUTHORIZED),
        (2, GITHUB, ACCOUNT, "billing-db", UNAUTHORIZED),
    ] {
        let claims = oidc::service_account(issuer, AUDIENCE, subject, BEGINNING);
        let bearer = SigningKey::number(key).token(&header_with_id("shared"), &claims);
        let own = if issuer == CLUSTER { cluster_jwks() } else { github_jwks() };
        // With the JWKS of the issuer alone, and with those of both in one instance.
        for warm in [false, true] {
            let gateway = gateway();
            if warm {
                gateway.script([cluster_jwks(), vec![token(86_400), secret("billing-db", "v")]].concat());
                assert_eq!(read(&gateway), OK);
                gateway.script([github_jwks(), vec![secret("ci-db", "v")]].concat());
                assert_eq!(outcome(&request_with_token(&gateway, &job(), "ci-db")), OK);
            } else {
                gateway.script(own.clone());
                if expected == OK {
                    gateway.script([token(86_400), secret(secret_name, "v")]);
                }
            }
            let reply = request_with_token(&gateway, &bearer, secret_name);
            assert_eq!(outcome(&reply), expected, "{key} {issuer} {subject} {warm}");
        }
    }
}

/// The configurations as the platforms publish them: AKS (Microsoft, "Use a Microsoft Entra Workload ID on
/// AKS"), GitHub ("OpenID Connect reference"), GitLab ("OpenID Connect provider"), SPIRE (OIDC discovery
/// provider).
#[test]
fn the_documents_of_the_platforms_lead_to_their_keys() {
    let aks = "https://westeurope.oic.prod-aks.azure.com/72f988bf-86f1-41af-91ab-2d7cd011db47/f0e2f1a5-5c5e-4c38-b2ab-5f3ae0f6d9f1/";
    for (issuer, jwks_uri) in [
        (aks, format!("{aks}openid/v1/jwks")),
        (
            "https://token.actions.githubusercontent.com",
            "https://token.actions.githubusercontent.com/.well-known/jwks".to_owned(),
        ),
        ("https://gitlab.com", "https://gitlab.com/oauth/discovery/keys".to_owned()),
        ("https://oidc-discovery.example.org", "https://oidc-discovery.example.org/keys".to_owned()),
    ] {
        let issuers = json!([{"issuer": issuer, "audience": AUDIENCE}]).to_string();
        let entry = json!({"name": "a", "iss": issuer, "sub": [ACCOUNT], "secrets": ["*"]});
        let callers = json!([entry]).to_string();
        let gateway = Scripted::new(&[("GATEWAY_OIDC", &issuers), ("GATEWAY_CALLERS", &callers)]);
        let configuration = json!({
            "issuer": issuer,
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        gateway.script([answer(200, configuration.to_string()), own_jwks()]);
        gateway.script([token(86_400), secret("billing-db", "v")]);
        let key = SigningKey::number(0);
        let claims = oidc::service_account(issuer, AUDIENCE, ACCOUNT, BEGINNING);
        let bearer = key.token(&oidc::header(&key), &claims);
        assert_eq!(outcome(&request_with_token(&gateway, &bearer, "billing-db")), OK, "{issuer}");
        let slash = if issuer.ends_with('/') { "" } else { "/" };
        let first = format!("GET {issuer}{slash}.well-known/openid-configuration");
        assert_eq!(gateway.calls()[..2], [first, format!("GET {jwks_uri}")]);
    }
}

#[test]
fn an_issuer_that_gives_no_jwks_gets_one_fetch_in_30_seconds() {
    let stranger = SigningKey::stranger();
    let made_up = |number: usize| {
        let mut header = stranger.header();
        header["kid"] = format!("made-up-{number}").into();
        stranger.token(&header, &oidc::service_account(CLUSTER, AUDIENCE, ACCOUNT, BEGINNING))
    };
    // Without a JWKS, the issuer's configuration or JWKS is wrong.
    let wrong: [&[Outcome]; 2] = [&[status(404)], &[cluster_jwks()[0].clone(), status(404)]];
    for outcomes in wrong {
        let gateway = gateway();
        for second in 0..60 {
            if second % 30 == 0 {
                gateway.script(outcomes.to_vec());
            }
            assert_eq!(outcome(&request_with_token(&gateway, &made_up(second), "a")), (502, "IdentityError"));
            gateway.advance(Duration::from_secs(1));
        }
        assert_eq!(gateway.calls().len(), 2 * outcomes.len());
    }
    // With a fresh JWKS and with an old one, the issuer fails. A known key is used all the same.
    for (age, tries) in [(31, 1), (3700, 3)] {
        let gateway = gateway();
        gateway.script([cluster_jwks(), vec![token(86_400), secret("billing-db", "v")]].concat());
        assert_eq!(read(&gateway), OK);
        gateway.advance(Duration::from_secs(age));
        let before = gateway.calls().len();
        gateway.script(vec![status(503); tries]);
        for second in 0..29 {
            let reply = request_with_token(&gateway, &made_up(second), "a");
            assert_eq!(outcome(&reply), (503, "Unavailable"), "{age} {second}");
            gateway.advance(Duration::from_millis(900));
        }
        assert_eq!(gateway.calls().len() - before, tries, "{age}");
    }
}

#[test]
fn a_new_key_is_found_and_the_withdrawn_one_is_not_trusted() {
    let gateway =
        gateway().with_script([cluster_jwks(), vec![token(86_400), secret("billing-db", "v")]].concat());
    assert_eq!(read(&gateway), OK);
    // The cluster signs with a key that the JWKS has got since.
    let new = SigningKey::number(1);
    let claims = oidc::service_account(CLUSTER, AUDIENCE, ACCOUNT, BEGINNING);
    let rotated = new.token(&oidc::header(&new), &claims);
    gateway.script_after(30, [jwks([oidc::published(&new)])]);
    assert_eq!(outcome(&request_with_token(&gateway, &rotated, "billing-db")), OK);
    // That JWKS does not have the old key any more.
    assert_eq!(read(&gateway), UNAUTHORIZED);
}

#[test]
fn known_keys_are_used_for_a_day_while_the_issuer_is_down() {
    let gateway = gateway();
    gateway.script([cluster_jwks(), vec![token(200_000), secret("billing-db", "v")]].concat());
    let mut claims = oidc::service_account(CLUSTER, AUDIENCE, ACCOUNT, BEGINNING);
    claims["exp"] = (BEGINNING + 200_000).into();
    let key = SigningKey::number(0);
    let bearer = key.token(&oidc::header(&key), &claims);
    assert_eq!(outcome(&request_with_token(&gateway, &bearer, "billing-db")), OK);
    gateway.script_after(23 * 3600, [lost(), secret("billing-db", "v")]);
    for _ in 0..3 {
        assert_eq!(outcome(&request_with_token(&gateway, &bearer, "billing-db")), OK);
    }
    gateway.script_after(3600, vec![lost(); 3]);
    let reply = request_with_token(&gateway, &bearer, "billing-db");
    assert_eq!((outcome(&reply), field(&reply, "retry-after")), ((503, "Unavailable"), "1"));
}

pub fn gateway() -> Scripted {
    Scripted::new(SETTINGS)
}

fn read(gateway: &Scripted) -> (u16, &'static str) {
    outcome(&request_with_token(gateway, &account(ACCOUNT), "billing-db"))
}

/// A token of the cluster for a service account.
fn account(subject: &str) -> String {
    let key = SigningKey::number(0);
    key.token(&oidc::header(&key), &oidc::service_account(CLUSTER, AUDIENCE, subject, BEGINNING))
}

/// A token of a job, by the key that has the same id at both issuers.
fn job() -> String {
    let claims = oidc::service_account(GITHUB, AUDIENCE, JOB, BEGINNING);
    SigningKey::number(2).token(&header_with_id("shared"), &claims)
}

/// A header with another key id.
pub fn header_with_id(id: &str) -> Value {
    json!({"alg": "RS256", "kid": id})
}

/// The answers of the cluster's issuer: its configuration, and a JWKS with keys of both algorithms.
pub fn cluster_jwks() -> Vec<Outcome> {
    let configuration = json!({"issuer": CLUSTER, "jwks_uri": format!("{CLUSTER}openid/v1/jwks")});
    vec![answer(200, configuration.to_string()), own_jwks()]
}

fn own_jwks() -> Outcome {
    let shared = named(&SigningKey::number(1), "shared");
    jwks([oidc::published(&SigningKey::number(0)), shared, EcKey::first().published()])
}

/// The answer of the other issuer, whose JWKS has an address of its own.
fn github_jwks() -> Vec<Outcome> {
    vec![jwks([named(&SigningKey::number(2), "shared")])]
}

fn named(key: &SigningKey, id: &str) -> Value {
    let mut published = oidc::published(key);
    published["kid"] = id.into();
    published
}

fn jwks<const N: usize>(keys: [Value; N]) -> Outcome {
    answer(200, json!({"keys": keys.to_vec()}).to_string())
}

pub const CLUSTER: &str = "https://oidc.example/cluster/";
pub const GITHUB: &str = "https://token.example";
pub const AUDIENCE: &str = "keyvault-gateway";
pub const ACCOUNT: &str = "system:serviceaccount:billing:app";
pub const JOB: &str = "repo:example/app:ref:refs/heads/main";

const OK: (u16, &str) = (200, "OK");
const FORBIDDEN: (u16, &str) = (403, "Forbidden");

const SETTINGS: &[(&str, &str)] = &[
    (
        "GATEWAY_OIDC",
        r#"[{"issuer": "https://oidc.example/cluster/", "audience": "keyvault-gateway"},
            {"issuer": "https://token.example", "audience": "keyvault-gateway",
             "jwks_uri": "https://keys.example/jwks"}]"#,
    ),
    (
        "GATEWAY_CALLERS",
        r#"[{"name": "billing", "iss": "https://oidc.example/cluster/",
             "sub": ["system:serviceaccount:billing:app"], "secrets": ["billing-*"]},
            {"name": "ops", "iss": "https://oidc.example/cluster/",
             "sub": ["system:serviceaccount:ops:*"], "secrets": ["ops-*"]},
            {"name": "mesh", "iss": "https://oidc.example/cluster/",
             "sub": ["spiffe://example.org/ns/billing/sa/app"], "secrets": ["ci-*"]},
            {"name": "ci", "iss": "https://token.example",
             "sub": ["repo:example/app:*"], "secrets": ["ci-*"]}]"#,
    ),
];
