//! Tables of places, requests and answers for sources with an assertion or a file.

use std::time::Duration;

use super::*;
use crate::azure::vault::Vault;
use crate::env::Lookup;
use crate::error::{FailureKind, SettingError};

type Set = (&'static str, &'static str);

const TENANT: Set = ("AZURE_TENANT_ID", "contoso.onmicrosoft.com");
const CLIENT: Set = ("AZURE_CLIENT_ID", "5e29463d");
const SECRET: Set = ("AZURE_CLIENT_SECRET", "s");
const FILE: Set = ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/wi/token/azure-identity-token");
const ENDPOINT: Set = ("IDENTITY_ENDPOINT", "http://localhost:40342/metadata/identity/oauth2/token");
const ARC: Set = ("IMDS_ENDPOINT", "http://localhost:40342");
const OTHER_TENANT: Set = ("FEDERATION_TENANT_ID", "fabrikam.com");
const APPLICATION: Set = ("FEDERATION_CLIENT_ID", "a-1");
const GITHUB: Set = ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://run.example/token?api-version=2.0");
const GITHUB_TOKEN: Set = ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "job");

#[test]
fn a_source_with_a_file_needs_a_reader() {
    let named = |name| ("IDENTITY_SOURCE", name);
    for (settings, has_reader, source) in [
        (vec![TENANT, CLIENT, FILE], true, Ok("workload-identity")),
        (vec![TENANT, CLIENT, FILE], false, Ok("imds")),
        (vec![TENANT, CLIENT, FILE, named("workload-identity")], true, Ok("workload-identity")),
        (vec![TENANT, CLIENT, FILE, named("workload-identity")], false, Err("IDENTITY_SOURCE")),
        (vec![TENANT, CLIENT, FILE, named("imds")], true, Ok("imds")),
        // A part of the variables is not enough: the webhook sets no client id without its annotation.
        (vec![TENANT, FILE], true, Ok("imds")),
        (vec![CLIENT, FILE], true, Ok("imds")),
        (vec![TENANT, CLIENT], true, Ok("imds")),
        (vec![TENANT, FILE, named("workload-identity")], true, Err("IDENTITY_SOURCE")),
        (vec![TENANT, CLIENT, SECRET, FILE], true, Ok("client-secret")),
        (vec![ENDPOINT, ("IDENTITY_HEADER", "h"), TENANT, CLIENT, FILE], true, Ok("app-service-2019")),
        (
            vec![TENANT, CLIENT, ("AZURE_FEDERATED_TOKEN_FILE", "token")],
            true,
            Err("AZURE_FEDERATED_TOKEN_FILE"),
        ),
        (vec![ENDPOINT, ARC], true, Ok("azure-arc")),
        (vec![ENDPOINT, ARC], false, Err("IMDS_ENDPOINT")),
        (vec![ENDPOINT, ARC, named("azure-arc")], true, Ok("azure-arc")),
        (vec![ENDPOINT, ARC, named("azure-arc")], false, Err("IDENTITY_SOURCE")),
        (vec![ENDPOINT, ARC, CLIENT], true, Err("AZURE_CLIENT_ID")),
        // Only `IDENTITY_SOURCE` selects these.
        (vec![OTHER_TENANT, APPLICATION], false, Ok("imds")),
        (
            vec![OTHER_TENANT, APPLICATION, named("managed-identity-federation")],
            false,
            Ok("managed-identity-federation"),
        ),
        (vec![OTHER_TENANT, named("managed-identity-federation")], false, Err("IDENTITY_SOURCE")),
        // The managed identity of Azure Arc, and that of Service Fabric.
        (
            vec![OTHER_TENANT, APPLICATION, ENDPOINT, ARC, named("managed-identity-federation")],
            true,
            Err("IDENTITY_ENDPOINT"),
        ),
        (
            vec![
                OTHER_TENANT,
                APPLICATION,
                ENDPOINT,
                ("IDENTITY_HEADER", "h"),
                ("IDENTITY_SERVER_THUMBPRINT", "t"),
                named("managed-identity-federation"),
            ],
            false,
            Err("IDENTITY_ENDPOINT"),
        ),
        (vec![TENANT, CLIENT, GITHUB, GITHUB_TOKEN], false, Ok("imds")),
        (vec![TENANT, CLIENT, GITHUB, GITHUB_TOKEN, named("github-actions")], false, Ok("github-actions")),
        (vec![TENANT, CLIENT, GITHUB, named("github-actions")], false, Err("IDENTITY_SOURCE")),
        (
            vec![
                TENANT,
                CLIENT,
                ("ACTIONS_ID_TOKEN_REQUEST_URL", "http://run.example/"),
                GITHUB_TOKEN,
                named("github-actions"),
            ],
            false,
            Err("ACTIONS_ID_TOKEN_REQUEST_URL"),
        ),
        (vec![TENANT, CLIENT, named("google-cloud")], false, Ok("google-cloud")),
        (vec![CLIENT, named("google-cloud")], false, Err("IDENTITY_SOURCE")),
        (
            vec![TENANT, CLIENT, ("GCE_METADATA_HOST", "a/b"), named("google-cloud")],
            false,
            Err("GCE_METADATA_HOST"),
        ),
    ] {
        let found = detect(&settings, has_reader);
        let found = found.as_ref().map(TokenSource::name).map_err(|error| error.name);
        assert_eq!(found, source, "{settings:?} {has_reader}");
    }
}

