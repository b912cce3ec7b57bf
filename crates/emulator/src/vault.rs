//! Key Vault: authorization, dispatch and responses.

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bundle;
use crate::cloud::{HostRole, KEY_VAULT_APP, PUBLIC};
use crate::refusal::{Refusal, VaultError, bad_parameter};
use crate::request::Request;
use crate::settings::Settings;
use crate::store::{Properties, Secret, Store, is_secret_name, is_version_id};
use crate::tokens::{TokenStatus, Tokens};
use crate::{facts, random, response};

type Result<T> = std::result::Result<T, VaultError>;

/// Answers a vault request at `now`, in Unix seconds.
pub(crate) fn answer(
    request: &Request,
    settings: &Settings,
    tokens: &Tokens,
    store: &mut Store,
    now: i64,
) -> Response<Bytes> {
    let result = authorize(request, settings, tokens, now).and_then(|()| {
        check_request(request)?;
        dispatch(request, store, now)
    });
    match result {
        Ok(body) if body.is_null() => add_headers(request, response::empty(StatusCode::NO_CONTENT)),
        Ok(body) => add_headers(request, response::json(StatusCode::OK, &body)),
        Err(error) => error_response(request, settings, &error),
    }
}

/// Builds an error response of this vault. A 401 has a challenge.
pub(crate) fn error_response(request: &Request, settings: &Settings, error: &VaultError) -> Response<Bytes> {
    let mut response = add_headers(request, error.response());
    if error.status == StatusCode::UNAUTHORIZED {
        let challenge =
            if error.claims { HeaderValue::from_static(CLAIMS) } else { challenge(request, settings) };
        response.headers_mut().insert("www-authenticate", challenge);
    }
    response
}

/// Adds the headers of each response of Key Vault (Azure/azure-sdk-for-go, recording `TestCRUD.json`).
pub(crate) fn add_headers(request: &Request, mut response: Response<Bytes>) -> Response<Bytes> {
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let id = random::guid().parse().expect("hexadecimal digits are valid in a header");
    headers.insert("x-ms-request-id", id);
    if request.header("x-ms-return-client-request-id") == Some("true")
        && let Some(id) = request.headers.get("x-ms-client-request-id")
    {
        headers.insert("x-ms-client-request-id", id.clone());
    }
    response
}

/// Returns the audience that the vault of this request expects.
pub(crate) fn audience<'a>(request: &Request, settings: &'a Settings) -> &'a str {
    match request.host_role {
        HostRole::Vault(cloud) => cloud.audience,
        _ => &settings.audience,
    }
}

fn authorize(request: &Request, settings: &Settings, tokens: &Tokens, now: i64) -> Result<()> {
    let token = request.bearer().ok_or_else(|| Refusal::MissingToken.error(""))?;
    let audience = audience(request, settings);
    match tokens.check(token, audience, now) {
        TokenStatus::Valid => Ok(()),
        TokenStatus::Unknown => Err(Refusal::UnresolvedKey.error("")),
        TokenStatus::WrongAudience(found) => {
            let expected = format!("{audience} or {KEY_VAULT_APP}");
            let message = format!("AKV10022: Invalid audience. Expected {expected}, found: {found}.");
            Err(VaultError::new(401, "Unauthorized", message))
        }
        TokenStatus::Expired => Err(Refusal::ExpiredToken.error("")),
    }
}

/// Checks what each operation requires (Microsoft Learn, "Authentication, requests and responses").
fn check_request(request: &Request) -> Result<()> {
    let version = request.parameter("api-version");
    let version = version.ok_or_else(|| bad_parameter("api-version must be specified"))?;
    if !API_VERSIONS.split(' ').any(|known| known == version) {
        // Azure/azure-sdk-for-net issue 14789 and Azure/azure-sdk-for-python issue 28595.
        return Err(bad_parameter(format!(
            "The specified version ({version}) is not recognized. Consider using the latest supported \
             version ({LATEST})."
        )));
    }
    if request.method == Method::GET && !request.body.is_empty() {
        return Err(bad_parameter("A GET request must not have a body."));
    }
    Ok(())
}

