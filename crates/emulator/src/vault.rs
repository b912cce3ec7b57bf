//! Key Vault: who may read, which operation is meant, and the answer.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bundle;
use crate::cloud::{KEY_VAULT_APP, PUBLIC, Place};
use crate::refusal::{Refusal, Refused, bad_parameter};
use crate::request::Ask;
use crate::settings::Settings;
use crate::store::{Properties, Secret, Store, is_name, is_version};
use crate::tokens::{Tokens, Verdict};
use crate::{facts, random, reply};

/// Answers a request to a vault at `now`, in Unix seconds.
pub(crate) fn answer(
    ask: &Ask,
    settings: &Settings,
    tokens: &Tokens,
    store: &mut Store,
    now: i64,
) -> Response<Bytes> {
    let answer = authorize(ask, settings, tokens, now).and_then(|()| {
        check(ask)?;
        operate(ask, store, now)
    });
    match answer {
        Ok(body) if body.is_null() => dress(ask, reply::empty(StatusCode::NO_CONTENT)),
        Ok(body) => dress(ask, reply::json(StatusCode::OK, &body)),
        Err(refused) => refuse(ask, settings, &refused),
    }
}

/// A refusal as this vault gives it: with a challenge if it is about the token.
pub(crate) fn refuse(ask: &Ask, settings: &Settings, refused: &Refused) -> Response<Bytes> {
    let mut response = dress(ask, refused.answer());
    if refused.status == StatusCode::UNAUTHORIZED {
        let challenge =
            if refused.claims { HeaderValue::from_static(CLAIMS) } else { challenge(ask, settings) };
        response.headers_mut().insert("www-authenticate", challenge);
    }
    response
}

/// Puts on the headers that every answer of Key Vault has (Azure/azure-sdk-for-go, recording `TestCRUD.json`).
pub(crate) fn dress(ask: &Ask, mut response: Response<Bytes>) -> Response<Bytes> {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let id = random::guid().parse().expect("hexadecimal digits can stand in a header");
    headers.insert("x-ms-request-id", id);
    if ask.header("x-ms-return-client-request-id") == Some("true")
        && let Some(id) = ask.headers.get("x-ms-client-request-id")
    {
        headers.insert("x-ms-client-request-id", id.clone());
    }
    response
}

/// The audience that a token for the vault of this request must name.
pub(crate) fn audience<'a>(ask: &Ask, settings: &'a Settings) -> &'a str {
    match ask.place {
        Place::Vault(cloud) => cloud.audience,
        _ => &settings.audience,
    }
}

fn authorize(ask: &Ask, settings: &Settings, tokens: &Tokens, now: i64) -> Result<(), Refused> {
    let token = ask.bearer().ok_or_else(|| Refusal::MissingToken.about(""))?;
    let audience = audience(ask, settings);
    match tokens.check(token, audience, now) {
        Verdict::Good => Ok(()),
        Verdict::Unknown => Err(Refusal::UnresolvedKey.about("")),
        Verdict::ForAnother(found) => {
            let expected = format!("{audience} or {KEY_VAULT_APP}");
            let message = format!("AKV10022: Invalid audience. Expected {expected}, found: {found}.");
            Err(Refused::new(401, "Unauthorized", message))
        }
        Verdict::Expired => Err(Refusal::ExpiredToken.about("")),
    }
}

/// What holds for every operation (Microsoft Learn, "Authentication, requests and responses").
fn check(ask: &Ask) -> Result<(), Refused> {
    let version = ask.parameter("api-version");
    let version = version.ok_or_else(|| bad_parameter("api-version must be specified"))?;
    if !API_VERSIONS.split(' ').any(|known| known == version) {
        // Azure/azure-sdk-for-net issue 14789 and Azure/azure-sdk-for-python issue 28595.
        return Err(bad_parameter(format!(
            "The specified version ({version}) is not recognized. Consider using the latest supported version \
             ({LATEST})."
        )));
    }
    if ask.method == Method::GET && !ask.body.is_empty() {
        return Err(bad_parameter("A GET request must not have a body."));
    }
    Ok(())
}