#[test]
fn a_token_file_has_a_name_that_the_reader_takes() {
    let name = |length: usize| format!("/{}", "x".repeat(length - 1));
    for (file, is_valid) in [
        ("/token", true),
        ("/var/run/secrets/azure/..data/a_b-c@d.e", true),
        (&name(1024), true),
        (&name(1025), false),
        ("token", false),
        ("/", false),
        ("/a/", false),
        ("/a//b", false),
        ("/a/./b", false),
        ("/a/../b", false),
        ("/a b", false),
        ("/ü", false),
    ] {
        let found = detect(&[TENANT, CLIENT, ("AZURE_FEDERATED_TOKEN_FILE", file)], true);
        assert_eq!(found.map_err(|error| error.name).err(), (!is_valid).then_some(FILE.0), "{file}");
    }
}

#[test]
fn an_assertion_comes_from_one_request() {
    let user_assigned = ("IDENTITY_OBJECT_ID", "o");
    let exchange = "api%3A%2F%2FAzureADTokenExchange";
    for (source, mut settings, address, last) in [
        (
            "github-actions",
            vec![TENANT, CLIENT, GITHUB, GITHUB_TOKEN],
            format!("https://run.example/token?api-version=2.0&audience={exchange}"),
            "authorization: bearer job",
        ),
        (
            "google-cloud",
            vec![TENANT, CLIENT],
            format!("http://metadata.google.internal{GOOGLE}?audience={exchange}"),
            "metadata-flavor: Google",
        ),
        (
            "google-cloud",
            vec![TENANT, CLIENT, ("GCE_METADATA_HOST", "127.0.0.1:81")],
            format!("http://127.0.0.1:81{GOOGLE}?audience={exchange}"),
            "metadata-flavor: Google",
        ),
        (
            "managed-identity-federation",
            vec![OTHER_TENANT, APPLICATION, user_assigned],
            format!(
                "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01\
                 &resource={exchange}&object_id=o"
            ),
            "metadata: true",
        ),
        (
            "managed-identity-federation",
            vec![OTHER_TENANT, APPLICATION, ENDPOINT, ("IDENTITY_HEADER", "h"), CLIENT],
            format!(
                "http://localhost:40342/metadata/identity/oauth2/token?api-version=2019-08-01\
                 &resource={exchange}&client_id=5e29463d"
            ),
            "x-identity-header: h",
        ),
        (
            "azure-arc",
            vec![ENDPOINT, ARC],
            "http://localhost:40342/metadata/identity/oauth2/token?api-version=2020-06-01\
             &resource=https%3A%2F%2Fvault.azure.net"
                .to_owned(),
            "metadata: true",
        ),
    ] {
        settings.push(("IDENTITY_SOURCE", source));
        let source = detect(&settings, true).unwrap();
        let vault = vault("vault.azure.net");
        let call = source.proof(vault.audience()).unwrap_err().call();
        let endpoint = call.endpoint();
        assert_eq!(format!("{}{}", endpoint.origin(), endpoint.path_and_query()), address);
        let (name, value) = call.headers().last().unwrap();
        assert_eq!(format!("{name}: {}", value.expose()), last);
        assert!(!format!("{source:?} {call:?}").contains("job"));
    }
}

