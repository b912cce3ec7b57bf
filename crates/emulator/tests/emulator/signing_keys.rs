//! The tokens that callers of a gateway bring, and the keys that Entra publishes for them.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use http::StatusCode;
use keyvault_emulator::{
    Credential, Cut, Effect, Emulator, Fault, Kind, Refusal, Source, Upstream, UserAssigned, facts,
};
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde_json::{Value, json};

use crate::asking::{ask, setting, token, vault};

const OID: &str = "5c1d8f20-3b7e-4a96-8d04-e2f9b6a7c315";
const APPID: &str = "e8a3f6b1-7c24-4d59-9b0e-14d7c2a85f63";
const AUDIENCE: &str = "api://gateway";

fn address() -> String {
    format!("https://login.microsoftonline.com/{}/discovery/v2.0/keys", facts::TENANT)
}

/// The keys that are published.
async fn keys(emulator: &Emulator) -> Vec<Value> {
    let heard = ask(emulator, &format!("GET {}", address()), &[], "").await.expect("an answer");
    assert_eq!(heard.status, StatusCode::OK);
    heard.json()["keys"].as_array().expect("keys").clone()
}

/// The ids of the keys that are published.
async fn ids(emulator: &Emulator) -> Vec<String> {
    let text = |it: &Value| it["kid"].as_str().expect("text").to_owned();
    keys(emulator).await.iter().map(text).collect()
}

fn decoded(text: &str) -> Vec<u8> {
    BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64url without padding")
}

/// Header and claims, if `key` has signed the token.
fn read(token: &str, key: &Value) -> Option<(Value, Value)> {
    let (signed, signature) = token.rsplit_once('.').expect("a signature");
    let (header, claims) = signed.split_once('.').expect("a header and claims");
    let number = |name: &str| decoded(key[name].as_str().expect("a number"));
    RsaPublicKeyComponents { n: number("n"), e: number("e") }
        .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &decoded(signature))
        .ok()?;
    let json = |part: &str| serde_json::from_slice(&decoded(part)).expect("JSON");
    Some((json(header), json(claims)))
}

/// Header and claims of a token that is signed by the published key that it names.
async fn accepted(emulator: &Emulator, token: &str) -> Option<(Value, Value)> {
    let keys = keys(emulator).await;
    let (header, _) = token.split_once('.').expect("a header");
    let header: Value = serde_json::from_slice(&decoded(header)).expect("JSON");
    read(token, keys.iter().find(|it| it["kid"] == header["kid"])?)
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    since.as_secs().try_into().expect("before the sun's end")
}

#[tokio::test]
async fn the_keys_are_published_as_entra_does() {
    let emulator = Emulator::new();
    let heard = ask(&emulator, &format!("GET {}", address()), &[], "").await.expect("an answer");
    assert_eq!(heard.header("content-type"), Some("application/json; charset=utf-8"));
    assert_eq!(heard.header("cache-control"), Some("max-age=86400, private"));

    let keys = keys(&emulator).await;
    assert_eq!(keys.len(), 3);
    for key in &keys {
        let certificate = key["x5c"][0].as_str().expect("a certificate");
        let certificate = BASE64_STANDARD.decode(certificate).expect("base64");
        let thumbprint = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &certificate));
        let n = key["n"].as_str().expect("a modulus");
        assert_eq!(decoded(n).len(), 256);
        assert_eq!(
            key,
            &json!({
                "kty": "RSA",
                "use": "sig",
                "kid": thumbprint,
                "x5t": thumbprint,
                "n": n,
                "e": "AQAB",
                "x5c": key["x5c"],
                "cloud_instance_name": "microsoftonline.com",
                "issuer": format!("https://login.microsoftonline.com/{}/v2.0", facts::TENANT),
            })
        );
    }
    // Every emulator of a process has the same keys; private keys take a while to make.
    assert_eq!(self::keys(&Emulator::new()).await, keys);
}

