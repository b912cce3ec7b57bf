//! Tables of vaults, requests and answers.

use super::*;
use crate::azure::token_source::tests::token;
use crate::error::{Code, FailureKind};

#[test]
fn derives_the_audience_from_the_vault() {
    let known = [
        ("https://my-vault.vault.azure.net", "https://vault.azure.net"),
        ("https://my-vault.vault.azure.net/", "https://vault.azure.net"),
        ("https://MY-VAULT.VAULT.AZURE.NET:443/", "https://vault.azure.net"),
        ("https://my-vault.vault.azure.cn", "https://vault.azure.cn"),
        ("https://my-vault.vault.usgovcloudapi.net", "https://vault.usgovcloudapi.net"),
    ];
    for (uri, audience) in known {
        let vault = Vault::parse("KeyVaultUri", uri, None, None).unwrap();
        assert_eq!(vault.audience().as_str(), audience, "{uri}");
    }
    for uri in ["http://127.0.0.1:8080", "https://vault.internal", "http://localhost:1/"] {
        let vault = Vault::parse("KeyVaultUri", uri, Some("https://vault.azure.net"), None).unwrap();
        assert_eq!(vault.audience().as_str(), "https://vault.azure.net", "{uri}");
    }
}

#[test]
fn refuses_an_address_that_is_not_a_vault() {
    let resource = Some("https://vault.azure.net");
    for (uri, resource, version, setting) in [
        ("my-vault.vault.azure.net", None, None, "KeyVaultUri"),
        ("https://my-vault.vault.azure.net/secrets", None, None, "KeyVaultUri"),
        ("https://my-vault.vault.azure.net/?x=1", None, None, "KeyVaultUri"),
        ("https://me@my-vault.vault.azure.net/", None, None, "KeyVaultUri"),
        ("http://my-vault.vault.azure.net/", None, None, "KeyVaultUri"),
        ("http://my-vault.vault.azure.net/", resource, None, "KeyVaultUri"),
        ("http://10.0.0.1/", resource, None, "KeyVaultUri"),
        ("https://example.com", None, None, "KEY_VAULT_RESOURCE"),
        ("https://vault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
        ("https://ab.vault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
        ("https://a.my-vault.vault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
        ("https://my-vault.vault.azure.net.example.com", None, None, "KEY_VAULT_RESOURCE"),
        ("https://my-vaultvault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
        ("https://my--vault.vault.azure.net", None, None, "KEY_VAULT_RESOURCE"),
        ("https://my-vault.vault.azure.net:8443", None, None, "KEY_VAULT_RESOURCE"),
        ("https://my-vault.vault.microsoftazure.de", None, None, "KEY_VAULT_RESOURCE"),
        ("https://my-hsm.managedhsm.azure.net", None, None, "KeyVaultUri"),
        ("https://my-hsm.managedhsm.azure.cn/", None, None, "KeyVaultUri"),
        ("https://MY-HSM.managedhsm.usgovcloudapi.net", resource, None, "KeyVaultUri"),
        ("http://127.0.0.1:1", None, None, "KEY_VAULT_RESOURCE"),
        ("https://my-vault.vault.azure.net", Some("https://vault.azure.net/"), None, "KEY_VAULT_RESOURCE"),
        ("https://my-vault.vault.azure.net", Some("http://vault.azure.net"), None, "KEY_VAULT_RESOURCE"),
        ("https://my-vault.vault.azure.net", Some("vault"), None, "KEY_VAULT_RESOURCE"),
        (
            "https://my-vault.vault.azure.net",
            Some("https://management.azure.com"),
            None,
            "KEY_VAULT_RESOURCE",
        ),
        ("https://vault.internal", Some("https://vault.azure.net/"), None, "KEY_VAULT_RESOURCE"),
        ("https://vault.internal", Some("http://vault.azure.net"), None, "KEY_VAULT_RESOURCE"),
        ("https://my-vault.vault.azure.net", None, Some("7.4&x=1"), "KEY_VAULT_API_VERSION"),
    ] {
        let error = Vault::parse("KeyVaultUri", uri, resource, version).unwrap_err();
        assert_eq!(error.name, setting, "{uri} {resource:?} {version:?}");
    }
}

#[test]
fn builds_the_request_for_a_secret() {
    let vault = Vault::parse("KeyVaultUri", "https://my-vault.vault.azure.net", None, Some("7.4")).unwrap();
    let version = SecretVersion::parse(VERSION);
    for (version, path) in [
        (None, "/secrets/Db-Password?api-version=7.4".to_owned()),
        (version.as_ref(), format!("/secrets/Db-Password/{VERSION}?api-version=7.4")),
    ] {
        let call = vault.call(&name(), version, &token("secret-token"));
        assert_eq!(*call.method(), http::Method::GET);
        assert_eq!(call.service(), Service::Vault);
        let endpoint = call.endpoint();
        assert_eq!(
            (endpoint.is_tls(), endpoint.authority(), endpoint.path_and_query()),
            (true, "my-vault.vault.azure.net", path.as_str())
        );
        assert!(call.body().expose().is_empty());
        let authorization = call.headers().iter().find(|(name, _)| *name == "authorization").unwrap();
        assert_eq!(authorization.1.expose(), "Bearer secret-token");
    }
}

#[test]
fn parses_only_the_requested_secret() {
    let id = |rest: &str| {
        format!(r#"{{"value":"v\r\n\u003c\u00fc","id":"https://x.vault.azure.net:443/{rest}"}}"#)
    };
    let other = "00000000000000000000000000000000";
    for (body, pinned, version) in [
        (id(&format!("secrets/Db-Password/{VERSION}")), None, Some(VERSION)),
        (id(&format!("secrets/db-password/{VERSION}")), Some(VERSION), Some(VERSION)),
        (id(&format!("secrets/db-password/{other}")), Some(VERSION), None),
        (id(&format!("secrets/another/{VERSION}")), None, None),
        (id(&format!("keys/db-password/{VERSION}")), None, None),
        (id("secrets/db-password"), None, None),
        (id(""), None, None),
        (r#"{"value":"v"}"#.to_owned(), None, None),
        (r#"{"id":"x"}"#.to_owned(), None, None),
        (format!(r#"["v","https://x.vault.azure.net/secrets/db-password/{VERSION}"]"#), None, None),
        ("{\"value\":".to_owned(), None, None),
        ("<html>".to_owned(), None, None),
        (String::new(), None, None),
    ] {
        let pinned = pinned.and_then(SecretVersion::parse);
        let result = vault().parse_secret(
            Ok(Answer::new(200, None, body.clone().into())),
            &name(),
            pinned.as_ref(),
            0,
        );
        let parsed = result.map(|secret| (secret.value.expose().clone(), secret.version.as_str().to_owned()));
        let expected = version.map(|version| ("v\r\n<ü".to_owned(), version.to_owned()));
        assert_eq!(parsed, expected.ok_or(Error::VaultUnusable), "{body}");
    }
}

#[test]
fn maps_statuses_and_codes_to_errors() {
    let inner = |code: &str| {
        format!(r#"{{"error":{{"code":"Forbidden","message":"m","innererror":{{"code":"{code}"}}}}}}"#)
    };
    let code = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"m"}}}}"#);
    let disabled = concat!(
        r#"{"error":{"code":"Forbidden","#,
        r#""message":"Operation get is not allowed on a disabled secret."}}"#
    );
    let denied = |denial, code| Error::VaultDenied(denial, Code::parse(code));
    for (status, body, error) in [
        (400, code("BadParameter"), Error::VaultRefused(400, Code::parse("BadParameter"))),
        (403, inner("SecretDisabled"), Error::SecretDisabled),
        (403, inner("AccessDenied"), denied(Denial::AccessPolicy, "AccessDenied")),
        (403, inner("ForbiddenByRbac"), denied(Denial::RoleAssignment, "ForbiddenByRbac")),
        (403, inner("ForbiddenByFirewall"), denied(Denial::Firewall, "ForbiddenByFirewall")),
        (403, inner("ForbiddenByConnection"), denied(Denial::PrivateLink, "ForbiddenByConnection")),
        (403, inner("ForbiddenByPolicy"), denied(Denial::OnBehalfOf, "ForbiddenByPolicy")),
        (403, inner("ForbiddenByNewRule"), denied(Denial::Unexplained, "ForbiddenByNewRule")),
        (403, code("Forbidden"), denied(Denial::Unexplained, "Forbidden")),
        (403, "<html>".to_owned(), denied(Denial::Unexplained, "")),
        // As in the answers of 2016-10-01.
        (403, disabled.to_owned(), Error::SecretDisabled),
        (404, code("SecretNotFound"), Error::SecretNotFound(name(), None)),
        (404, code("ResourceNotFound"), Error::VaultRefused(404, Code::parse("ResourceNotFound"))),
        (404, "<html>".to_owned(), Error::VaultRefused(404, None)),
        (405, code("MethodNotAllowed"), Error::VaultRefused(405, Code::parse("MethodNotAllowed"))),
        (409, code("Conflict"), Error::VaultRefused(409, Code::parse("Conflict"))),
        (301, String::new(), Error::VaultRefused(301, None)),
        (204, String::new(), Error::VaultRefused(204, None)),
        (408, String::new(), Error::upstream(Service::Vault, FailureKind::Failing, None)),
        (429, code("Throttled"), Error::upstream(Service::Vault, FailureKind::Throttled, None)),
        (500, String::new(), Error::upstream(Service::Vault, FailureKind::Failing, None)),
        (503, code("ServiceUnavailable"), Error::upstream(Service::Vault, FailureKind::Failing, None)),
    ] {
        let result =
            vault().parse_secret(Ok(Answer::new(status, None, body.clone().into())), &name(), None, 0);
        assert_eq!(result.unwrap_err(), error, "{status} {body}");
    }
    for (call_error, error) in [
        (CallError::Lost, Error::upstream(Service::Vault, FailureKind::Unreachable, None)),
        (CallError::NotAllowed, Error::CallNotAllowed),
        (CallError::TimedOut, Error::DeadlineExceeded),
        (CallError::TooLarge, Error::VaultUnusable),
    ] {
        assert_eq!(vault().parse_secret(Err(call_error), &name(), None, 0).unwrap_err(), error);
    }
}

#[test]
fn a_401_is_about_the_token() {
    use TokenMismatch::*;
    let ours = r#"Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.net""#;
    let other = r#"Bearer authorization="https://login.windows.net/t", resource="https://vault.azure.cn""#;
    let claims = r#"Bearer realm="", error="insufficient_claims", claims="e30=""#;
    // `None`: the error may pass.
    for (challenge, message, mismatch, code) in [
        (ours, "AKV10022: Invalid audience. Expected x, found: y.", Some(Audience), "AKV10022"),
        (ours, "AKV10032: Invalid issuer. Expected one of x, found y.", Some(Issuer), "AKV10032"),
        ("", "AKV10032: anything", Some(Issuer), "AKV10032"),
        (ours, "Error validating token: IDX10214", Some(Audience), "IDX10214"),
        (ours, "Error validating token: IDX10205.", Some(Issuer), "IDX10205"),
        (ours, "Invalid audience. Expected x, found: y.", Some(Audience), "Unauthorized"),
        (ours, "Invalid issuer. Expected x, found: y.", Some(Issuer), "Unauthorized"),
        (other, "m", Some(Audience), "Unauthorized"),
        (claims, "AKV10046: m", Some(Claims), "AKV10046"),
        (claims, "m", Some(Claims), "Unauthorized"),
        (ours, "AKV10046: Unable to resolve the key used for signature validation.", None, "AKV10046"),
        (other, "AKV10046: Unable to resolve the key.", None, "AKV10046"),
        (ours, "AKV10000: Request is missing a Bearer or PoP token.", None, "AKV10000"),
        (ours, "Error validating token: IDX10223", None, "IDX10223"),
        (ours, "AKV19999: something new", None, "AKV19999"),
        (ours, "m", None, "Unauthorized"),
    ] {
        let body = format!(r#"{{"error":{{"code":"Unauthorized","message":"{message}"}}}}"#);
        let answer = Answer::new(401, Some("7".to_owned()), body.into())
            .with_challenge(Some(challenge.to_owned()).filter(|challenge| !challenge.is_empty()));
        let error = vault().parse_secret(Ok(answer), &name(), None, 0).unwrap_err();
        let code = Code::parse(code);
        let retry_after = Some(std::time::Duration::from_secs(7));
        let expected = match mismatch {
            Some(mismatch) => Error::TokenRefused(mismatch, code),
            None => Error::TokenNotAccepted { retry_after, code },
        };
        assert_eq!(error, expected, "{challenge} {message}");
    }
    for body in ["", "<html>", "Unauthorized", "[]"] {
        let result = vault().parse_secret(Ok(Answer::new(401, None, body.into())), &name(), None, 0);
        assert_eq!(result.unwrap_err(), Error::TokenNotAccepted { retry_after: None, code: None }, "{body}");
    }
}

fn name() -> SecretName {
    SecretName::parse("Db-Password").unwrap()
}

const VERSION: &str = "3d76eb676e0a40429c7aa2b4b7912a5d";

fn vault() -> Vault {
    Vault::parse("KeyVaultUri", "https://my-vault.vault.azure.net", None, None).unwrap()
}