#[test]
fn a_token_is_requested_with_the_assertion() {
    let source = detect(&[TENANT, CLIENT, FILE], true).unwrap();
    let vault = vault("vault.azure.net");
    assert!(matches!(source.proof(vault.audience()), Ok(Proof::File(path)) if path == FILE.1));
    let call = source.call(vault.audience(), "a.b-_.c");
    let endpoint = call.endpoint();
    assert_eq!(endpoint.origin(), "https://login.microsoftonline.com");
    assert_eq!(endpoint.path_and_query(), "/contoso.onmicrosoft.com/oauth2/v2.0/token");
    let form = str::from_utf8(call.body().expose()).unwrap();
    assert_eq!(
        form,
        "grant_type=client_credentials&client_id=5e29463d&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth\
         %3Aclient-assertion-type%3Ajwt-bearer&client_assertion=a.b-_.c&scope=https%3A%2F%2Fvault.azure.net\
         %2F.default"
    );
    // The application's tenant and id, not those of the managed identity.
    let settings = [OTHER_TENANT, APPLICATION, CLIENT, ("IDENTITY_SOURCE", "managed-identity-federation")];
    let call = detect(&settings, false).unwrap().call(vault.audience(), "x");
    assert_eq!(call.endpoint().path_and_query(), "/fabrikam.com/oauth2/v2.0/token");
    assert!(str::from_utf8(call.body().expose()).unwrap().contains("&client_id=a-1&"));
}

#[test]
fn each_cloud_has_its_authority_and_its_audience_of_assertions() {
    for (suffix, authority, slash, exchange) in [
        ("vault.azure.net", "login.microsoftonline.com", "/", "AzureADTokenExchange"),
        ("vault.azure.cn", "login.chinacloudapi.cn", "", "AzureADTokenExchangeChina"),
        ("vault.usgovcloudapi.net", "login.microsoftonline.us", "/", "AzureADTokenExchangeUSGov"),
    ] {
        let host = format!("https://{authority}{slash}");
        let google = [TENANT, CLIENT, ("IDENTITY_SOURCE", "google-cloud"), ("AZURE_AUTHORITY_HOST", &host)];
        let vault = vault(suffix);
        let source = detect_for(&google, &vault, false).unwrap();
        assert_eq!(source.endpoint().authority(), authority);
        let call = source.proof(vault.audience()).unwrap_err().call();
        assert!(call.endpoint().path_and_query().ends_with(&format!("=api%3A%2F%2F{exchange}")), "{suffix}");
    }
}