#[tokio::test]
async fn the_keys_of_one_tenant_are_there_to_be_got() {
    let emulator = Emulator::new();
    let (home, upper) = (facts::TENANT, facts::TENANT.to_uppercase());
    let login = "https://login.microsoftonline.com";
    for (line, status, part) in [
        (format!("GET {login}/{home}/discovery/v2.0/keys"), 200, "AQAB"),
        (format!("GET {login}/{upper}/discovery/v2.0/keys"), 200, "AQAB"),
        (format!("GET {login}/{home}/discovery/v2.0/keys/"), 200, "AQAB"),
        (format!("GET https://login.microsoftonline.us/{home}/discovery/v2.0/keys"), 200, "AQAB"),
        (format!("GET http://127.0.0.1:8080/{home}/discovery/v2.0/keys"), 200, "AQAB"),
        (format!("GET {login}/common/discovery/v2.0/keys"), 400, "AADSTS90002: "),
        (format!("GET {login}/{OID}/discovery/v2.0/keys"), 400, "AADSTS90002: "),
        (format!("POST {login}/{home}/discovery/v2.0/keys"), 405, "AADSTS900561: "),
        (format!("HEAD {login}/{home}/discovery/v2.0/keys"), 405, "AADSTS900561: "),
        (format!("GET {login}/{home}/discovery/keys"), 404, ""),
        (format!("GET http://login.microsoftonline.com/{home}/discovery/v2.0/keys"), 421, ""),
        (format!("GET https://demo.vault.azure.net/{home}/discovery/v2.0/keys"), 401, "Unauthorized"),
        (format!("GET http://169.254.169.254/{home}/discovery/v2.0/keys"), 404, ""),
    ] {
        let heard = ask(&emulator, &line, &[], "").await.expect("an answer");
        let text = String::from_utf8_lossy(&heard.body);
        let fits = if part.is_empty() { text.is_empty() } else { text.contains(part) };
        assert!(heard.status == status && fits, "{line}: {} {text}", heard.status);
    }
}

#[tokio::test]
async fn the_configuration_leads_to_the_keys() {
    let emulator = Emulator::new();
    let line = format!("GET http://127.0.0.1:8080/{}/v2.0/.well-known/openid-configuration", facts::TENANT);
    let configuration = ask(&emulator, &line, &[], "").await.expect("an answer").json();
    let address = configuration["jwks_uri"].as_str().expect("an address");
    let heard = ask(&emulator, &format!("GET {address}"), &[], "").await.expect("an answer");
    assert_eq!(heard.json()["keys"].as_array().map(Vec::len), Some(3));
}

#[tokio::test]
async fn a_caller_brings_what_entra_gives_a_managed_identity() {
    let emulator = Emulator::new();
    let before = now();
    let token = emulator.caller_token(AUDIENCE, OID, APPID, &["Secrets.Read", "Secrets.Any"]);
    let (header, claims) = accepted(&emulator, &token).await.expect("a token that is signed");
    let kid = emulator.signing_key_id();
    assert_eq!(header, json!({"typ": "JWT", "alg": "RS256", "x5t": kid, "kid": kid}));

    let expires = claims["exp"].as_i64().expect("a number");
    assert!((before + 86_400..=now() + 86_400).contains(&expires), "{expires}");
    let issuer = format!("https://sts.windows.net/{}/", facts::TENANT);
    let expected = json!({
        "aud": AUDIENCE,
        "iss": issuer,
        "iat": expires - 86_700,
        "nbf": expires - 86_700,
        "exp": expires,
        "aio": claims["aio"],
        "appid": APPID,
        "appidacr": "2",
        "idp": issuer,
        "idtyp": "app",
        "oid": OID,
        "rh": claims["rh"],
        "roles": ["Secrets.Read", "Secrets.Any"],
        "sub": OID,
        "tid": facts::TENANT,
        "uti": claims["uti"],
        "ver": "1.0",
    });
    assert_eq!(claims, expected);

    // A time of one's own, and no roles.
    let token = emulator.caller_token_at(1_000_000_000, AUDIENCE, OID, APPID, &[]);
    let (_, claims) = accepted(&emulator, &token).await.expect("a token that is signed");
    let times = ["nbf", "exp", "roles"].map(|it| claims[it].as_i64());
    assert_eq!(times, [Some(999_999_700), Some(1_000_086_400), None]);
    assert!(claims.get("roles").is_none());
}

