//! Callers with an access token of Entra ID: authentication, and the calls for the JWKS.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keyvault_gateway::azure::CallError;
use keyvault_gateway::http::response::Reply;
use serde_json::{Value, json};
use testkit::entra::{Application, SigningKey};

use crate::scripted::*;

#[test]
fn valid_token_costs_one_jwks_call() {
    for claims in [BILLING.claims(BEGINNING), BILLING.claims_v2(BEGINNING)] {
        let gateway = gateway().with_script([keys([0, 1]), token(86_400)]);
        gateway.script([secret("billing-db", "1"), secret("billing-b", "2")]);
        let bearer = signed(&claims);
        assert_eq!(read(&gateway, &bearer), OK, "{claims}");
        assert_eq!(outcome(&request_with_token(&gateway, &bearer, "billing-b")), OK);
        assert_eq!(outcome(&request_with_token(&gateway, &bearer, "other")), (403, "Forbidden"));
        let address = format!("GET https://login.microsoftonline.com/{TENANT}/discovery/v2.0/keys");
        assert_eq!((gateway.calls()[0].clone(), gateway.calls().len()), (address, 4));
        assert_eq!(gateway.headers()[0].len(), 2, "{:?}", gateway.headers()[0]);
        assert!(gateway.log()[0].contains(r#""caller":"billing""#), "{:?}", gateway.log());
        let bearer = format!("Bearer {bearer}");
        let reply = gateway.request("GET", "/metrics", &[("authorization", &bearer)], "");
        let counted = "keyvault_gateway_upstream_calls_total{upstream=\"directory\"} 1\n";
        assert!(reply.status() == 200 && body_of(&reply).contains(counted));
    }
}

#[test]
fn identifies_callers_by_oid_appid_or_role() {
    let application = |oid, appid, roles| Application { oid, appid, roles, ..UNLISTED };
    for (application, name, reads) in [
        (application(OID, STRANGER, &[]), "billing", [true, false, false]),
        (application(STRANGER, APP_ID, &[]), "ops", [false, true, false]),
        (application(STRANGER, STRANGER, &["Secrets.Read.Mail"]), "mail", [false, false, true]),
        (application(STRANGER, STRANGER, &["x", "Secrets.Read.Mail"]), "mail", [false, false, true]),
        (application(STRANGER, APP_ID, &["Secrets.Read.Mail"]), "ops", [false, true, true]),
        (application(OID, APP_ID, &["Secrets.Read.Mail"]), "billing", [true, true, true]),
    ] {
        let gateway = gateway().with_script([keys([0]), token(86_400)]);
        for (secret_name, allowed) in ["billing-db", "ops-db", "mail-db"].into_iter().zip(reads) {
            if allowed {
                gateway.script([secret(secret_name, "v")]);
            }
            let reply = request_with_token(&gateway, &signed(&application.claims(BEGINNING)), secret_name);
            let expected = if allowed { OK } else { (403, "Forbidden") };
            assert_eq!(outcome(&reply), expected, "{application:?} {secret_name}");
        }
        let logged = gateway.log().into_iter().filter(|line| line.contains(&format!(r#""caller":"{name}""#)));
        assert!(logged.count() > 0, "{name}: {:?}", gateway.log());
    }
    for application in [UNLISTED, application(STRANGER, STRANGER, &["secrets.read.mail", "Secrets.Read"])] {
        let gateway = gateway().with_script([keys([0])]);
        let reply = request_with_token(&gateway, &signed(&application.claims(BEGINNING)), "billing-db");
        assert_eq!(outcome(&reply), UNAUTHORIZED, "{application:?}");
    }
}

#[test]
fn allows_clock_skew_of_one_minute() {
    for (name, value, valid) in [
        ("exp", BEGINNING - 59, true),
        ("exp", BEGINNING - 60, false),
        ("nbf", BEGINNING + 60, true),
        ("nbf", BEGINNING + 61, false),
        ("exp", u64::MAX, true),
        ("nbf", u64::MAX, false),
    ] {
        let gateway = gateway().with_script([keys([0]), token(86_400), secret("billing-db", "v")]);
        let mut claims = BILLING.claims(BEGINNING);
        claims[name] = value.into();
        assert_eq!(
            request_with_token(&gateway, &signed(&claims), "billing-db").status() == 200,
            valid,
            "{name} {value}"
        );
    }
}

#[test]
fn token_is_valid_until_it_expires() {
    let gateway = gateway().with_script([keys([0]), token(86_400), secret("billing-db", "v")]);
    let mut claims = BILLING.claims(BEGINNING);
    claims["exp"] = (BEGINNING + 100).into();
    let bearer = signed(&claims);
    assert_eq!(read(&gateway, &bearer), OK);
    gateway.advance(Duration::from_secs(159));
    assert_eq!(read(&gateway, &bearer), OK);
    gateway.advance(Duration::from_secs(1));
    assert_eq!((read(&gateway, &bearer), gateway.calls().len()), (UNAUTHORIZED, 3));
}

#[test]
fn unknown_key_ids_cost_one_jwks_call_in_30_seconds() {
    let (gateway, _) = warm();
    let new = SigningKey::number(1);
    let rotated = new.token(&new.header(), &BILLING.claims(BEGINNING));
    for _ in 0..5 {
        assert_eq!(read(&gateway, &rotated), UNAUTHORIZED);
    }
    assert_eq!(gateway.calls().len(), 3);
    gateway.script_after(30, [keys([0, 1])]);
    assert_eq!(read(&gateway, &rotated), OK);
    // Unknown key ids cost one call in 30 seconds.
    for second in 0..90 {
        if second % 30 == 0 && second > 0 {
            gateway.script([keys([0, 1])]);
        }
        let mut header = new.header();
        header["kid"] = format!("made-up-{second}").into();
        let reply =
            request_with_token(&gateway, &new.token(&header, &BILLING.claims(BEGINNING)), "billing-db");
        assert!(matches!(reply.status().as_u16(), 401 | 429));
        gateway.advance(Duration::from_secs(1));
    }
    assert_eq!(gateway.calls().len(), 6);
    assert_eq!(read(&gateway, &rotated), OK);
}

#[test]
fn clients_that_hang_up_cause_few_jwks_calls() {
    let stranger = SigningKey::stranger();
    let unknown = stranger.token(&stranger.header(), &BILLING.claims(BEGINNING));
    let hang_up_with = |gateway: &Scripted, bearer: &str, times| {
        let bearer = format!("Bearer {bearer}");
        (0..times).filter(|_| gateway.hang_up("POST", "/", &[JSON, ("authorization", &bearer)], "{}")).count()
    };
    let hang_up = |gateway: &Scripted, times| hang_up_with(gateway, &unknown, times);
    // With a cached JWKS and an unknown key id: three calls, then none for 30 seconds.
    let (gateway, valid) = warm();
    gateway.script_after(30, vec![Outcome::Never; 4]);
    assert_eq!(hang_up(&gateway, 100), 3);
    gateway.advance(Duration::from_secs(29));
    assert_eq!(hang_up(&gateway, 1), 0);
    assert_eq!(read(&gateway, &valid), OK);
    gateway.advance(Duration::from_secs(1));
    assert_eq!(hang_up(&gateway, 100), 1);

    // Without a JWKS: three calls, then one in a second, so that a waiting client gets it.
    let gateway = self::gateway().with_script(vec![Outcome::Never; 4]);
    assert_eq!(hang_up(&gateway, 100), 3);
    assert_eq!(read(&gateway, &valid), (503, "Unavailable"));
    gateway.advance(Duration::from_secs(1));
    assert_eq!(hang_up(&gateway, 100), 1);
    gateway.script_after(1, [keys([0]), token(86_400), secret("billing-db", "v")]);
    assert_eq!(read(&gateway, &valid), OK);

    // With an expired JWKS: the same, and the old JWKS is still used.
    gateway.script_after(3600, vec![Outcome::Never; 3]);
    assert_eq!(hang_up_with(&gateway, &valid, 100), 3);
    gateway.script_after(1, [keys([1])]);
    assert_eq!(read(&gateway, &valid), UNAUTHORIZED);
}

#[test]
fn failing_directory_gets_one_call_for_many_key_ids() {
    let (gateway, valid) = warm();
    gateway.script_after(31, [status(400)]);
    let stranger = SigningKey::stranger();
    let made_up = stranger.token(&stranger.header(), &BILLING.claims(BEGINNING));
    for _ in 0..30 {
        assert_eq!(read(&gateway, &made_up), (502, "IdentityError"));
        assert_eq!(read(&gateway, &valid), OK);
        gateway.advance(Duration::from_millis(999));
    }
    assert_eq!(gateway.calls().len(), 4);
}

#[test]
fn hanging_directory_delays_one_request_in_30_seconds() {
    for deadline in ["1", "2", "10", "230"] {
        let settings: Vec<_> =
            [SETTINGS, &[("GATEWAY_DEADLINE_SECONDS", deadline), ("GATEWAY_CACHE_TTL_SECONDS", "86400")]]
                .concat();
        let gateway = Scripted::new(&settings);
        gateway.script([keys([0]), token(86_400), secret("billing-db", "v"), Outcome::Late]);
        let valid = signed(&BILLING.claims(BEGINNING));
        assert_eq!(read(&gateway, &valid), OK);
        gateway.advance(Duration::from_secs(3600));
        for number in 0..20 {
            let before = gateway.now();
            assert_eq!(read(&gateway, &valid), OK, "{deadline}");
            assert_eq!(gateway.now() > before, number == 0, "{deadline} {number}");
        }
    }
}

#[test]
fn withdrawn_key_is_trusted_for_at_most_an_hour() {
    let gateway = gateway().with_script([keys([0, 1]), token(86_400), secret("billing-db", "v")]);
    let bearer = signed(&BILLING.claims(BEGINNING));
    assert_eq!(read(&gateway, &bearer), OK);
    gateway.script_after(3599, [secret("billing-db", "v")]);
    assert_eq!(read(&gateway, &bearer), OK);
    gateway.script_after(1, [keys([1])]);
    assert_eq!(read(&gateway, &bearer), UNAUTHORIZED);
}

#[test]
fn jwks_is_used_for_a_day_if_its_refresh_fails() {
    let (gateway, bearer) = warm();
    gateway.advance(Duration::from_secs(23 * 3600));
    // The refresh is tried once, then not for 30 seconds.
    let calls = gateway.calls().len();
    gateway.script([lost(), token(86_400), secret("billing-db", "v")]);
    assert_eq!(read(&gateway, &bearer), OK);
    assert_eq!((read(&gateway, &bearer), gateway.calls().len()), (OK, calls + 3));
    // After a day the keys are not trusted, and no token is accepted.
    gateway.script_after(3600, [1, 2, 3].map(|_| lost()));
    let reply = request_with_token(&gateway, &bearer, "billing-db");
    assert_eq!((outcome(&reply), field(&reply, "retry-after")), ((503, "Unavailable"), "1"));
}

#[test]
fn directory_failures_return_502_or_503() {
    let html = || answer(200, "<html>".to_owned());
    let document = |keys: Value| answer(200, json!({"keys": keys}).to_string());
    let status = |status| answer(status, r#"{"error":"e","error_description":"AADSTS1"}"#.to_owned());
    let unavailable = (503, "Unavailable", true);
    let unusable = (502, "IdentityError", false);
    for (failure, answer, (code_status, code, retried)) in [
        ("lost", lost(), unavailable),
        ("500", status(500), unavailable),
        ("408", status(408), unavailable),
        ("429", status(429), (503, "IdentityThrottled", true)),
        ("400", status(400), unusable),
        ("redirect", status(302), unusable),
        ("too large", Outcome::Failed(CallError::TooLarge), unusable),
        ("not allowed", Outcome::Failed(CallError::NotAllowed), (503, "Unavailable", false)),
        ("HTML", html(), unusable),
        ("no key list", document(json!({})), unusable),
    ] {
        let gateway = gateway();
        let attempts = if retried { 3 } else { 1 };
        gateway.script((0..attempts).map(|_| answer.clone()));
        let bearer = signed(&BILLING.claims(BEGINNING));
        let reply = request_with_token(&gateway, &bearer, "billing-db");
        assert_eq!(outcome(&reply), (code_status, code), "{failure}");
        // The next request gets the cached failure without a call. An API key does not need the directory.
        assert_eq!(
            (read(&gateway, &bearer), gateway.calls().len()),
            ((code_status, code), attempts),
            "{failure}"
        );
        gateway.script([token(86_400), secret("a", "v")]);
        assert_eq!(gateway.read("a"), OK, "{failure}");
    }
}

#[test]
fn keys_that_are_not_strong_enough_are_not_published() {
    let document = |keys: Value| answer(200, json!({"keys": keys}).to_string());
    let weak = |name: &str, value: Value| {
        let mut key = SigningKey::number(0).published(TENANT);
        key[name] = value;
        document(json!([key]))
    };
    let exponent = |bytes: &[u8]| weak("e", BASE64_URL_SAFE_NO_PAD.encode(bytes).into());
    let modulus = |bytes: &[u8]| weak("n", BASE64_URL_SAFE_NO_PAD.encode(bytes).into());
    for (case, jwks) in [
        ("no keys", document(json!([]))),
        ("a key for encryption", weak("use", "enc".into())),
        ("a key for another algorithm", weak("alg", "RS512".into())),
        ("a key of another type", weak("kty", "oct".into())),
        ("a key without an id", weak("kid", Value::Null)),
        ("an exponent of 1", exponent(&[1])),
        ("an exponent of 3", exponent(&[3])),
        ("a long exponent", exponent(&[1; 64])),
        ("a short modulus", modulus(&[0xff; 128])),
        ("an even modulus", modulus(&[0xfe; 256])),
        ("a huge modulus", modulus(&[0xff; 1024])),
        ("no modulus", modulus(&[])),
        ("a modulus of zeros", modulus(&[0; 256])),
        ("padding", weak("e", "AQAB==".into())),
    ] {
        let gateway = gateway().with_script([jwks]);
        let bearer = signed(&BILLING.claims(BEGINNING));
        // The JWKS is one, so the second request makes no call.
        assert_eq!(
            (read(&gateway, &bearer), read(&gateway, &bearer)),
            (UNAUTHORIZED, UNAUTHORIZED),
            "{case}"
        );
        assert!(gateway.log()[0].contains("does not publish"), "{case}: {:?}", gateway.log());
        assert_eq!(gateway.calls().len(), 1, "{case}");
    }
}

#[test]
fn an_issuer_that_withdraws_all_keys_is_believed() {
    for keys in ["[]", r#"[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"AAAA"}]"#] {
        let (gateway, bearer) = warm();
        gateway.script_after(3600, [answer(200, format!(r#"{{"keys":{keys}}}"#))]);
        assert_eq!(read(&gateway, &bearer), UNAUTHORIZED, "{keys}");
    }
}

#[test]
fn anonymous_access_needs_no_token() {
    let settings: Vec<_> = [SETTINGS, &[("GATEWAY_ALLOW_ANONYMOUS", "true")]].concat();
    let gateway = Scripted::new(&settings);
    gateway.script([Outcome::Failed(CallError::NotAllowed), token(86_400), secret("a", "v")]);
    assert_eq!(outcome(&request_with_token(&gateway, &signed(&BILLING.claims(BEGINNING)), "a")), OK);
    assert_eq!(outcome(&request_with_token(&gateway, "no token", "a")), OK);
    let reply = gateway.get("/metrics");
    assert_eq!(outcome(&reply), UNAUTHORIZED);
}

#[test]
fn failed_authentication_limiter_spares_valid_callers() {
    let gateway = gateway();
    gateway.script([token(86_400), secret("a", "v"), keys([0]), secret("billing-db", "v")]);
    let valid = signed(&BILLING.claims(BEGINNING));
    let bad = [vec![("x-functions-key", "a-wrong-key")], vec![], vec![("authorization", "Bearer a.b.c")]];
    for number in 0..60 {
        let mut fields = bad[number % 3].clone();
        fields.push(("content-type", "application/json"));
        let reply = gateway.request("POST", "/", &fields, &request_for("a"));
        let expected = if number < 20 { (UNAUTHORIZED, "") } else { ((429, "TooManyRequests"), "10") };
        assert_eq!((outcome(&reply), field(&reply, "retry-after")), expected, "{number}");
        assert_eq!(gateway.read("a"), OK);
        assert_eq!(read(&gateway, &valid), OK);
    }
    gateway.advance(Duration::from_secs(10));
    assert_eq!(outcome(&request_with_token(&gateway, "x", "a")), UNAUTHORIZED);
}

#[test]
fn each_cloud_has_its_directory_and_issuers() {
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
            gateway.script([keys([0]), token(86_400), secret("billing-db", "v")]);
            let mut claims = claims;
            claims["iss"] = issuer.into();
            assert_eq!(read(&gateway, &signed(&claims)), OK, "{claims}");
            assert!(gateway.calls()[0].starts_with(&format!("GET https://{login}/{TENANT}/")));
        }
    }
}

pub fn gateway() -> Scripted {
    Scripted::new(SETTINGS)
}

/// Creates a gateway with the JWKS and a secret in its cache, and a valid token.
fn warm() -> (Scripted, String) {
    let gateway = gateway().with_script([keys([0]), token(86_400), secret("billing-db", "v")]);
    let valid = signed(&BILLING.claims(BEGINNING));
    assert_eq!(read(&gateway, &valid), OK);
    (gateway, valid)
}

pub fn read(gateway: &Scripted, bearer: &str) -> (u16, &'static str) {
    outcome(&request_with_token(gateway, bearer, "billing-db"))
}

pub fn request_with_token(gateway: &Scripted, bearer: &str, name: &str) -> Reply {
    let bearer = format!("Bearer {bearer}");
    gateway.request("POST", "/", &[JSON, ("authorization", &bearer)], &request_for(name))
}

/// A JWKS of the directory with these keys.
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

const UNLISTED: Application<'_> =
    Application { tenant: TENANT, audience: AUDIENCE, oid: STRANGER, appid: STRANGER, roles: &[] };

/// A caller that is listed by its object id.
pub const BILLING: Application<'_> = Application { oid: OID, ..UNLISTED };

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