#[test]
fn an_assertion_is_a_jwt_or_an_error() {
    let named = |name, more: &[Set]| {
        detect(&[&[TENANT, CLIENT, ("IDENTITY_SOURCE", name)], more].concat(), true).unwrap()
    };
    let github = named("github-actions", &[GITHUB, GITHUB_TOKEN]);
    let google = named("google-cloud", &[]);
    let managed = named("managed-identity-federation", &[OTHER_TENANT, APPLICATION]);
    let long = "x".repeat(16 * 1024 + 1);
    let refused = |reason, source, status| {
        Err(Error::TokenSourceRefused { reason, source, status, code: None, claims: None })
    };
    for (source, status, body, expected) in [
        (&github, 200, r#"{"count":7,"value":"a.b.c"}"#, Ok("a.b.c")),
        (&github, 200, r#"{"value":"a b"}"#, Err(Error::TokenSourceUnusable)),
        (&github, 200, "a.b.c", Err(Error::TokenSourceUnusable)),
        (&github, 401, "", refused(TokenRefusal::Credential, "github-actions", 401)),
        (&github, 503, "", Err(Error::upstream(Service::TokenSource, FailureKind::Failing, None))),
        (&google, 200, "a.b.c\n", Ok("a.b.c")),
        (&google, 200, "<html>", Err(Error::TokenSourceUnusable)),
        (&google, 200, "", Err(Error::TokenSourceUnusable)),
        (&google, 200, &long, Err(Error::TokenSourceUnusable)),
        (&google, 403, "", refused(TokenRefusal::Credential, "google-cloud", 403)),
        (&managed, 200, r#"{"access_token":"a.b.c","expires_in":"3599"}"#, Ok("a.b.c")),
        (&managed, 200, r#"{"access_token":"a.b.c"}"#, Err(Error::TokenSourceUnusable)),
        // It is the managed identity that is missing.
        (&managed, 400, "", refused(TokenRefusal::NoSuchIdentity, "imds", 400)),
    ] {
        let answer = Answer::new(status, None, body.into());
        let proof = source.parse_proof(Ok(answer), Moment::after_start(Duration::ZERO), 0);
        let text = proof.map(|proof| match proof {
            Proof::Assertion(text) => text.expose().clone(),
            other => panic!("{other:?}"),
        });
        assert_eq!(text, expected.map(str::to_owned), "{} {status} {body}", source.name());
    }
}

#[test]
fn a_file_has_an_assertion_or_a_key() {
    let workload = detect(&[TENANT, CLIENT, FILE], true).unwrap();
    let arc = detect(&[ENDPOINT, ARC], true).unwrap();
    let text = |length| "x".repeat(length);
    for (text, is_assertion, is_key) in [
        ("a.b-_.C9", true, true),
        ("", false, false),
        ("a+/=", false, true),
        ("a&b", false, true),
        ("a b", false, false),
        ("a\r\nb", false, false),
        ("ü", false, false),
        (&text(4096), true, true),
        (&text(4097), true, false),
        (&text(16 * 1024), true, false),
        (&text(16 * 1024 + 1), false, false),
    ] {
        assert_eq!((workload.takes(text), arc.takes(text)), (is_assertion, is_key), "{}", text.len());
    }
}

#[test]
fn the_challenge_of_azure_arc_names_a_file_of_its_directory() {
    let arc = detect(&[ENDPOINT, ARC], true).unwrap();
    let long = format!("Basic realm=/var/opt/azcmagent/tokens/{}.key", "x".repeat(129));
    for (status, challenge, path) in [
        (401, "Basic realm=/var/opt/azcmagent/tokens/0-a_B.key", Some("/var/opt/azcmagent/tokens/0-a_B.key")),
        (401, "basic realm=\"/var/opt/azcmagent/tokens/a.key\"", Some("/var/opt/azcmagent/tokens/a.key")),
        (401, "Bearer realm=/var/opt/azcmagent/tokens/a.key", None),
        (401, "Basic realm=/var/opt/azcmagent/tokens/a.txt", None),
        (401, "Basic realm=/var/opt/azcmagent/tokens/.key", None),
        (401, "Basic realm=/var/opt/azcmagent/tokens/../a.key", None),
        (401, "Basic realm=/var/opt/azcmagent/tokens/a/b.key", None),
        (401, "Basic realm=/etc/a.key", None),
        (401, "Basic realm=a.key", None),
        (401, "Basic realm=", None),
        (401, "Basic", None),
        (401, "", None),
        (401, &long, None),
        (200, "Basic realm=/var/opt/azcmagent/tokens/a.key", None),
    ] {
        let answer = Answer::new(status, None, Vec::new()).with_challenge(Some(challenge.to_owned()));
        let proof = arc.parse_proof(Ok(answer), Moment::after_start(Duration::ZERO), 0);
        let found = proof.ok().map(|proof| if let Proof::File(path) = proof { path } else { String::new() });
        assert_eq!(found.as_deref(), path, "{status} {challenge}");
    }
    let call = arc.call(vault("vault.azure.net").audience(), "key");
    let (name, value) = call.headers().last().unwrap();
    assert_eq!((*name, value.expose().as_str()), ("authorization", "Basic key"));
}

#[test]
fn refusals_of_assertions_are_told_apart() {
    let source = detect(&[TENANT, CLIENT, FILE], true).unwrap();
    // {"iss":"https://a/","sub":"b","aud":"c"}
    let assertion = "h.eyJpc3MiOiJodHRwczovL2EvIiwic3ViIjoiYiIsImF1ZCI6ImMifQ.s";
    use TokenRefusal::*;
    let text = |reason| match reason {
        Trust => "no federated credential trusts the assertion",
        Assertion => "the token source does not accept the assertion",
        Audience => "the token source does not know the audience",
        Policy => "a policy of the tenant forbids the sign-in",
        other => panic!("{other:?}"),
    };
    for (status, number, meaning) in [
        (400, 70_021, Some(Trust)),
        (401, 700_211, Some(Trust)),
        (401, 700_212, Some(Trust)),
        (401, 700_213, Some(Trust)),
        (401, 7_002_137, Some(Trust)),
        (401, 7_002_138, Some(Trust)),
        (401, 700_222, Some(Trust)),
        (401, 700_226, Some(Trust)),
        (401, 700_229, Some(Trust)),
        (401, 700_236, Some(Trust)),
        (401, 7_002_206, Some(Trust)),
        (401, 700_024, Some(Assertion)),
        (401, 50_027, Some(Assertion)),
        (401, 700_027, Some(Assertion)),
        (401, 7_000_272, Some(Assertion)),
        (400, 50_166, None),
        (400, 501_661, None),
        (400, 90_061, None),
        (400, 700_022, Some(Audience)),
        (401, 700_023, Some(Audience)),
        (401, 700_223, Some(Policy)),
        (401, 700_238, Some(Policy)),
        (401, 7_002_381, Some(Policy)),
    ] {
        let body = format!(r#"{{"error":"invalid_client","error_codes":[{number}]}}"#);
        let answer = Answer::new(status, None, body.into());
        let error = source.parse_token(Ok(answer), assertion, Moment::after_start(Duration::ZERO), 0);
        let shown = error.unwrap_err().to_string();
        let claims = if meaning == Some(Trust) { ": issuer https://a/, subject b, audience c" } else { "" };
        let expected = meaning.map_or("the token source is failing".to_owned(), |reason| {
            let reason = text(reason);
            format!("{reason} (workload-identity, status {status}, code AADSTS{number}){claims}")
        });
        assert_eq!(shown, expected, "{number}");
    }
}

fn detect(settings: &[(&'static str, &str)], has_reader: bool) -> Result<TokenSource, SettingError> {
    detect_for(settings, &vault("vault.azure.net"), has_reader)
}

fn detect_for(
    settings: &[(&'static str, &str)],
    vault: &Vault,
    has_reader: bool,
) -> Result<TokenSource, SettingError> {
    let settings: Vec<_> =
        settings.iter().map(|(name, text)| (*name, Ok(Some((*text).to_owned())))).collect();
    TokenSource::detect(Lookup::new(&settings), vault, has_reader)
}

fn vault(suffix: &str) -> Vault {
    Vault::parse("KeyVaultUri", &format!("https://my-vault.{suffix}"), None, None).unwrap()
}

const GOOGLE: &str = "/computeMetadata/v1/instance/service-accounts/default/identity";