/// Does what is asked. `null` is an answer without a body.
fn operate(ask: &Ask, store: &mut Store, now: i64) -> Result<Value, Refused> {
    let segments = ask.segments();
    let name = segments.get(1).copied().unwrap_or_default();
    if segments.len() > 1 && !is_name(name) {
        return Err(Refusal::InvalidName.about(name));
    }
    let base = format!("https://{}", ask.authority);
    let latest = |secret: &Secret| bundle::version_item(&base, &secret.name, secret.latest());
    let deleted = |secret: &Secret| Ok(bundle::deleted(&base, secret, latest(secret)));
    match (ask.method.as_str(), segments.as_slice()) {
        ("GET", ["secrets"]) => {
            let items = store.all(false).map(|(key, secret)| (key.to_owned(), bundle::item(&base, secret)));
            bundle::page(ask, is_name, items)
        }
        ("GET", ["deletedsecrets"]) => {
            let item = |secret| bundle::deleted(&base, secret, bundle::item(&base, secret));
            bundle::page(ask, is_name, store.all(true).map(|(key, secret)| (key.to_owned(), item(secret))))
        }
        ("GET", ["secrets", _, "versions"]) => {
            // The versions of a secret that is not there are an empty list, not an error (recordings).
            let secret = store.get(name).ok();
            let name = secret.map_or(name, |secret| &secret.name);
            let versions = secret.into_iter().flat_map(|secret| &secret.versions).enumerate();
            let items = versions.map(|(number, version)| {
                (bundle::version_key(number), bundle::version_item(&base, name, version))
            });
            bundle::page(ask, bundle::is_version_key, items)
        }
        ("POST", ["secrets", "restore"]) => Ok(latest(store.restore(&body::<Backup>(ask)?.value, &base)?)),
        ("POST", ["secrets", _, "backup"]) => Ok(json!({"value": store.backup(name)?})),
        ("GET", ["secrets", _, version @ ..]) if version.len() < 2 => {
            let (secret, version) = store.version(name, checked(version)?)?;
            // Only this blocks a read: outside of `nbf` and `exp` it works (Microsoft Learn, "About Azure Key Vault
            // secrets", "Date-time controlled operations").
            if !version.enabled {
                return Err(Refusal::SecretDisabled.about(name));
            }
            Ok(bundle::whole(&base, secret, version))
        }
        ("PUT", ["secrets", _]) => {
            let NewSecret { value, properties } = body(ask)?;
            let secret = store.set(name, value, properties, now)?;
            Ok(bundle::whole(&base, secret, secret.latest()))
        }
        ("PATCH", ["secrets", _, version @ ..]) if version.len() < 2 => {
            let version = checked(version)?;
            store.update(name, version, body(ask)?, now)?;
            let (secret, version) = store.version(name, version)?;
            Ok(bundle::version_item(&base, &secret.name, version))
        }
        ("DELETE", ["secrets", _]) => deleted(store.delete(name, now)?),
        ("GET", ["deletedsecrets", _]) => deleted(store.deleted(name)?),
        ("DELETE", ["deletedsecrets", _]) => store.purge(name).map(|()| Value::Null),
        ("POST", ["deletedsecrets", _, "recover"]) => Ok(latest(store.recover(name)?)),
        (method, ["secrets" | "deletedsecrets", ..]) => {
            Err(Refused::new(405, "MethodNotAllowed", format!("HTTP {method} not allowed")))
        }
        _ => Err(Refusal::SecretNotFound.about(&ask.path)),
    }
}

/// The version that a path names, if it names one.
fn checked<'a>(version: &[&'a str]) -> Result<Option<&'a str>, Refused> {
    match version.first().copied() {
        Some(bad) if !is_version(bad) => {
            Err(bad_parameter(format!("The request URI contains an invalid version: {bad}")))
        }
        version => Ok(version),
    }
}

/// `SecretRestoreParameters`.
#[derive(Deserialize)]
struct Backup {
    value: String,
}

/// `SecretSetParameters`.
#[derive(Deserialize)]
struct NewSecret {
    value: String,
    #[serde(flatten)]
    properties: Properties,
}

fn body<'a, T: Deserialize<'a>>(ask: &'a Ask) -> Result<T, Refused> {
    let kind = ask.header("content-type").and_then(|it| it.split(';').next()).unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(bad_parameter("The request body is not application/json."));
    }
    serde_json::from_slice(&ask.body).map_err(|_| bad_parameter("The request body is not valid."))
}

/// `Bearer authorization="…", resource="…"`: recordings, and Azure/azure-sdk-for-js issue 31094.
fn challenge(ask: &Ask, settings: &Settings) -> HeaderValue {
    let cloud = if let Place::Vault(cloud) = ask.place { cloud } else { PUBLIC };
    let (authority, audience) = (cloud.authority(facts::TENANT), audience(ask, settings));
    let text = format!("Bearer authorization=\"{authority}\", resource=\"{audience}\"");
    // Only an audience from the settings can be anything else than text.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// The challenge of continuous access evaluation, as in the tests of the SDKs. The claims are
/// `{"access_token":{"nbf":{"essential":true,"value":"1726077595"},"xms_caeerror":{"value":"10012"}}}`.
const CLAIMS: &str = "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", \
     error=\"insufficient_claims\", claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsd\
     WUiOiIxNzI2MDc3NTk1In0sInhtc19jYWVlcnJvciI6eyJ2YWx1ZSI6IjEwMDEyIn19fQ==\"";

const HEADERS: [(&str, &str); 8] = [
    ("cache-control", "no-cache"),
    ("pragma", "no-cache"),
    ("expires", "-1"),
    ("strict-transport-security", "max-age=31536000;includeSubDomains"),
    ("x-content-type-options", "nosniff"),
    ("x-ms-keyvault-region", "westeurope"),
    ("x-ms-keyvault-service-version", "1.9.501.1"),
    ("x-ms-keyvault-network-info", "conn_type=Ipv4;addr=203.0.113.57;act_addr_fam=InterNetwork;"),
];

/// The versions of the secrets' part of the REST specification: its folders `stable` and `preview`.
const API_VERSIONS: &str = "2015-06-01 2016-10-01 7.0 7.1 7.2 7.3 7.4 7.5 7.6-preview.2 7.6 2025-06-01-preview \
    2025-07-01 2026-01-01-preview 2026-03-01-preview 2026-04-01 2026-05-01-preview 2026-07-01-preview";

/// The newest that is stable. Microsoft's client for Python asks for it from 4.12 on.
const LATEST: &str = "2026-04-01";
