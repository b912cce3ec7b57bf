//! Callers who bear a token of Entra ID: which are let in, and what their keys cost.

use core::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keyvault_gateway::host::CallError;
use keyvault_gateway::http::response::Reply;
use serde_json::{Value, json};
use testkit::entra::{Application, SigningKey};

use crate::scripted::*;

#[test]
fn a_good_token_gets_in_with_one_call_for_the_keys() {
    for claims in [BILLING.claims(BEGINNING), BILLING.claims_v2(BEGINNING)] {
        let gateway = gateway().answering([keys([0, 1]), token(86_400)]);
        gateway.will_answer([secret("billing-db", "1"), secret("billing-b", "2")]);
        let bearer = signed(&claims);
        assert_eq!(reads(&gateway, &bearer), OK, "{claims}");
        assert_eq!(outcome(&ask(&gateway, &bearer, "billing-b")), OK);
        assert_eq!(outcome(&ask(&gateway, &bearer, "other")), (403, "Forbidden"));
        let address = format!("GET https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys");
        assert_eq!((gateway.calls()[0].clone(), gateway.calls().len()), (address, 4));
        assert_eq!(gateway.fields()[0].len(), 2, "{:?}", gateway.fields()[0]);
        assert!(gateway.log()[0].contains(r#""caller":"billing""#), "{:?}", gateway.log());
        let bearer = format!("Bearer {bearer}");
        let reply = gateway.request("GET", "/metrics", &[("authorization", &bearer)], "");
        let counted = "keyvault_gateway_upstream_calls_total{upstream=\"directory\"} 1\n";
        assert!(reply.status() == 200 && body_of(&reply).contains(counted));
    }
}

#[test]
fn a_caller_is_named_by_object_id_application_id_or_role() {
    let application = |oid, appid, roles| Application { oid, appid, roles, ..NOBODY };
    for (application, name, reads) in [
        (application(OID, STRANGER, &[]), "billing", [true, false, false]),
        (application(STRANGER, APP_ID, &[]), "ops", [false, true, false]),
        (application(STRANGER, STRANGER, &["Secrets.Read.Mail"]), "mail", [false, false, true]),
        (application(STRANGER, STRANGER, &["x", "Secrets.Read.Mail"]), "mail", [false, false, true]),
        (application(STRANGER, APP_ID, &["Secrets.Read.Mail"]), "ops", [false, true, true]),
        (application(OID, APP_ID, &["Secrets.Read.Mail"]), "billing", [true, true, true]),
    ] {
        let gateway = gateway().answering([keys([0]), token(86_400)]);
        for (secret_name, allowed) in ["billing-db", "ops-db", "mail-db"].into_iter().zip(reads) {
            if allowed {
                gateway.will_answer([secret(secret_name, "v")]);
            }
            let reply = ask(&gateway, &signed(&application.claims(BEGINNING)), secret_name);
            let expected = if allowed { OK } else { (403, "Forbidden") };
            assert_eq!(outcome(&reply), expected, "{application:?} {secret_name}");
        }
        let logged = gateway.log().into_iter().filter(|it| it.contains(&format!(r#""caller":"{name}""#)));
        assert!(logged.count() > 0, "{name}: {:?}", gateway.log());
    }
    for application in [NOBODY, application(STRANGER, STRANGER, &["secrets.read.mail", "Secrets.Read"])] {
        let gateway = gateway().answering([keys([0])]);
        let reply = ask(&gateway, &signed(&application.claims(BEGINNING)), "billing-db");
        assert_eq!(outcome(&reply), UNAUTHORIZED, "{application:?}");
    }
}

#[test]
fn clocks_may_differ_by_less_than_a_minute() {
    for (name, value, good) in [
        ("exp", BEGINNING - 59, true),
        ("exp", BEGINNING - 60, false),
        ("nbf", BEGINNING + 60, true),
        ("nbf", BEGINNING + 61, false),
        ("exp", u64::MAX, true),
        ("nbf", u64::MAX, false),
    ] {
        let gateway = gateway().answering([keys([0]), token(86_400), secret("billing-db", "v")]);
        let mut claims = BILLING.claims(BEGINNING);
        claims[name] = value.into();
        assert_eq!(ask(&gateway, &signed(&claims), "billing-db").status() == 200, good, "{name} {value}");
    }
}

#[test]
fn a_token_that_was_good_is_so_until_it_expires() {
    let gateway = gateway().answering([keys([0]), token(86_400), secret("billing-db", "v")]);
    let mut claims = BILLING.claims(BEGINNING);
    claims["exp"] = (BEGINNING + 100).into();
    let bearer = signed(&claims);
    assert_eq!(reads(&gateway, &bearer), OK);
    gateway.pass(Duration::from_secs(159));
    assert_eq!(reads(&gateway, &bearer), OK);
    gateway.pass(Duration::from_secs(1));
    assert_eq!((reads(&gateway, &bearer), gateway.calls().len()), (UNAUTHORIZED, 3));
}

#[test]
fn a_new_key_is_asked_for_once_in_half_a_minute() {
    let (gateway, _) = warm();
    let new = SigningKey::number(1);
    let rotated = new.token(&new.header(), &BILLING.claims(BEGINNING));
    for _ in 0..5 {
        assert_eq!(reads(&gateway, &rotated), UNAUTHORIZED);
    }
    assert_eq!(gateway.calls().len(), 3);
    gateway.then(30, [keys([0, 1])]);
    assert_eq!(reads(&gateway, &rotated), OK);
    // Names that nobody has cost a call in half a minute, and no more.
    for second in 0..90 {
        if second % 30 == 0 && second > 0 {
            gateway.will_answer([keys([0, 1])]);
        }
        let mut header = new.header();
        header["kid"] = format!("made-up-{second}").into();
        let reply = ask(&gateway, &new.token(&header, &BILLING.claims(BEGINNING)), "billing-db");
        assert!(matches!(reply.status().as_u16(), 401 | 429));
        gateway.pass(Duration::from_secs(1));
    }
    assert_eq!(gateway.calls().len(), 6);
    assert_eq!(reads(&gateway, &rotated), OK);
}

#[test]
fn who_hangs_up_over_and_over_does_not_ask_without_end() {
    let stranger = SigningKey::stranger();
    let unknown = stranger.token(&stranger.header(), &json!({}));
    let hang_up_with = |gateway: &Scripted, bearer: &str, times| {
        let bearer = format!("Bearer {bearer}");
        (0..times).filter(|_| gateway.hang_up("POST", "/", &[JSON, ("authorization", &bearer)], "{}")).count()
    };
    let hang_up = |gateway: &Scripted, times| hang_up_with(gateway, &unknown, times);
    // With keys at hand, for one that is not among them: then nobody asks for half a minute, and who has a good key is let in.
    let (gateway, good) = warm();
    gateway.then(30, vec![Outcome::Never; 4]);
    assert_eq!(hang_up(&gateway, 100), 3);
    gateway.pass(Duration::from_secs(29));
    assert_eq!(hang_up(&gateway, 1), 0);
    assert_eq!(reads(&gateway, &good), OK);
    gateway.pass(Duration::from_secs(1));
    assert_eq!(hang_up(&gateway, 100), 1);

    // Without keys: one asks in a second, so that somebody who waits gets them.
    let gateway = self::gateway().answering(vec![Outcome::Never; 4]);
    assert_eq!(hang_up(&gateway, 100), 3);
    assert_eq!(reads(&gateway, &good), (503, "Unavailable"));
    gateway.pass(Duration::from_secs(1));
    assert_eq!(hang_up(&gateway, 100), 1);
    gateway.then(1, [keys([0]), token(86_400), secret("billing-db", "v")]);
    assert_eq!(reads(&gateway, &good), OK);

    // With old keys: the same, and they serve on.
    gateway.then(3600, vec![Outcome::Never; 3]);
    assert_eq!(hang_up_with(&gateway, &good, 100), 3);
    gateway.then(1, [keys([1])]);
    assert_eq!(reads(&gateway, &good), UNAUTHORIZED);
}

#[test]
fn a_directory_that_fails_is_not_asked_for_every_name() {
    let (gateway, good) = warm();
    gateway.then(31, [status(400)]);
    let stranger = SigningKey::stranger();
    let made_up = stranger.token(&stranger.header(), &BILLING.claims(BEGINNING));
    for _ in 0..30 {
        assert_eq!(reads(&gateway, &made_up), (502, "IdentityError"));
        assert_eq!(reads(&gateway, &good), OK);
        gateway.pass(Duration::from_millis(999));
    }
    assert_eq!(gateway.calls().len(), 4);
}

#[test]
fn a_directory_that_hangs_costs_one_caller_in_half_a_minute_their_patience() {
    for deadline in ["1", "2", "10", "230"] {
        let settings: Vec<_> =
            [SETTINGS, &[("GATEWAY_DEADLINE_SECONDS", deadline), ("GATEWAY_CACHE_TTL_SECONDS", "86400")]]
                .concat();
        let gateway = Scripted::new(&settings);
        gateway.will_answer([keys([0]), token(86_400), secret("billing-db", "v"), Outcome::Late]);
        let good = signed(&BILLING.claims(BEGINNING));
        assert_eq!(reads(&gateway, &good), OK);
        gateway.pass(Duration::from_secs(3600));
        for number in 0..20 {
            let before = gateway.now();
            assert_eq!(reads(&gateway, &good), OK, "{deadline}");
            assert_eq!(gateway.now() > before, number == 0, "{deadline} {number}");
        }
    }
}

#[test]
fn a_key_that_is_withdrawn_is_trusted_for_an_hour_at_most() {
    let gateway = gateway().answering([keys([0, 1]), token(86_400), secret("billing-db", "v")]);
    let bearer = signed(&BILLING.claims(BEGINNING));
    assert_eq!(reads(&gateway, &bearer), OK);
    gateway.then(3599, [secret("billing-db", "v")]);
    assert_eq!(reads(&gateway, &bearer), OK);
    gateway.then(1, [keys([1])]);
    assert_eq!(reads(&gateway, &bearer), UNAUTHORIZED);
}

#[test]
fn keys_serve_on_for_a_day_while_there_are_no_new_ones() {
    let (gateway, bearer) = warm();
    gateway.pass(Duration::from_secs(23 * 3600));
    // One try, and none for half a minute; the secret is read anew each time.
    let calls = gateway.calls().len();
    gateway.will_answer([lost(), token(86_400), secret("billing-db", "v")]);
    assert_eq!(reads(&gateway, &bearer), OK);
    assert_eq!((reads(&gateway, &bearer), gateway.calls().len()), (OK, calls + 3));
    // After a day they are not believed any more, and without them nobody is.
    gateway.then(3600, [1, 2, 3].map(|_| lost()));
    let reply = ask(&gateway, &bearer, "billing-db");
    assert_eq!((outcome(&reply), field(&reply, "retry-after")), ((503, "Unavailable"), "1"));
}

#[test]
fn a_directory_that_fails_is_not_the_callers_fault() {
    let html = || answer(200, "<html>".to_owned());
    let document = |keys: Value| answer(200, json!({"keys": keys}).to_string());
    let status = |status| answer(status, r#"{"error":"e","error_description":"AADSTS1"}"#.to_owned());
    let weak = |name: &str, value: Value| {
        let mut key = SigningKey::number(0).published(TENANT);
        key[name] = value;
        document(json!([key]))
    };
    let exponent = |bytes: &[u8]| weak("e", BASE64_URL_SAFE_NO_PAD.encode(bytes).into());
    let modulus = |bytes: &[u8]| weak("n", BASE64_URL_SAFE_NO_PAD.encode(bytes).into());
    let unavailable = (503, "Unavailable", true);
    let unusable = (502, "IdentityError", false);
    for (what, answer, (code_status, code, again)) in [
        ("lost", lost(), unavailable),
        ("500", status(500), unavailable),
        ("408", status(408), unavailable),
        ("429", status(429), (503, "IdentityThrottled", true)),
        ("400", status(400), unusable),
        ("a redirect", status(302), unusable),
        ("too large", Outcome::Failed(CallError::TooLarge), unusable),
        ("not allowed", Outcome::Failed(CallError::NotAllowed), (503, "Unavailable", false)),
        ("a page", html(), unusable),
        ("no keys", document(json!([])), unusable),
        ("no list", document(json!({})), unusable),
        ("a key for encryption", weak("use", "enc".into()), unusable),
        ("a key for another algorithm", weak("alg", "RS512".into()), unusable),
        ("a key of another kind", weak("kty", "oct".into()), unusable),
        ("a key without a name", weak("kid", Value::Null), unusable),
        ("an exponent of 1", exponent(&[1]), unusable),
        ("an exponent of 3", exponent(&[3]), unusable),
        ("an exponent without end", exponent(&[1; 64]), unusable),
        ("a short modulus", modulus(&[0xff; 128]), unusable),
        ("an even modulus", modulus(&[0xfe; 256]), unusable),
        ("a huge modulus", modulus(&[0xff; 1024]), unusable),
        ("no modulus", modulus(&[]), unusable),
        ("a modulus of zeros", modulus(&[0; 256]), unusable),
        ("padding", weak("e", "AQAB==".into()), unusable),
    ] {
        let gateway = gateway();
        let tries = if again { 3 } else { 1 };
        gateway.will_answer((0..tries).map(|_| answer.clone()));
        let bearer = signed(&BILLING.claims(BEGINNING));
        let reply = ask(&gateway, &bearer, "billing-db");
        assert_eq!(outcome(&reply), (code_status, code), "{what}");
        // The next one learns of it without a call; who has a key does not need the directory.
        assert_eq!((reads(&gateway, &bearer), gateway.calls().len()), ((code_status, code), tries), "{what}");
        gateway.will_answer([token(86_400), secret("a", "v")]);
        assert_eq!(gateway.read("a"), OK, "{what}");
    }
}

#[test]
fn where_everybody_may_ask_a_token_is_not_needed() {
    let settings: Vec<_> = [SETTINGS, &[("GATEWAY_ALLOW_ANONYMOUS", "true")]].concat();
    let gateway = Scripted::new(&settings);
    gateway.will_answer([Outcome::Failed(CallError::NotAllowed), token(86_400), secret("a", "v")]);
    assert_eq!(outcome(&ask(&gateway, &signed(&BILLING.claims(BEGINNING)), "a")), OK);
    assert_eq!(outcome(&ask(&gateway, "no token", "a")), OK);
    let reply = gateway.get("/metrics");
    assert_eq!(outcome(&reply), UNAUTHORIZED);
}

#[test]
fn guesses_are_told_to_wait_and_good_callers_are_not() {
    let gateway = gateway();
    gateway.will_answer([token(86_400), secret("a", "v"), keys([0]), secret("billing-db", "v")]);
    let good = signed(&BILLING.claims(BEGINNING));
    let bad = [vec![("x-functions-key", "a-wrong-key")], vec![], vec![("authorization", "Bearer a.b.c")]];
    for number in 0..60 {
        let mut fields = bad[number % 3].clone();
        fields.push(("content-type", "application/json"));
        let reply = gateway.request("POST", "/", &fields, &asking("a"));
        let expected = if number < 20 { (UNAUTHORIZED, "") } else { ((429, "TooManyRequests"), "10") };
        assert_eq!((outcome(&reply), field(&reply, "retry-after")), expected, "{number}");
        assert_eq!(gateway.read("a"), OK);
        assert_eq!(reads(&gateway, &good), OK);
    }
    gateway.pass(Duration::from_secs(10));
    assert_eq!(outcome(&ask(&gateway, "x", "a")), UNAUTHORIZED);
}

#[test]
fn each_cloud_has_its_directory_and_its_issuers() {
    let global = "login.microsoftonline.com";
    for (vault, [login, v1, v2]) in [
        ("vault.azure.net", [global, "sts.windows.net", global]),
        (
            "vault.azure.cn",
            ["login.chinacloudapi.cn", "sts.chinacloudapi.cn", "login.partner.microsoftonline.cn"],
        ),
        (
            "vault.usgovcloudapi.net",
            ["login.microsoftonline.us", "sts.windows.net", "login.microsoftonline.us"],
        ),
    ] {
        for (claims, issuer) in [
            (BILLING.claims(BEGINNING), format!("https://{v1}/{TENANT}/")),
            (BILLING.claims_v2(BEGINNING), format!("https://{v2}/{TENANT}/v2.0")),
        ] {
            let uri = format!("https://my-vault.{vault}");
            let gateway = Scripted::new(&[SETTINGS, &[("KeyVaultUri", &uri)]].concat());
            gateway.will_answer([keys([0]), token(86_400), secret("billing-db", "v")]);
            let mut claims = claims;
            claims["iss"] = issuer.into();
            assert_eq!(reads(&gateway, &signed(&claims)), OK, "{claims}");
            assert!(gateway.calls()[0].starts_with(&format!("GET https://{login}/{TENANT}/")));
        }
    }
}

pub fn gateway() -> Scripted {
    Scripted::new(SETTINGS)
}

/// A gateway that has the keys and a secret in memory, and a good token.
fn warm() -> (Scripted, String) {
    let gateway = gateway().answering([keys([0]), token(86_400), secret("billing-db", "v")]);
    let good = signed(&BILLING.claims(BEGINNING));
    assert_eq!(reads(&gateway, &good), OK);
    (gateway, good)
}

pub fn reads(gateway: &Scripted, bearer: &str) -> (u16, &'static str) {
    outcome(&ask(gateway, bearer, "billing-db"))
}

pub fn ask(gateway: &Scripted, bearer: &str, name: &str) -> Reply {
    let bearer = format!("Bearer {bearer}");
    gateway.request("POST", "/", &[JSON, ("authorization", &bearer)], &asking(name))
}

/// The directory's document with these of the keys.
pub fn keys<const N: usize>(numbers: [usize; N]) -> Outcome {
    answer(200, testkit::entra::document(TENANT, numbers.map(SigningKey::number)).to_string())
}

pub fn signed(claims: &Value) -> String {
    let key = SigningKey::number(0);
    key.token(&key.header(), claims)
}

pub const TENANT: &str = "6f1b4f5c-2f0b-4f6e-9d0c-3a5b8e7d1c42";
pub const AUDIENCE: &str = "api://keyvault-gateway";
const OID: &str = "d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05";
pub const APP_ID: &str = "a0c7d5e2-91b3-4c68-8e4f-5d2b7f9a1e36";
pub const STRANGER: &str = "99999999-9999-4999-8999-999999999999";

const NOBODY: Application<'_> =
    Application { tenant: TENANT, audience: AUDIENCE, oid: STRANGER, appid: STRANGER, roles: &[] };

/// Named by its object id.
pub const BILLING: Application<'_> = Application { oid: OID, ..NOBODY };

const OK: (u16, &str) = (200, "OK");
pub const UNAUTHORIZED: (u16, &str) = (401, "Unauthorized");

const SETTINGS: &[(&str, &str)] = &[
    ("GATEWAY_JWT_TENANT", TENANT),
    ("GATEWAY_JWT_AUDIENCE", AUDIENCE),
    (
        "GATEWAY_CALLERS",
        r#"[
            {"name": "billing", "oid": ["d94e2b71-6a5f-4b0d-b7c3-1f8e6a2c9d05"], "secrets": ["billing-*"]},
            {"name": "ops", "appid": ["A0C7D5E2-91B3-4C68-8E4F-5D2B7F9A1E36"], "secrets": ["ops-*"]},
            {"name": "mail", "roles": ["Secrets.Read.Mail"], "secrets": ["mail-*"]}
        ]"#,
    ),
];
