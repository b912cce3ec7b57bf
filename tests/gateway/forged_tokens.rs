//! Forged tokens and tokens for another audience, tenant or user: all get the same 401.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testkit::entra::{Application, SigningKey};

use crate::access_tokens::*;
use crate::scripted::*;

#[test]
fn every_forged_token_gets_the_same_401() {
    let key = SigningKey::number(0);
    let header = key.header();
    let claims = BILLING.claims(BEGINNING);
    let changed = |changes: &[(&str, Option<Value>)]| {
        let mut changed = claims.clone();
        let members = changed.as_object_mut().unwrap();
        for (name, value) in changes {
            members.remove(*name);
            members.extend(value.iter().map(|value| ((*name).to_owned(), value.clone())));
        }
        signed(&changed)
    };
    let with = |name: &str, value: Value| changed(&[(name, Some(value))]);
    let without = |name: &str| changed(&[(name, None)]);
    let headed = |name: &str, value: Value| {
        let mut changed = header.clone();
        changed[name] = value;
        key.token(&changed, &claims)
    };
    let modulus = BASE64_URL_SAFE_NO_PAD.decode(key.published(TENANT)["n"].as_str().unwrap()).unwrap();
    let valid = signed(&claims);
    let (signed_part, signature) = valid.rsplit_once('.').unwrap();
    let (head, body) = signed_part.split_once('.').unwrap();
    let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let other_claims = encoded(&Application { oid: STRANGER, ..BILLING }.claims(BEGINNING));
    let stranger = SigningKey::stranger();
    let own_key = stranger.published(TENANT);
    let published = key.published(TENANT)["n"].to_string();
    let text = claims.to_string();
    let twice = |member: &str| key.token_of(&header.to_string(), &format!("{{{member},{}", &text[1..]));
    let head_twice = |member: &str| {
        let header = header.to_string();
        key.token_of(&format!("{{{member},{}", &header[1..]), &text)
    };
    for (attack, bearer) in [
        // The signature is missing, by another key, or over other content.
        ("alg none, unsigned", format!("{}.{body}.", encoded(&json!({"alg": "none", "kid": key.id()})))),
        ("alg none, signed", headed("alg", "none".into())),
        ("alg as a list", headed("alg", json!(["RS256"]))),
        ("alg rs256", headed("alg", "rs256".into())),
        ("alg RS512", headed("alg", "RS512".into())),
        ("HS256 with the public key", hs256(&key.header(), &claims, &modulus)),
        ("HS256 with the published key", hs256(&key.header(), &claims, published.as_bytes())),
        ("HS256 with the public key as PEM", hs256(&key.header(), &claims, key.pem().as_bytes())),
        ("HS256 with the public key as DER", hs256(&key.header(), &claims, &key.der())),
        ("HS256 with an empty key", hs256(&key.header(), &claims, b"")),
        ("no signature", format!("{head}.{body}.")),
        ("no signature and no dot", format!("{head}.{body}")),
        ("other claims", format!("{head}.{other_claims}.{signature}")),
        ("a foreign signature under our key id", stranger.token(&header, &claims)),
        ("a foreign signature under its own key id", stranger.token(&stranger.header(), &claims)),
        // Four letters are three bytes: another length would be valid base64 with some keys only.
        ("half a signature", format!("{head}.{body}.{}", &signature[..signature.len() / 8 * 4])),
        ("zeros for a signature", format!("{head}.{body}.{}", BASE64_URL_SAFE_NO_PAD.encode([0; 256]))),
        ("a signature with padding", format!("{valid}==")),
        ("a signature in another alphabet", format!("{head}.{body}.{}", BASE64_STANDARD.encode([0xfb; 256]))),
        // The header names another source for the key, or another encoding.
        ("jwk", stranger.token(&json!({"alg": "RS256", "jwk": own_key, "kid": key.id()}), &claims)),
        ("jwk beside the right key", headed("jwk", own_key.clone())),
        ("jku", headed("jku", "https://keys.example/keys".into())),
        ("x5u", headed("x5u", "https://keys.example/chain".into())),
        ("x5c", headed("x5c", json!(["MIIB"]))),
        ("crit", headed("crit", json!(["exp"]))),
        ("b64", headed("b64", false.into())),
        ("zip", headed("zip", "DEF".into())),
        ("enc", headed("enc", "A256GCM".into())),
        ("another typ", headed("typ", "at+jwt".into())),
        ("typ as a number", headed("typ", 7.into())),
        ("no kid", key.token(&json!({"alg": "RS256", "typ": "JWT"}), &claims)),
        ("an empty kid", headed("kid", "".into())),
        ("a path as kid", headed("kid", "../../dev/null".into())),
        ("a kid as a number", headed("kid", 7.into())),
        ("a kid with a newline", headed("kid", format!("{}\n", key.id()).into())),
        ("a long kid", headed("kid", "k".repeat(8000).into())),
        ("alg twice", head_twice(r#""alg":"none""#)),
        ("kid twice", head_twice(r#""kid":"other""#)),
        // The claims are for another tenant, audience or time.
        ("no iss", without("iss")),
        ("iss of another tenant", with("iss", format!("https://sts.windows.net/{STRANGER}/").into())),
        ("iss without its slash", with("iss", format!("https://sts.windows.net/{TENANT}").into())),
        ("iss with a longer path", with("iss", format!("https://sts.windows.net/{TENANT}/x").into())),
        ("iss of another host", with("iss", format!("https://sts.windows.net.example/{TENANT}/").into())),
        ("iss of another cloud", with("iss", format!("https://sts.chinacloudapi.cn/{TENANT}/").into())),
        ("iss as a list", with("iss", json!([format!("https://sts.windows.net/{TENANT}/")]))),
        ("no tid", without("tid")),
        ("another tid", with("tid", STRANGER.into())),
        ("no aud", without("aud")),
        ("another aud", with("aud", "https://vault.azure.net".into())),
        ("aud with a slash", with("aud", format!("{AUDIENCE}/").into())),
        ("aud in capitals", with("aud", AUDIENCE.to_uppercase().into())),
        ("aud as a list", with("aud", json!([AUDIENCE]))),
        ("no exp", without("exp")),
        ("expired", with("exp", (BEGINNING - 60).into())),
        ("exp as a string", with("exp", "9999999999".into())),
        ("exp as a fraction", with("exp", json!(9_999_999_999.5))),
        ("a negative exp", with("exp", (-1).into())),
        ("a huge exp", with("exp", json!(1e300))),
        ("no nbf", without("nbf")),
        ("not yet valid", with("nbf", (BEGINNING + 61).into())),
        ("nbf as null", with("nbf", Value::Null)),
        ("no oid", without("oid")),
        ("no appid", without("appid")),
        ("both appid and azp", with("azp", APP_ID.into())),
        ("roles as a string", with("roles", "Secrets.Read.Mail".into())),
        ("roles as numbers", with("roles", json!(["Secrets.Read.Mail", 7]))),
        // The token is for a user instead of an application.
        ("on behalf of a user", with("scp", "user_impersonation".into())),
        ("with an empty scope", with("scp", "".into())),
        ("for a user", with("idtyp", "user".into())),
        ("idtyp as a list", with("idtyp", json!(["app"]))),
        ("of an unknown kind", changed(&[("idtyp", None), ("sub", None)])),
        ("another sub", changed(&[("idtyp", None), ("sub", Some("the-same-user-everywhere".into()))])),
        ("sub as a list", changed(&[("idtyp", None), ("sub", Some(json!([claims["oid"]])))])),
        // A duplicate claim is ambiguous.
        ("aud twice", twice(r#""aud":"another""#)),
        ("exp twice", twice(r#""exp":1"#)),
        ("oid twice, once escaped", twice(r#""\u006fid":"another""#)),
        ("an unused claim twice", twice(r#""uti":"another""#)),
        // The text is not a JWT.
        ("an empty token", String::new()),
        ("dots", "..".to_owned()),
        ("four parts", format!("{valid}.x")),
        ("five parts, as in an encrypted token", format!("{valid}.x.y")),
        ("a space inside", valid.replacen('.', " .", 1)),
        ("claims as a list", key.token_of(&header.to_string(), "[]")),
        ("truncated claims", key.token_of(&header.to_string(), &text[..text.len() - 1])),
        ("two claim objects", key.token_of(&header.to_string(), &format!("{text}{text}"))),
        ("deeply nested claims", with("x", deep(200))),
        ("a header as a string", key.token_of("\"RS256\"", &text)),
        ("a huge token", with("x", "x".repeat(20_000).into())),
    ] {
        let gateway = gateway();
        // The gateway makes no call but one for the JWKS.
        gateway.script([keys([0, 1])]);
        let reply = request_with_token(&gateway, &bearer, "billing-db");
        assert_eq!(outcome(&reply), UNAUTHORIZED, "{attack}");
        assert_eq!(body_of(&reply), NO_ACCESS, "{attack}");
        assert!(gateway.calls().len() <= 1, "{attack}: {:?}", gateway.calls());
        // The same instance accepts the valid token, so the attack is the only reason for the 401.
        gateway.script([token(86_400), secret("billing-db", "v")]);
        assert_eq!(outcome(&request_with_token(&gateway, &valid, "billing-db")), (200, "OK"), "{attack}");
    }
}

/// Signs with HMAC: a verifier that trusts `alg` in the token would use the public key as the secret.
fn hs256(header: &Value, claims: &Value, key: &[u8]) -> String {
    let mut header = header.clone();
    header["alg"] = "HS256".into();
    SigningKey::token_with_secret(&header, claims, key)
}

fn deep(levels: usize) -> Value {
    (0..levels).fold(json!(1), |inner, _| json!([inner]))
}

const NO_ACCESS: &str =
    r#"{"error":{"code":"Unauthorized","message":"The request has no valid key and no valid token."}}"#;
