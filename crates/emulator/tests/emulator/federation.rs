//! Federated sign-in: client assertions, the endpoints that issue them, and Entra's checks.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use keyvault_emulator::{Credential, Emulator, Kind, Source, facts};
use serde_json::{Value, json};

use crate::case::{Case, TestResponse, send};

const ISSUER: &str = facts::CLUSTER_ISSUER;
const SUBJECT: &str = facts::CLUSTER_SUBJECT;
const AUDIENCE: &str = facts::EXCHANGE_AUDIENCE;
const IMDS: &str = "http://169.254.169.254/metadata/identity/oauth2/token";
const ARC: &str = "GET http://localhost:40342/metadata/identity/oauth2/token?api-version=2020-06-01";

/// Returns the rest of a row that sends `assertion` to Entra.
fn sign_in(assertion: &str) -> String {
    format!("POST $token | $form | $grant&$assertion={assertion}&$vaultscope")
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
    i64::try_from(now.as_secs()).expect("a time before the year 292 billion")
}

/// Returns a part of a JWT: 0 for the header, 1 for the claims.
fn part(token: &str, number: usize) -> Value {
    let part = token.split('.').nth(number).expect("a part");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

async fn get(emulator: &Emulator, line: &str, headers: &[(&str, &str)]) -> TestResponse {
    send(emulator, line, headers, "").await.expect("a response")
}

#[tokio::test]
async fn requests_of_a_wrong_form_are_refused() {
    Case::new().await.check(include_str!("tables/federation.txt")).await;
}

#[tokio::test]
async fn an_assertion_needs_a_federated_credential_and_its_time() {
    let case = Case::new().await;
    let (github, google) = (facts::GITHUB_ISSUER, facts::GOOGLE_ISSUER);
    let identity = facts::managed_identity_issuer();
    let (valid, now) = ((-60, 60), now());
    for (issuer, subject, audience, (issued, expires), expected) in [
        (ISSUER, SUBJECT, AUDIENCE, valid, "200 | \"expires_in\":3599"),
        (github, facts::GITHUB_SUBJECT, AUDIENCE, valid, "200"),
        (google, facts::GOOGLE_SUBJECT, AUDIENCE, valid, "200"),
        (&identity, facts::OBJECT_ID, AUDIENCE, valid, "200"),
        (
            &ISSUER[..28],
            SUBJECT,
            AUDIENCE,
            valid,
            "401 | AADSTS700211: | issuer 'https://oidc.example/cluster'.",
        ),
        ("https://OIDC.example/cluster/", SUBJECT, AUDIENCE, valid, "401 | AADSTS700211:"),
        (
            github,
            SUBJECT,
            AUDIENCE,
            valid,
            "401 | AADSTS700213: | subject 'system:serviceaccount:gateway:key",
        ),
        (ISSUER, "system:serviceaccount:a:b", AUDIENCE, valid, "401 | AADSTS700213: | !case-sensitive"),
        (ISSUER, &SUBJECT.to_uppercase(), AUDIENCE, valid, "401 | AADSTS7002138: | case-sensitive"),
        (
            ISSUER,
            SUBJECT,
            "api://AKSIdentityBinding",
            valid,
            "401 | AADSTS700212: | 'api://AKSIdentityBinding'.",
        ),
        (google, facts::GOOGLE_SUBJECT, "", valid, "401 | AADSTS700212:"),
        (
            ISSUER,
            SUBJECT,
            AUDIENCE,
            (-120, -60),
            "401 | AADSTS700024: Client assertion is not within | invalid_client",
        ),
        (ISSUER, SUBJECT, AUDIENCE, (60, 120), "401 | AADSTS700024:"),
    ] {
        let assertion = case.emulator.assertion(issuer, subject, audience, now + issued, now + expires);
        case.check(&format!("{} => {expected}", sign_in(&assertion))).await;
    }
}

#[tokio::test]
async fn only_the_keys_of_the_issuers_sign_assertions() {
    let case = Case::new().await;
    let emulator = &case.emulator;
    let assertion = emulator.cluster_assertion();
    let (signed, signature) = assertion.rsplit_once('.').expect("a signature");
    let other = if signature.starts_with('A') { "B" } else { "A" };
    let forged = format!("{signed}.{other}{}", &signature[1..]);
    case.check(&format!("{} => 401 | AADSTS700027:", sign_in(&forged))).await;
    // A key of callers' tokens, which is in another JWKS.
    let foreign = emulator.sign(&emulator.signing_header(), &part(&assertion, 1));
    let expected = format!("AADSTS7000272: | {}", emulator.signing_header()["kid"].as_str().expect("an id"));
    case.check(&format!("{} => 401 | {expected}", sign_in(&foreign))).await;
}

#[tokio::test]
async fn an_assertion_is_refused_when_its_key_has_left_the_jwks() {
    let case = Case::new().await;
    let first = case.emulator.cluster_assertion();
    for expected in ["200", "200", "200", "401 | AADSTS7000272:"] {
        case.check(&format!("{} => {expected}", sign_in(&first))).await;
        let newest = case.emulator.cluster_assertion();
        let keys = get(&case.emulator, "GET http://127.0.0.1/oidc/keys", &[]).await.json();
        assert_eq!(part(&newest, 0)["kid"], keys["keys"][2]["kid"]);
        case.check(&format!("{} => 200", sign_in(&newest))).await;
        case.emulator.rotate_assertion_keys();
    }
}

#[tokio::test]
async fn the_assertion_of_each_endpoint_signs_in() {
    let case = Case::new().await;
    let emulator = &case.emulator;
    let bearer = format!("bearer {}", emulator.settings(Source::GithubActions, "")[7].1);
    let audience = format!("audience={AUDIENCE}");
    let line = format!("GET http://127.0.0.1/github/idtoken?api-version=2.0&{audience}");
    let github = get(emulator, &line, &[("authorization", &bearer)]).await.json()["value"].clone();
    let identity = "computeMetadata/v1/instance/service-accounts/default/identity";
    let line = format!("GET http://metadata.google.internal/{identity}?{audience}");
    let google = get(emulator, &line, &[("metadata-flavor", "Google")]).await.body;
    let line = format!("GET {IMDS}?api-version=2018-02-01&resource={AUDIENCE}");
    let managed = get(emulator, &line, &[("metadata", "true")]).await.json()["access_token"].clone();
    for assertion in [
        github.as_str().expect("a token"),
        std::str::from_utf8(&google).expect("text"),
        managed.as_str().expect("a token"),
        &emulator.cluster_assertion(),
    ] {
        case.check(&format!("{} => 200", sign_in(assertion))).await;
        assert!(emulator.assertions().iter().any(|known| known == assertion), "a leak search looks for it");
    }
    let claims = part(managed.as_str().expect("a token"), 1);
    let issuer = facts::managed_identity_issuer();
    let expected = [issuer.as_str(), facts::OBJECT_ID, facts::OBJECT_ID, AUDIENCE, "2.0"];
    assert_eq!(["iss", "sub", "oid", "aud", "ver"].map(|name| claims[name].clone()), expected);
}

#[tokio::test]
async fn an_assertion_gets_a_token_that_the_vault_accepts() {
    let case = Case::new().await;
    let body = format!(
        "grant_type=client_credentials&client_id={}&client_assertion={}&client_assertion_type=\
         urn:ietf:params:oauth:client-assertion-type:jwt-bearer&scope=https://vault.azure.net/.default",
        facts::APP_ID,
        case.emulator.cluster_assertion()
    );
    let line = format!("POST https://login.microsoftonline.com/{}/oauth2/v2.0/token", facts::TENANT);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let response = send(&case.emulator, &line, &form, &body).await.expect("a response").json();
    let token = response["access_token"].as_str().expect("a token");
    case.check(&format!("GET $read | authorization: Bearer {token} => 200 | correct horse")).await;
}

#[tokio::test]
async fn other_federated_credentials_can_be_set() {
    let case = Case::new().await;
    let credential = r#"{"client_id":"c","issuer":"i","subject":"s","audience":"a"}"#;
    case.check(&format!(r#"PUT $control/settings | {{"federated_credentials":[{credential}]}} => 204"#))
        .await;
    let assertion = case.emulator.assertion("i", "s", "a", now(), now() + 60);
    let form = format!("grant_type=client_credentials&client_id=c&$assertion={assertion}&$vaultscope");
    case.check(&format!("POST $token | $form | {form} => 200")).await;
    case.check(&format!("{} => 401 | AADSTS700211:", sign_in(&assertion))).await;
}

#[tokio::test]
async fn journal_records_assertions_by_their_validity() {
    let case = Case::new().await;
    let valid = case.emulator.cluster_assertion();
    let expired = case.emulator.assertion(ISSUER, SUBJECT, AUDIENCE, 0, 1);
    case.emulator.clear_journal();
    for row in [sign_in(&valid) + " => 200", sign_in(&expired) + " => 401"] {
        case.check(&row).await;
    }
    case.check("GET $google?audience=$exchange => 403").await;
    case.check("GET $github&audience=$exchange | authorization: bearer wrong => 401").await;
    let calls = case.emulator.token_calls();
    let seen: Vec<_> =
        calls.iter().map(|call| (call.kind, call.credential, call.audience.as_deref())).collect();
    let scope = Some("https://vault.azure.net/.default");
    let kind = Kind::Token;
    let expected = [
        (kind(Source::WorkloadIdentity), Credential::Right, scope),
        (kind(Source::WorkloadIdentity), Credential::Wrong, scope),
        (kind(Source::GoogleCloud), Credential::Absent, Some(AUDIENCE)),
        (kind(Source::GithubActions), Credential::Wrong, Some(AUDIENCE)),
    ];
    assert_eq!(seen, expected);
    assert!(!json!(calls).to_string().contains(&valid), "the journal contains no assertion");
}

/// Asks for a token of Azure Arc without a key. Returns the file in `directory` that the challenge names by
/// its path on a server.
async fn challenge(emulator: &Emulator, directory: &Path) -> PathBuf {
    let response = get(emulator, ARC, &[("metadata", "true")]).await;
    let header = response.headers["www-authenticate"].to_str().expect("text");
    assert_eq!(response.status, 401);
    let path = header.strip_prefix("Basic realm=/var/opt/azcmagent/tokens/");
    directory.join(path.expect("a path"))
}

fn basic(path: &Path) -> String {
    format!("Basic {}", std::fs::read_to_string(path).expect("a key"))
}

#[tokio::test]
async fn azure_arc_gives_one_token_for_each_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let emulator = Emulator::new();
    emulator.serve_arc_keys_in(directory.path());
    let paths = [challenge(&emulator, directory.path()).await, challenge(&emulator, directory.path()).await];
    assert_ne!(paths[0], paths[1]);
    let line = format!("{ARC}&resource=https://vault.azure.net");
    for path in &paths {
        assert_eq!(path.extension(), Some("key".as_ref()));
        let key = basic(path);
        let headers = [("metadata", "true"), ("authorization", key.as_str())];
        let response = get(&emulator, &line, &headers).await;
        assert!(response.status == 200 && response.json()["access_token"].is_string());
        // The key was used.
        assert_eq!(get(&emulator, &line, &headers).await.status, 401);
    }
    let calls = emulator.token_calls();
    assert!(calls.iter().all(|call| call.kind == Kind::Token(Source::AzureArc)));
    use Credential::{Absent, Right, Wrong};
    let credentials: Vec<_> = calls.iter().map(|call| call.credential).collect();
    assert_eq!(credentials, [Absent, Absent, Right, Wrong, Right, Wrong]);
}

#[cfg(unix)]
#[tokio::test]
async fn the_owner_and_the_group_read_a_key_of_azure_arc() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().expect("a directory");
    let emulator = Emulator::new();
    emulator.serve_arc_keys_in(directory.path());
    let path = challenge(&emulator, directory.path()).await;
    let mode = std::fs::metadata(path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn each_source_has_the_environment_of_its_platform() {
    let emulator = Emulator::new();
    let base = "http://127.0.0.1:8080";
    let application = format!("AZURE_TENANT_ID={} AZURE_CLIENT_ID={}", facts::TENANT, facts::APP_ID);
    let federation = format!("FEDERATION_TENANT_ID={} FEDERATION_CLIENT_ID={}", facts::TENANT, facts::APP_ID);
    let authority = format!("AZURE_AUTHORITY_HOST={base}");
    let github = format!("ACTIONS_ID_TOKEN_REQUEST_URL={base}/github/idtoken?api-version=2.0");
    for (source, expected) in [
        (Source::WorkloadIdentity, format!("{application} {authority}/")),
        (
            Source::ManagedIdentityFederation,
            format!(
                "IDENTITY_SOURCE=managed-identity-federation {federation} {authority} \
                 AZURE_POD_IDENTITY_AUTHORITY_HOST={base}"
            ),
        ),
        (Source::GithubActions, format!("{application} {authority} IDENTITY_SOURCE=github-actions {github}")),
        (
            Source::GoogleCloud,
            format!(
                "{application} {authority} IDENTITY_SOURCE=google-cloud GCE_METADATA_HOST=127.0.0.1:8080"
            ),
        ),
        (
            Source::AzureArc,
            format!("IDENTITY_ENDPOINT={base}/metadata/identity/oauth2/token IMDS_ENDPOINT={base}"),
        ),
    ] {
        let settings = emulator.settings(source, base);
        let is_shown = |(name, _): &&(&str, String)| *name != "ACTIONS_ID_TOKEN_REQUEST_TOKEN";
        let shown = settings[2..].iter().filter(is_shown).map(|(name, value)| format!("{name}={value}"));
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected);
    }
}