#[tokio::test]
async fn version_2_names_the_caller_otherwise() {
    let emulator = Emulator::new();
    let token = emulator.caller_token_v2(APPID, OID, APPID, &["Secrets.Read"]);
    let (_, claims) = accepted(&emulator, &token).await.expect("a token that is signed");
    let issuer = format!("https://login.microsoftonline.com/{}/v2.0", facts::TENANT);
    let expected = json!({
        "aud": APPID,
        "iss": issuer,
        "iat": claims["iat"],
        "nbf": claims["nbf"],
        "exp": claims["exp"],
        "aio": claims["aio"],
        "azp": APPID,
        "azpacr": "2",
        "oid": OID,
        "rh": claims["rh"],
        "roles": ["Secrets.Read"],
        "sub": OID,
        "tid": facts::TENANT,
        "uti": claims["uti"],
        "ver": "2.0",
    });
    assert_eq!(claims, expected);
}

#[tokio::test]
async fn whatever_is_to_be_signed_is_signed() {
    let emulator = Emulator::new();
    let kid = emulator.signing_key_id();
    let header = json!({"alg": "none", "kid": kid});
    let mut claims = Emulator::caller_claims(0, AUDIENCE, OID, APPID, &[]);
    claims["exp"] = Value::Null;
    let token = emulator.sign(&header, &claims);
    assert_eq!(accepted(&emulator, &token).await, Some((header.clone(), claims.clone())));

    let (doubled, text) = (format!(r#"{{"kid":"{kid}","kid":"{kid}"}}"#), r#"{"oid":"a","oid":"b"}"#);
    let token = emulator.sign_raw(&doubled, text);
    let parts: Vec<Vec<u8>> = token.split('.').map(decoded).collect();
    assert_eq!((&parts[0][..], &parts[1][..]), (doubled.as_bytes(), text.as_bytes()));
    assert!(accepted(&emulator, &token).await.is_some());

    // A key that no document has, and no key at all.
    let token = emulator.sign_as_stranger(&header, &claims);
    for rotations in 0..4 {
        for key in keys(&emulator).await {
            assert_eq!(read(&token, &key), None, "after {rotations} rotations");
        }
        emulator.rotate_signing_keys();
    }
    let pem = emulator.signing_key_pem();
    let token = emulator.sign_with_secret(&header, &claims, pem.as_bytes());
    let (signed, tag) = token.rsplit_once('.').expect("a tag");
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, pem.as_bytes());
    assert_eq!(ring::hmac::verify(&secret, signed.as_bytes(), &decoded(tag)), Ok(()));
}

#[tokio::test]
async fn the_current_public_key_is_the_newest_that_is_published() {
    let emulator = Emulator::new();
    for _ in 0..2 {
        let newest = keys(&emulator).await.pop().expect("a key");
        assert_eq!(newest["kid"], *emulator.signing_key_id());
        let der = emulator.signing_key_der();
        let modulus = decoded(newest["n"].as_str().expect("a modulus"));
        assert!(der.windows(modulus.len()).any(|it| it == modulus));

        let pem = emulator.signing_key_pem();
        let text = pem.strip_prefix("-----BEGIN PUBLIC KEY-----\n").expect("a beginning");
        let text = text.strip_suffix("\n-----END PUBLIC KEY-----\n").expect("an end");
        assert_eq!(BASE64_STANDARD.decode(text.replace('\n', "")).ok(), Some(der));
        emulator.rotate_signing_keys();
    }
}

#[tokio::test]
async fn the_oldest_key_leaves_when_a_new_one_comes() {
    let emulator = Emulator::new();
    let other = Emulator::new();
    let token = emulator.caller_token(AUDIENCE, OID, APPID, &[]);
    let before = ids(&emulator).await;

    emulator.rotate_signing_keys();
    let after = ids(&emulator).await;
    assert_eq!((&after[..2], &after[2]), (&before[1..], &emulator.signing_key_id()));
    assert!(!before.contains(&after[2]));
    // What the older key has signed is good until that key has left.
    assert!(accepted(&emulator, &token).await.is_some());
    emulator.rotate_signing_keys();
    assert!(accepted(&emulator, &token).await.is_some());

    // The same from outside.
    let line = "POST http://127.0.0.1:8080/emulator/signing-keys";
    assert_eq!(ask(&emulator, line, &[], "").await.expect("an answer").status, StatusCode::NO_CONTENT);
    assert!(accepted(&emulator, &token).await.is_none());
    // Nobody else has noticed.
    assert_eq!(ids(&other).await, before);
}

#[tokio::test]
async fn faults_befall_the_requests_for_keys() {
    let line = format!("GET {}", address());
    let status = |number| Effect::Status(StatusCode::from_u16(number).expect("a status"));
    for upstream in [Upstream::SigningKeys, Upstream::Any] {
        for (effect, found, part) in [
            (status(400), 400, "AADSTS90002: "),
            (status(429), 429, "temporarily_unavailable"),
            (status(503), 503, "temporarily_unavailable"),
            (Effect::PlainText, 200, "<html>"),
            (Effect::HugeChunkedBody(100_000), 200, "aaaa"),
        ] {
            let emulator = Emulator::new();
            emulator.fault(Fault::new(upstream, effect.clone()).times(1));
            let heard = ask(&emulator, &line, &[], "").await.expect("an answer");
            let text = String::from_utf8_lossy(&heard.body);
            assert!(heard.status == found && text.contains(part), "{effect:?}: {} {text}", heard.status);
        }
        let emulator = Emulator::new();
        emulator.fault(Fault::new(upstream, Effect::CutWithinBody));
        assert_eq!(ask(&emulator, &line, &[], "").await.err(), Some(Cut));
    }

    // Other requests do not meet what is for these, nor these what is for others.
    let emulator = Emulator::new();
    emulator.set_secret("db-password", "one").expect("a valid name");
    emulator.fault(Fault::new(Upstream::SigningKeys, status(503)));
    assert_eq!(vault(&emulator, "GET /secrets/db-password?api-version=7.4", "").await.status, StatusCode::OK);
    emulator.clear_faults();
    emulator.fault(Fault::new(Upstream::Token, status(503)));
    emulator.fault(Fault::new(Upstream::Vault, status(503)));
    emulator.fault(Fault::new(Upstream::Any, Effect::Refuse(Refusal::Throttled)));
    assert_eq!(ids(&emulator).await.len(), 3);
}

#[tokio::test]
async fn requests_for_keys_are_in_the_journal() {
    let emulator = Emulator::new();
    let token = emulator.caller_token(AUDIENCE, OID, APPID, &[]);
    let bearer = format!("Bearer {token}");
    let line = format!("GET {}", address());
    for (headers, credential) in
        [(&[][..], Credential::Absent), (&[("authorization", bearer.as_str())], Credential::Wrong)]
    {
        assert_eq!(ask(&emulator, &line, headers, "").await.expect("an answer").status, StatusCode::OK);
        let calls = emulator.signing_key_calls();
        assert_eq!((calls.len(), emulator.journal().len()), (1, 1));
        let call = &calls[0];
        assert_eq!((call.kind, call.credential, call.status), (Kind::SigningKeys, credential, Some(200)));
        assert_eq!(json!(call)["kind"], "signing_keys");
        assert!(!json!(call).to_string().contains(&token));
        emulator.clear_journal();
    }
}

#[tokio::test]
async fn every_source_gives_a_signed_token_for_the_callers_audience() {
    let emulator = Emulator::new();
    let identity = setting(&emulator, Source::AppService2019, "IDENTITY_HEADER");
    let secret = setting(&emulator, Source::ClientSecret, "AZURE_CLIENT_SECRET");
    let metadata = ("metadata", "true");
    let form = ("content-type", "application/x-www-form-urlencoded");
    let grant = |audience: &str| {
        let id = facts::APP_ID;
        format!(
            "grant_type=client_credentials&client_id={id}&client_secret={secret}&scope={audience}/.default"
        )
    };
    let entra = format!("POST https://login.microsoftonline.com/{}/oauth2/v2.0/token", facts::TENANT);
    let imds = "GET http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=";
    let sources = |audience: &str| {
        [
            (
                format!("GET http://127.0.0.1/msi/token?api-version=2019-08-01&resource={audience}"),
                vec![("x-identity-header", identity.as_str())],
                String::new(),
                ("2", 86_700),
            ),
            (
                format!("GET http://127.0.0.1/msi/token?api-version=2017-09-01&resource={audience}"),
                vec![("secret", identity.as_str())],
                String::new(),
                ("2", 86_700),
            ),
            (format!("{imds}{audience}"), vec![metadata], String::new(), ("2", 86_700)),
            (
                "POST http://127.0.0.1/oauth2/token".to_owned(),
                vec![metadata, form],
                format!("resource={audience}"),
                ("2", 86_700),
            ),
            (entra.clone(), vec![form], grant(audience), ("1", 3_899)),
        ]
    };

    // Nobody knows the audience before the emulator has been told of it.
    for (line, headers, body, _) in sources(AUDIENCE) {
        let heard = ask(&emulator, &line, &headers, &body).await.expect("an answer");
        assert!(!heard.status.is_success(), "{line}");
    }
    let control = "PUT http://127.0.0.1/emulator/settings";
    let settings = json!({"caller_audience": AUDIENCE}).to_string();
    assert_eq!(ask(&emulator, control, &[], &settings).await.expect("an answer").status, 204);
    for (line, headers, body, (proof, life)) in sources(AUDIENCE) {
        let heard = ask(&emulator, &line, &headers, &body).await.expect("an answer").json();
        let token = heard["access_token"].as_str().expect("a token");
        let (_, claims) = accepted(&emulator, token).await.expect("a token that is signed");
        let names = ["aud", "oid", "appid", "appidacr"].map(|it| claims[it].as_str().expect("text"));
        assert_eq!(names, [AUDIENCE, facts::OBJECT_ID, facts::APP_ID, proof], "{line}");
        let times = ["nbf", "exp"].map(|it| claims[it].as_i64().expect("a number"));
        assert_eq!(times[1] - times[0], life, "{line}");
        if let Some(expires) = heard["expires_on"].as_str().and_then(|it| it.parse::<i64>().ok()) {
            assert_eq!(times[1], expires, "{line}");
        }

        // It is no key to the vault.
        let bearer = format!("Bearer {token}");
        let line = "GET https://demo.vault.azure.net/secrets/a?api-version=7.4";
        let heard = ask(&emulator, line, &[("authorization", &bearer)], "").await.expect("an answer");
        let (status, _, _, message) = heard.refusal();
        let told = format!("found: {AUDIENCE}.");
        assert!(status == 401 && message.contains("AKV10022") && message.contains(&told), "{message}");
    }

    // A vault's tokens say nothing still, even if somebody takes a vault's audience for the callers'.
    emulator.configure(|it| it.caller_audience = Some("https://vault.azure.net".to_owned()));
    for (line, headers, body, _) in sources("https://vault.azure.net") {
        let heard = ask(&emulator, &line, &headers, &body).await.expect("an answer").json();
        let token = heard["access_token"].as_str().expect("a token");
        assert_eq!(token.split('.').next().map(decoded), Some(br#"{"typ":"JWT","alg":"RS256"}"#.to_vec()));
    }
}

#[tokio::test]
async fn a_signed_token_is_for_the_identity_that_was_selected() {
    let emulator = Emulator::new();
    emulator.configure(|it| {
        it.caller_audience = Some(AUDIENCE.to_owned());
        it.lifetime = Some(60);
        it.user_assigned = vec![UserAssigned {
            client_id: APPID.to_owned(),
            object_id: OID.to_owned(),
            resource_id: "/r/1".to_owned(),
        }];
    });
    let token = token(&emulator, &format!("{AUDIENCE}&client_id={APPID}")).await;
    let (_, claims) = accepted(&emulator, &token).await.expect("a token that is signed");
    assert_eq!((&claims["appid"], &claims["oid"], &claims["sub"]), (&json!(APPID), &json!(OID), &json!(OID)));
    assert_eq!(claims["exp"].as_i64(), claims["nbf"].as_i64().map(|it| it + 360));
}