/// Runs the operation. `null` stands for a response without a body.
fn dispatch(request: &Request, store: &mut Store, now: i64) -> Result<Value> {
    let segments = request.segments();
    let name = segments.get(1).copied().unwrap_or_default();
    if segments.len() > 1 && !is_secret_name(name) {
        return Err(Refusal::InvalidName.error(name));
    }
    let base = format!("https://{}", request.authority);
    let latest = |secret: &Secret| bundle::version_item(&base, &secret.name, secret.latest());
    let deleted = |secret: &Secret| Ok(bundle::deleted(&base, secret, latest(secret)));
    match (request.method.as_str(), segments.as_slice()) {
        ("GET", ["secrets"]) => {
            let item = |(key, secret): (&str, &Secret)| (key.to_owned(), bundle::item(&base, secret));
            bundle::page(request, is_secret_name, store.secrets(false).map(item))
        }
        ("GET", ["deletedsecrets"]) => {
            let item = |(key, secret): (&str, &Secret)| {
                (key.to_owned(), bundle::deleted(&base, secret, bundle::item(&base, secret)))
            };
            bundle::page(request, is_secret_name, store.secrets(true).map(item))
        }
        ("GET", ["secrets", _, "versions"]) => {
            // Azure lists the versions of a missing secret as an empty list, without an error (recordings).
            let secret = store.get(name).ok();
            let name = secret.map_or(name, |secret| &secret.name);
            let versions = secret.into_iter().flat_map(|secret| &secret.versions).enumerate();
            let items = versions.map(|(number, version)| {
                (bundle::version_key(number), bundle::version_item(&base, name, version))
            });
            bundle::page(request, bundle::is_version_key, items)
        }
        ("POST", ["secrets", "restore"]) => {
            Ok(latest(store.restore(&parse_body::<Backup>(request)?.value, &base)?))
        }
        ("POST", ["secrets", _, "backup"]) => Ok(json!({"value": store.backup(name)?})),
        ("GET", ["secrets", _, version @ ..]) if version.len() < 2 => {
            let (secret, version) = store.version(name, parse_version(version)?)?;
            // Only a disabled version refuses reads; outside of `nbf` and `exp` they work (Microsoft Learn,
            // "About Azure Key Vault secrets", "Date-time controlled operations").
            if !version.enabled {
                return Err(Refusal::SecretDisabled.error(name));
            }
            Ok(bundle::with_value(&base, secret, version))
        }
        ("PUT", ["secrets", _]) => {
            let NewSecret { value, properties } = parse_body(request)?;
            let secret = store.set(name, value, properties, now)?;
            Ok(bundle::with_value(&base, secret, secret.latest()))
        }
        ("PATCH", ["secrets", _, version @ ..]) if version.len() < 2 => {
            let version = parse_version(version)?;
            store.update(name, version, parse_body(request)?, now)?;
            let (secret, version) = store.version(name, version)?;
            Ok(bundle::version_item(&base, &secret.name, version))
        }
        ("DELETE", ["secrets", _]) => deleted(store.delete(name, now)?),
        ("GET", ["deletedsecrets", _]) => deleted(store.deleted(name)?),
        ("DELETE", ["deletedsecrets", _]) => store.purge(name).map(|()| Value::Null),
        ("POST", ["deletedsecrets", _, "recover"]) => Ok(latest(store.recover(name)?)),
        (method, ["secrets" | "deletedsecrets", ..]) => {
            Err(VaultError::new(405, "MethodNotAllowed", format!("HTTP {method} not allowed")))
        }
        _ => Err(Refusal::SecretNotFound.error(&request.path)),
    }
}

/// Parses the version in a path, which is optional.
fn parse_version<'a>(version: &[&'a str]) -> Result<Option<&'a str>> {
    match version.first().copied() {
        Some(invalid) if !is_version_id(invalid) => {
            Err(bad_parameter(format!("The request URI contains an invalid version: {invalid}")))
        }
        version => Ok(version),
    }
}

/// `SecretRestoreParameters` of the REST specification.
#[derive(Deserialize)]
struct Backup {
    value: String,
}

/// `SecretSetParameters` of the REST specification.
#[derive(Deserialize)]
struct NewSecret {
    value: String,
    #[serde(flatten)]
    properties: Properties,
}

fn parse_body<'a, T: Deserialize<'a>>(request: &'a Request) -> Result<T> {
    let media_type = request.header("content-type").and_then(|value| value.split(';').next());
    if !media_type.unwrap_or_default().trim().eq_ignore_ascii_case("application/json") {
        return Err(bad_parameter("The request body is not application/json."));
    }
    serde_json::from_slice(&request.body).map_err(|_| bad_parameter("The request body is not valid."))
}

/// Builds a challenge as in recordings and in Azure/azure-sdk-for-js issue 31094.
fn challenge(request: &Request, settings: &Settings) -> HeaderValue {
    let cloud = if let HostRole::Vault(cloud) = request.host_role { cloud } else { PUBLIC };
    let (host, tenant, audience) = (cloud.authority_host, facts::TENANT, audience(request, settings));
    let text = format!("Bearer authorization=\"https://{host}/{tenant}\", resource=\"{audience}\"");
    // Only an audience from the settings can be invalid in a header.
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer"))
}

/// The challenge of continuous access evaluation, as in the tests of the SDKs. The claims are
/// `{"access_token":{"nbf":{"essential":true,"value":"1726077595"},"xms_caeerror":{"value":"10012"}}}`.
const CLAIMS: &str = "Bearer realm=\"\", \
     authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", \
     error=\"insufficient_claims\", \
     claims=\"eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZSwidmFsdWUiOiIxNzI2MDc3NTk1In0s\
     Inhtc19jYWVlcnJvciI6eyJ2YWx1ZSI6IjEwMDEyIn19fQ==\"";

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

/// The API versions of the REST specification for secrets: its folders `stable` and `preview`.
const API_VERSIONS: &str = "2015-06-01 2016-10-01 7.0 7.1 7.2 7.3 7.4 7.5 7.6-preview.2 7.6 \
    2025-06-01-preview 2025-07-01 2026-01-01-preview 2026-03-01-preview 2026-04-01 2026-05-01-preview \
    2026-07-01-preview";

/// The newest stable API version. Microsoft's client for Python sends it from 4.12 on.
const LATEST: &str = "2026-04-01";
