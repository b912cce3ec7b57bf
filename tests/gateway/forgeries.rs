//! Tokens that are forged, or are for somebody or something else: none of them gets in, and nobody learns why.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testkit::entra::{Application, SigningKey};

use crate::bearers::*;
use crate::scripted::*;

#[test]
fn what_is_wrong_with_a_token_makes_no_difference() {
    let key = SigningKey::number(0);
    let header = key.header();
    let claims = BILLING.claims(BEGINNING);
    let changed = |changes: &[(&str, Option<Value>)]| {
        let mut changed = claims.clone();
        let members = changed.as_object_mut().unwrap();
        for (name, value) in changes {
            members.remove(*name);
            members.extend(value.iter().map(|it| ((*name).to_owned(), it.clone())));
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
    let good = signed(&claims);
    let (signed_part, signature) = good.rsplit_once('.').unwrap();
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
    for (what, bearer) in [
        // The signature is none, or somebody else's, or of something else.
        ("alg none, unsigned", format!("{}.{body}.", encoded(&json!({"alg": "none", "kid": key.id()})))),
        ("alg none, signed", headed("alg", "none".into())),
        ("alg None", headed("alg", "nOnE".into())),
        ("alg empty", headed("alg", "".into())),
        ("alg of a list", headed("alg", json!(["RS256"]))),
        ("alg rs256", headed("alg", "rs256".into())),
        ("alg RS512", headed("alg", "RS512".into())),
        ("alg PS256", headed("alg", "PS256".into())),
        ("alg ES256", headed("alg", "ES256".into())),
        ("HS256 with the public key", hs256(&key.header(), &claims, &modulus)),
        ("HS256 with the published key", hs256(&key.header(), &claims, published.as_bytes())),
        ("HS256 with the public key as PEM", hs256(&key.header(), &claims, key.pem().as_bytes())),
        ("HS256 with the public key as DER", hs256(&key.header(), &claims, &key.der())),
        ("HS256 with an empty key", hs256(&key.header(), &claims, b"")),
        ("no signature", format!("{head}.{body}.")),
        ("no signature and no dot", format!("{head}.{body}")),
        ("other claims", format!("{head}.{other_claims}.{signature}")),
        ("another's key under our name", stranger.token(&header, &claims)),
        ("another's key under its own name", stranger.token(&stranger.header(), &claims)),
        ("half a signature", format!("{head}.{body}.{}", &signature[..signature.len() / 2])),
        ("zeros for a signature", format!("{head}.{body}.{}", BASE64_URL_SAFE_NO_PAD.encode([0; 256]))),
        ("a signature with padding", format!("{good}==")),
        ("a signature in another alphabet", format!("{head}.{body}.{}", BASE64_STANDARD.encode([0xfb; 256]))),
        // The header wants the key to come from elsewhere, or to be read in another way.
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
        ("typ of a number", headed("typ", 7.into())),
        ("no kid", key.token(&json!({"alg": "RS256", "typ": "JWT"}), &claims)),
        ("an empty kid", headed("kid", "".into())),
        ("a kid of a path", headed("kid", "../../dev/null".into())),
        ("a kid of SQL", headed("kid", "x' UNION SELECT 'key'--".into())),
        ("a kid of a URL", headed("kid", "https://keys.example/1".into())),
        ("a kid of a number", headed("kid", 7.into())),
        ("a kid with a line's end", headed("kid", format!("{}\n", key.id()).into())),
        ("a long kid", headed("kid", "k".repeat(8000).into())),
        ("alg twice", head_twice(r#""alg":"none""#)),
        ("kid twice", head_twice(r#""kid":"other""#)),
        // The claims are those of another tenant, of another audience, of another time.
        ("no iss", without("iss")),
        ("another tenant's iss", with("iss", format!("https://sts.windows.net/{STRANGER}/").into())),
        ("iss without its slash", with("iss", format!("https://sts.windows.net/{TENANT}").into())),
        ("iss with more behind it", with("iss", format!("https://sts.windows.net/{TENANT}/x").into())),
        ("iss of another host", with("iss", format!("https://sts.windows.net.example/{TENANT}/").into())),
        ("iss of another cloud", with("iss", format!("https://sts.chinacloudapi.cn/{TENANT}/").into())),
        ("iss of a template", with("iss", "https://sts.windows.net/{tenantid}/".into())),
        ("iss of a list", with("iss", json!([format!("https://sts.windows.net/{TENANT}/")]))),
        ("no tid", without("tid")),
        ("another tid", with("tid", STRANGER.into())),
        ("no aud", without("aud")),
        ("another aud", with("aud", "https://vault.azure.net".into())),
        ("aud with a slash", with("aud", format!("{AUDIENCE}/").into())),
        ("aud in capitals", with("aud", AUDIENCE.to_uppercase().into())),
        ("aud of a list", with("aud", json!([AUDIENCE]))),
        ("no exp", without("exp")),
        ("expired", with("exp", (BEGINNING - 60).into())),
        ("expired long ago", with("exp", 0.into())),
        ("exp of a text", with("exp", "9999999999".into())),
        ("exp of a fraction", with("exp", json!(9_999_999_999.5))),
        ("a negative exp", with("exp", (-1).into())),
        ("an exp without end", with("exp", json!(1e300))),
        ("no nbf", without("nbf")),
        ("not yet valid", with("nbf", (BEGINNING + 61).into())),
        ("nbf of null", with("nbf", Value::Null)),
        ("no oid", without("oid")),
        ("no appid", without("appid")),
        ("both appid and azp", with("azp", APP_ID.into())),
        ("roles of a text", with("roles", "Secrets.Read.Mail".into())),
        ("roles of numbers", with("roles", json!(["Secrets.Read.Mail", 7]))),
        // It is a user's: the application has it on behalf of somebody.
        ("on behalf of a user", with("scp", "user_impersonation".into())),
        ("with an empty scope", with("scp", "".into())),
        ("of a user", with("idtyp", "user".into())),
        ("of another kind", with("idtyp", json!(["app"]))),
        ("of nobody knows whom", changed(&[("idtyp", None), ("sub", None)])),
        ("of another subject", changed(&[("idtyp", None), ("sub", Some("the-same-user-everywhere".into()))])),
        ("of a subject that is a list", changed(&[("idtyp", None), ("sub", Some(json!([claims["oid"]])))])),
        // A claim comes twice: nobody could say which one counts.
        ("aud twice", twice(r#""aud":"another""#)),
        ("exp twice", twice(r#""exp":1"#)),
        ("oid twice, in another writing", twice(r#""\u006fid":"another""#)),
        ("a claim twice that is not looked at", twice(r#""uti":"another""#)),
        // It is no token at all.
        ("nothing", String::new()),
        ("dots", "..".to_owned()),
        ("four parts", format!("{good}.x")),
        ("five parts, as an encrypted token has", format!("{good}.x.y")),
        ("a blank within", good.replacen('.', " .", 1)),
        ("claims of a list", key.token_of(&header.to_string(), "[]")),
        ("claims that end early", key.token_of(&header.to_string(), &text[..text.len() - 1])),
        ("claims with more behind them", key.token_of(&header.to_string(), &format!("{text}{text}"))),
        ("claims that are deep", with("x", deep(200))),
        ("a header of a text", key.token_of("\"RS256\"", &text)),
        ("a huge token", with("x", "x".repeat(20_000).into())),
    ] {
        let gateway = gateway();
        // Whether the keys are asked for or not, nothing else is.
        gateway.will_answer([keys([0, 1])]);
        let reply = ask(&gateway, &bearer, "billing-db");
        assert_eq!(outcome(&reply), UNAUTHORIZED, "{what}");
        assert_eq!(body_of(&reply), NO_ACCESS, "{what}");
        assert!(gateway.calls().len() <= 1, "{what}: {:?}", gateway.calls());
        // The same instance lets the good one in, so that it was this that was wrong.
        gateway.will_answer([token(86_400), secret("billing-db", "v")]);
        assert_eq!(outcome(&ask(&gateway, &good, "billing-db")), (200, "OK"), "{what}");
    }
}

/// Who takes the algorithm from the token verifies it with the public key, which everybody has.
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
