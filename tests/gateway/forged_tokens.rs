//! Forged tokens and tokens for another audience, issuer or user: all get the same 401, each for its reason.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use testkit::entra::{Application, SigningKey};
use testkit::oidc::{self, EcKey};

use crate::access_tokens::{self, APP_ID, BILLING, STRANGER, TENANT, UNAUTHORIZED, keys};
use crate::platform_tokens::{self, ACCOUNT, CLUSTER, JOB, header_with_id};
use crate::scripted::*;

#[test]
fn every_forged_token_of_the_tenant_gets_the_same_401() {
    let claims = BILLING.claims(BEGINNING);
    let target = Target {
        new: access_tokens::gateway,
        jwks: [keys([0, 1])].into(),
        header: SigningKey::header,
        claims,
    };
    let (key, claims) = (SigningKey::number(0), &target.claims);
    let with = |name: &str, value: Value| target.changed(&[(name, Some(value))]);
    let without = |name: &str| target.changed(&[(name, None)]);
    let v1 = |rest: &str| format!("https://sts.windows.net/{rest}").into();
    target.refuses_all([
        ("ES256", EcKey::first().token(&json!({"alg": "ES256", "kid": key.id()}), claims), NOT_A_TOKEN),
        // The claims are for another tenant, audience or time.
        ("iss of another tenant", with("iss", v1(&format!("{STRANGER}/"))), ISSUER),
        ("iss without its slash", with("iss", v1(TENANT)), ISSUER),
        ("iss with a longer path", with("iss", v1(&format!("{TENANT}/x"))), ISSUER),
        (
            "iss of another host",
            with("iss", format!("https://sts.windows.net.example/{TENANT}/").into()),
            ISSUER,
        ),
        (
            "iss of another cloud",
            with("iss", format!("https://sts.chinacloudapi.cn/{TENANT}/").into()),
            ISSUER,
        ),
        ("no tid", without("tid"), CLAIMS),
        ("another tid", with("tid", STRANGER.into()), "another tenant"),
        ("aud of Key Vault", with("aud", "https://vault.azure.net".into()), AUDIENCE),
        ("aud as a list", with("aud", json!([access_tokens::AUDIENCE])), AUDIENCE),
        ("no nbf", without("nbf"), CLAIMS),
        ("no oid", without("oid"), CLAIMS),
        ("no appid", without("appid"), CLAIMS),
        ("both appid and azp", with("azp", APP_ID.into()), CLAIMS),
        ("roles as a string", with("roles", "Secrets.Read.Mail".into()), CLAIMS),
        ("roles as numbers", with("roles", json!(["Secrets.Read.Mail", 7])), CLAIMS),
        (
            "another oid",
            target.signed(&Application { oid: STRANGER, ..BILLING }.claims(BEGINNING)),
            NO_CALLER,
        ),
        // The token is for a user instead of an application.
        ("on behalf of a user", with("scp", "user_impersonation".into()), USER),
        ("with an empty scope", with("scp", "".into()), USER),
        ("for a user", with("idtyp", "user".into()), USER),
        ("idtyp as a list", with("idtyp", json!(["app"])), USER),
        ("of an unknown kind", target.changed(&[("idtyp", None), ("sub", None)]), USER),
        ("another sub", target.changed(&[("idtyp", None), ("sub", Some("the-same-user".into()))]), USER),
        ("sub as a list", target.changed(&[("idtyp", None), ("sub", Some(json!([claims["oid"]])))]), USER),
        ("oid twice, once escaped", target.twice(r#""\u006fid":"another""#), NOT_A_TOKEN),
    ]);
}

#[test]
fn every_forged_token_of_a_platform_gets_the_same_401() {
    let claims = oidc::service_account(CLUSTER, platform_tokens::AUDIENCE, ACCOUNT, BEGINNING);
    let jwks = platform_tokens::cluster_jwks();
    let target = Target { new: platform_tokens::gateway, jwks, header: oidc::header, claims };
    let (key, github, ec) = (SigningKey::number(0), SigningKey::number(2), EcKey::first());
    let claims = &target.claims;
    let with = |name: &str, value: Value| target.changed(&[(name, Some(value))]);
    let audience = platform_tokens::AUDIENCE;
    target.refuses_all([
        // The token mixes two issuers. Both publish a key by the id "shared".
        ("the key of another issuer", github.token(&oidc::header(&github), claims), KEY),
        ("the other issuer's key of the same id", github.token(&header_with_id("shared"), claims), SIGNATURE),
        ("another issuer's subject", with("sub", JOB.into()), NO_CALLER),
        ("iss without its slash", with("iss", CLUSTER.trim_end_matches('/').into()), ISSUER),
        ("iss of the cluster's host", with("iss", "https://oidc.example/".into()), ISSUER),
        ("iss in capitals", with("iss", CLUSTER.to_uppercase().into()), ISSUER),
        ("a token of Entra ID", key.token(&key.header(), &BILLING.claims(BEGINNING)), ISSUER),
        // The algorithm is another than the key's.
        (
            "ES256 by the key of RS256",
            key.token(&json!({"alg": "ES256", "kid": key.id()}), claims),
            SIGNATURE,
        ),
        ("RS256 by the key of ES256", key.token(&json!({"alg": "RS256", "kid": ec.id()}), claims), SIGNATURE),
        ("a foreign ES256 key", EcKey::stranger().token(&ec.header(), claims), SIGNATURE),
        ("an ES256 signature in ASN.1", ec.token_with_asn1(&ec.header(), claims), SIGNATURE),
        ("ES384", ec.token(&json!({"alg": "ES384", "kid": ec.id()}), claims), NOT_A_TOKEN),
        ("ES256K", ec.token(&json!({"alg": "ES256K", "kid": ec.id()}), claims), NOT_A_TOKEN),
        // The audience is not the gateway alone.
        ("aud of the API server", with("aud", json!([CLUSTER])), AUDIENCE),
        ("aud of Entra ID", with("aud", json!(["api://AzureADTokenExchange"])), AUDIENCE),
        ("two audiences", with("aud", json!([audience, CLUSTER])), AUDIENCE),
        ("two audiences, ours last", with("aud", json!([CLUSTER, audience])), AUDIENCE),
        ("our audience twice", with("aud", json!([audience, audience])), AUDIENCE),
        ("no audience in the list", with("aud", json!([])), AUDIENCE),
        ("a list in the list", with("aud", json!([[audience]])), AUDIENCE),
        ("audiences in one text", with("aud", format!("{audience} {CLUSTER}").into()), AUDIENCE),
        ("aud as an object", with("aud", json!({audience: audience})), AUDIENCE),
        // The subject is another one, or none.
        ("no sub", target.changed(&[("sub", None)]), CLAIMS),
        ("an empty sub", with("sub", "".into()), CLAIMS),
        ("sub as a list", with("sub", json!([ACCOUNT])), CLAIMS),
        ("sub as a number", with("sub", 7.into()), CLAIMS),
        ("a sub with a newline", with("sub", format!("{ACCOUNT}\n").into()), CLAIMS),
        ("a huge sub", with("sub", format!("{ACCOUNT}:{}", "x".repeat(2048)).into()), CLAIMS),
        ("a sub in capitals", with("sub", ACCOUNT.to_uppercase().into()), NO_CALLER),
        ("a longer sub", with("sub", format!("{ACCOUNT}2").into()), NO_CALLER),
        ("a sub with one more part", with("sub", format!("{ACCOUNT}:x").into()), NO_CALLER),
        ("a shorter sub", with("sub", ACCOUNT[..ACCOUNT.len() - 1].into()), NO_CALLER),
        ("a sub with a space", with("sub", format!("{ACCOUNT} ").into()), NO_CALLER),
        ("the sub of a wildcard's prefix", with("sub", "system:serviceaccount:ops:".into()), NO_CALLER),
        ("a namespace that begins alike", with("sub", "system:serviceaccount:ops-2:app".into()), NO_CALLER),
        ("the wildcard itself", with("sub", "system:serviceaccount:ops*".into()), NO_CALLER),
        // The time.
        ("nbf as a text", with("nbf", "0".into()), CLAIMS),
        ("iat as a text", with("iat", "0".into()), CLAIMS),
        (
            "issued in the future",
            target.changed(&[("nbf", None), ("iat", Some((BEGINNING + 61).into()))]),
            EARLY,
        ),
    ]);
}

/// What attackers try on one kind of issuer: how a gateway that trusts it is made, which JWKS it fetches, and
/// a valid token's header and claims, signed by key number 0.
struct Target {
    new: fn() -> Scripted,
    jwks: Vec<Outcome>,
    header: fn(&SigningKey) -> Value,
    claims: Value,
}

impl Target {
    fn signed(&self, claims: &Value) -> String {
        let key = SigningKey::number(0);
        key.token(&(self.header)(&key), claims)
    }

    /// Signs the claims with some changed or removed.
    fn changed(&self, changes: &[(&str, Option<Value>)]) -> String {
        let mut changed = self.claims.clone();
        let members = changed.as_object_mut().unwrap();
        for (name, value) in changes {
            members.remove(*name);
            members.extend(value.iter().map(|value| ((*name).to_owned(), value.clone())));
        }
        self.signed(&changed)
    }

    /// Signs the claims with another member before them.
    fn twice(&self, member: &str) -> String {
        let key = SigningKey::number(0);
        let text = self.claims.to_string();
        key.token_of(&(self.header)(&key).to_string(), &format!("{{{member},{}", &text[1..]))
    }

    /// Checks that every attack gets the same 401 with its reason in the log, and that the same instance
    /// accepts the valid token after it, so that the attack is the only reason.
    fn refuses_all<const N: usize>(&self, attacks: [(&str, String, &str); N]) {
        let valid = self.signed(&self.claims);
        for (attack, bearer, reason) in self.attacks_on_any_issuer().into_iter().chain(attacks) {
            let gateway = (self.new)();
            gateway.script(self.jwks.clone());
            let reply = access_tokens::request_with_token(&gateway, &bearer, "billing-db");
            assert_eq!(outcome(&reply), UNAUTHORIZED, "{attack}");
            assert_eq!(body_of(&reply), NO_ACCESS, "{attack}");
            assert!(gateway.calls().len() <= self.jwks.len(), "{attack}: {:?}", gateway.calls());
            assert!(gateway.log()[0].contains(reason), "{attack}: {:?}", gateway.log());
            gateway.script([token(86_400), secret("billing-db", "v")]);
            let reply = access_tokens::request_with_token(&gateway, &valid, "billing-db");
            assert_eq!(outcome(&reply), (200, "OK"), "{attack}: {:?}", gateway.log());
        }
    }

    fn attacks_on_any_issuer(&self) -> Vec<(&'static str, String, &'static str)> {
        let (key, stranger) = (SigningKey::number(0), SigningKey::stranger());
        let (header, claims) = ((self.header)(&key), &self.claims);
        let with = |name: &str, value: Value| self.changed(&[(name, Some(value))]);
        let headed = |name: &str, value: Value| {
            let mut changed = header.clone();
            changed[name] = value;
            key.token(&changed, claims)
        };
        let own_key = stranger.published(TENANT);
        let published = key.published(TENANT)["n"].to_string();
        let modulus = BASE64_URL_SAFE_NO_PAD.decode(key.published(TENANT)["n"].as_str().unwrap()).unwrap();
        let valid = self.signed(claims);
        let (signed_part, signature) = valid.rsplit_once('.').unwrap();
        let (head, body) = signed_part.split_once('.').unwrap();
        let encoded = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let mut other = claims.clone();
        other["sub"] = "system:serviceaccount:ops:app".into();
        let other_claims = encoded(&other);
        let text = claims.to_string();
        let head_twice = |member: &str| {
            let header = header.to_string();
            key.token_of(&format!("{{{member},{}", &header[1..]), &text)
        };
        let zeros = BASE64_URL_SAFE_NO_PAD.encode([0; 256]);
        let symmetric = |secret: &[u8]| hs256(&header, claims, secret);
        vec![
            // The signature is missing, by another key, or over other content.
            (
                "alg none, unsigned",
                format!("{}.{body}.", encoded(&json!({"alg": "none", "kid": key.id()}))),
                NOT_A_TOKEN,
            ),
            ("alg none, signed", headed("alg", "none".into()), NOT_A_TOKEN),
            ("alg as a list", headed("alg", json!(["RS256"])), NOT_A_TOKEN),
            ("alg rs256", headed("alg", "rs256".into()), NOT_A_TOKEN),
            ("alg RS512", headed("alg", "RS512".into()), NOT_A_TOKEN),
            ("alg PS256", headed("alg", "PS256".into()), NOT_A_TOKEN),
            ("HS256 with the public key", symmetric(&modulus), NOT_A_TOKEN),
            ("HS256 with the published key", symmetric(published.as_bytes()), NOT_A_TOKEN),
            ("HS256 with the public key as PEM", symmetric(key.pem().as_bytes()), NOT_A_TOKEN),
            ("HS256 with the public key as DER", symmetric(&key.der()), NOT_A_TOKEN),
            ("HS256 with an empty key", symmetric(b""), NOT_A_TOKEN),
            ("no signature", format!("{head}.{body}."), SIGNATURE),
            ("no signature and no dot", format!("{head}.{body}"), NOT_A_TOKEN),
            ("other claims", format!("{head}.{other_claims}.{signature}"), SIGNATURE),
            ("a foreign signature under our key id", stranger.token(&header, claims), SIGNATURE),
            (
                "a foreign signature under its own key id",
                stranger.token(&(self.header)(&stranger), claims),
                KEY,
            ),
            // Four letters are three bytes: another length would be valid base64 with some keys only.
            (
                "half a signature",
                format!("{head}.{body}.{}", &signature[..signature.len() / 8 * 4]),
                SIGNATURE,
            ),
            ("zeros for a signature", format!("{head}.{body}.{zeros}"), SIGNATURE),
            ("a signature with padding", format!("{valid}=="), NOT_A_TOKEN),
            (
                "a signature in another alphabet",
                format!("{head}.{body}.{}", BASE64_STANDARD.encode([0xfb; 256])),
                NOT_A_TOKEN,
            ),
            // The header names another source for the key, or another encoding.
            (
                "jwk",
                stranger.token(&json!({"alg": "RS256", "jwk": own_key, "kid": key.id()}), claims),
                NOT_A_TOKEN,
            ),
            ("jwk beside the right key", headed("jwk", own_key.clone()), NOT_A_TOKEN),
            ("jku", headed("jku", "https://keys.example/keys".into()), NOT_A_TOKEN),
            ("x5u", headed("x5u", "https://keys.example/chain".into()), NOT_A_TOKEN),
            ("x5c", headed("x5c", json!(["MIIB"])), NOT_A_TOKEN),
            ("crit", headed("crit", json!(["exp"])), NOT_A_TOKEN),
            ("b64", headed("b64", false.into()), NOT_A_TOKEN),
            ("zip", headed("zip", "DEF".into()), NOT_A_TOKEN),
            ("enc", headed("enc", "A256GCM".into()), NOT_A_TOKEN),
            ("another typ", headed("typ", "at+jwt".into()), NOT_A_TOKEN),
            ("typ as a number", headed("typ", 7.into()), NOT_A_TOKEN),
            ("no kid", key.token(&json!({"alg": "RS256", "typ": "JWT"}), claims), NOT_A_TOKEN),
            ("an empty kid", headed("kid", "".into()), NOT_A_TOKEN),
            ("a path as kid", headed("kid", "../../dev/null".into()), KEY),
            ("a kid as a number", headed("kid", 7.into()), NOT_A_TOKEN),
            ("a kid with a newline", headed("kid", format!("{}\n", key.id()).into()), KEY),
            ("a long kid", headed("kid", "k".repeat(8000).into()), KEY),
            ("alg twice", head_twice(r#""alg":"none""#), NOT_A_TOKEN),
            ("kid twice", head_twice(r#""kid":"other""#), NOT_A_TOKEN),
            // The claims are for another issuer, audience or time.
            ("no iss", self.changed(&[("iss", None)]), ISSUER),
            ("iss as a list", with("iss", json!([claims["iss"]])), ISSUER),
            ("an empty iss", with("iss", "".into()), ISSUER),
            ("no aud", self.changed(&[("aud", None)]), AUDIENCE),
            ("another aud", with("aud", "api://another".into()), AUDIENCE),
            ("aud with a slash", with("aud", format!("{}/", self.audience()).into()), AUDIENCE),
            ("aud in capitals", with("aud", self.audience().to_uppercase().into()), AUDIENCE),
            ("no exp", self.changed(&[("exp", None)]), CLAIMS),
            ("expired", with("exp", (BEGINNING - 60).into()), "has expired"),
            ("exp as a string", with("exp", "9999999999".into()), CLAIMS),
            ("exp as a fraction", with("exp", json!(9_999_999_999.5)), CLAIMS),
            ("a negative exp", with("exp", (-1).into()), CLAIMS),
            ("a huge exp", with("exp", json!(1e300)), CLAIMS),
            ("not yet valid", with("nbf", (BEGINNING + 61).into()), EARLY),
            ("nbf as null", with("nbf", Value::Null), CLAIMS),
            // A duplicate claim is ambiguous.
            ("aud twice", self.twice(r#""aud":"another""#), NOT_A_TOKEN),
            ("iss twice", self.twice(r#""iss":"another""#), NOT_A_TOKEN),
            ("exp twice", self.twice(r#""exp":1"#), NOT_A_TOKEN),
            ("sub twice, once escaped", self.twice(r#""s\u0075b":"another""#), NOT_A_TOKEN),
            ("an unused claim twice", self.twice(r#""unused":1,"unused":2"#), NOT_A_TOKEN),
            // The text is not a JWT.
            ("an empty token", String::new(), NOT_A_TOKEN),
            ("dots", "..".to_owned(), NOT_A_TOKEN),
            ("four parts", format!("{valid}.x"), NOT_A_TOKEN),
            ("five parts, as in an encrypted token", format!("{valid}.x.y"), NOT_A_TOKEN),
            ("a space inside", valid.replacen('.', " .", 1), NOT_A_TOKEN),
            ("claims as a list", key.token_of(&header.to_string(), "[]"), NOT_A_TOKEN),
            ("truncated claims", key.token_of(&header.to_string(), &text[..text.len() - 1]), NOT_A_TOKEN),
            ("two claim objects", key.token_of(&header.to_string(), &format!("{text}{text}")), NOT_A_TOKEN),
            ("deeply nested claims", with("x", deep(200)), NOT_A_TOKEN),
            ("a header as a string", key.token_of("\"RS256\"", &text), NOT_A_TOKEN),
            ("a huge token", with("x", "x".repeat(20_000).into()), NOT_A_TOKEN),
        ]
    }

    fn audience(&self) -> &str {
        let audience = &self.claims["aud"];
        audience.as_str().or_else(|| audience[0].as_str()).unwrap()
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

const NOT_A_TOKEN: &str = "is not a JWT";
const ISSUER: &str = "no setting names";
const KEY: &str = "does not publish";
const SIGNATURE: &str = "wrong signature";
const CLAIMS: &str = "lacks a claim";
const AUDIENCE: &str = "another audience";
const EARLY: &str = "not valid yet";
const USER: &str = "an application for itself";
const NO_CALLER: &str = "no entry of GATEWAY_CALLERS";
