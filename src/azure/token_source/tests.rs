//! Tables of places, requests and answers.

use std::time::Duration;

use super::*;
use crate::azure::vault::Vault;
use crate::env::Lookup;
use crate::error::{Code, Error, FailureKind, Service, TokenRefusal};

#[test]
fn detects_the_source_of_every_place_or_names_the_place() {
    let endpoint = ("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token");
    let header = ("IDENTITY_HEADER", "h");
    let (msi, secret) = (("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"), ("MSI_SECRET", "s"));
    let (tenant, client) = (("AZURE_TENANT_ID", "contoso.onmicrosoft.com"), ("AZURE_CLIENT_ID", "c"));
    let client_secret = ("AZURE_CLIENT_SECRET", "x y&z=ü");
    let thumbprint = ("IDENTITY_SERVER_THUMBPRINT", "a6f221ac");
    let arc = ("IMDS_ENDPOINT", "http://localhost:40342");
    let federated = ("AZURE_FEDERATED_TOKEN_FILE", "/var/run/secrets/azure/tokens/azure-identity-token");
    let named = |name| ("IDENTITY_SOURCE", name);
    // The place, its settings, the source, and the variables that are set and not used.
    let supported = [
        ("App Service and Functions, Linux", vec![endpoint, header, msi, secret], "app-service-2019", ""),
        ("App Service and Functions, Windows", vec![endpoint, header], "app-service-2019", ""),
        ("the older pair alone", vec![msi, secret], "app-service-2017", ""),
        ("Container Apps", vec![endpoint, header], "app-service-2019", ""),
        ("Automation", vec![endpoint, header], "app-service-2019", ""),
        ("Azure Machine Learning", vec![msi, secret], "app-service-2017", ""),
        ("Cloud Shell", vec![msi], "cloud-shell", ""),
        (
            "Container Instances, Linux",
            vec![header, thumbprint],
            "imds",
            "IDENTITY_HEADER IDENTITY_SERVER_THUMBPRINT",
        ),
        ("virtual machine or scale set, an AKS node, a laptop, GitHub Actions", vec![], "imds", ""),
        ("Batch", vec![client], "imds", ""),
        ("AKS with workload identity", vec![client, tenant, federated], "imds", "AZURE_FEDERATED_TOKEN_FILE"),
        ("outside of Azure", vec![tenant, client, client_secret], "client-secret", ""),
        // A part of the variables of a place.
        ("", vec![header], "imds", "IDENTITY_HEADER"),
        ("", vec![("IDENTITY_HEADER", "a\r\nb")], "imds", "IDENTITY_HEADER"),
        ("", vec![endpoint], "imds", "IDENTITY_ENDPOINT"),
        ("", vec![secret], "imds", "MSI_SECRET"),
        ("", vec![arc], "imds", "IMDS_ENDPOINT"),
        ("", vec![thumbprint], "imds", "IDENTITY_SERVER_THUMBPRINT"),
        ("", vec![endpoint, thumbprint], "imds", "IDENTITY_ENDPOINT IDENTITY_SERVER_THUMBPRINT"),
        ("", vec![header, secret], "imds", "IDENTITY_HEADER MSI_SECRET"),
        ("", vec![client, client_secret], "imds", "AZURE_CLIENT_SECRET"),
        ("", vec![tenant, client_secret], "imds", "AZURE_CLIENT_SECRET"),
        ("", vec![tenant, client], "imds", ""),
        ("", vec![endpoint, msi, secret], "app-service-2017", ""),
        ("", vec![endpoint, ("IDENTITY_HEADER", ""), msi, secret], "app-service-2017", ""),
        ("", vec![header, msi], "cloud-shell", ""),
        ("", vec![msi, ("MSI_SECRET", "")], "cloud-shell", ""),
        ("", vec![header, tenant, client, client_secret], "client-secret", ""),
        ("", vec![msi, secret, tenant, client, client_secret], "app-service-2017", ""),
        // A place that is not supported, with another source that works there.
        ("", vec![endpoint, header, thumbprint, tenant, client, client_secret], "client-secret", ""),
        ("", vec![endpoint, arc, tenant, client, client_secret], "client-secret", ""),
        ("", vec![endpoint, arc, named("imds")], "imds", ""),
        // `IDENTITY_SOURCE` selects a source outright.
        ("", vec![endpoint, header, named("imds")], "imds", ""),
        ("", vec![endpoint, header, thumbprint, named("app-service-2019")], "app-service-2019", ""),
        ("", vec![endpoint, header, msi, secret, named("app-service-2017")], "app-service-2017", ""),
        ("", vec![msi, secret, tenant, client, client_secret, named("client-secret")], "client-secret", ""),
        ("", vec![msi, secret, named("cloud-shell")], "cloud-shell", ""),
    ];
    for (place, settings, source, unused) in supported {
        let detected = detect(&settings).unwrap_or_else(|error| panic!("{place} {settings:?}: {error:?}"));
        let found = (detected.name(), detected.unused().join(" "));
        assert_eq!(found, (source, unused.to_owned()), "{place} {settings:?}");
    }
    for (place, settings, wrong) in [
        ("Service Fabric", vec![endpoint, header, thumbprint], "IDENTITY_SERVER_THUMBPRINT"),
        (
            "Container Instances, Windows",
            vec![
                ("IDENTITY_ENDPOINT", "http://10.92.0.21:2377/metadata/identity/oauth2/token"),
                header,
                thumbprint,
            ],
            "IDENTITY_SERVER_THUMBPRINT",
        ),
        ("a server with Azure Arc", vec![endpoint, arc], "IMDS_ENDPOINT"),
        // `IDENTITY_SOURCE` names a source that lacks settings.
        ("", vec![named("app-service-2019")], "IDENTITY_SOURCE"),
        ("", vec![header, named("app-service-2019")], "IDENTITY_SOURCE"),
        ("", vec![secret, named("app-service-2017")], "IDENTITY_SOURCE"),
        ("", vec![named("cloud-shell")], "IDENTITY_SOURCE"),
        ("", vec![client_secret, named("client-secret")], "IDENTITY_SOURCE"),
        ("", vec![named("arc")], "IDENTITY_SOURCE"),
        ("", vec![endpoint, arc, named("azure-arc")], "IDENTITY_SOURCE"),
        // A place with an invalid setting.
        ("", vec![("AZURE_TENANT_ID", "a/b"), client, client_secret], "AZURE_TENANT_ID"),
        (
            "",
            vec![tenant, client, client_secret, ("AZURE_AUTHORITY_HOST", "http://example.com")],
            "AZURE_AUTHORITY_HOST",
        ),
        ("", vec![("IDENTITY_ENDPOINT", "localhost:1"), header], "IDENTITY_ENDPOINT"),
        ("", vec![endpoint, ("IDENTITY_HEADER", "a\r\nb")], "IDENTITY_HEADER"),
        ("", vec![("MSI_ENDPOINT", "/msi"), secret], "MSI_ENDPOINT"),
        ("", vec![("MSI_ENDPOINT", "/msi")], "MSI_ENDPOINT"),
        ("", vec![msi, ("MSI_SECRET", "a b")], "MSI_SECRET"),
        ("", vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://a/b")], "AZURE_POD_IDENTITY_AUTHORITY_HOST"),
        ("", vec![client, ("IDENTITY_OBJECT_ID", "o")], "IDENTITY_OBJECT_ID"),
        ("", vec![client, ("IDENTITY_RESOURCE_ID", "/subscriptions/x")], "IDENTITY_RESOURCE_ID"),
        ("", vec![("IDENTITY_RESOURCE_ID", "x")], "IDENTITY_RESOURCE_ID"),
        ("", vec![("AZURE_CLIENT_ID", "a&b")], "AZURE_CLIENT_ID"),
        ("", vec![msi, secret, ("IDENTITY_OBJECT_ID", "o")], "IDENTITY_OBJECT_ID"),
        ("", vec![msi, secret, ("IDENTITY_RESOURCE_ID", "/subscriptions/x")], "IDENTITY_RESOURCE_ID"),
        ("", vec![msi, client], "AZURE_CLIENT_ID"),
    ] {
        assert_eq!(detect(&settings).unwrap_err().name, wrong, "{place} {settings:?}");
    }
}

#[test]
fn builds_get_requests() {
    let app_service =
        [("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token"), ("IDENTITY_HEADER", "head")];
    let older = [("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"), ("MSI_SECRET", "head")];
    let client = ("AZURE_CLIENT_ID", "5e29463d");
    let default = ("DEFAULT_IDENTITY_CLIENT_ID", GUID);
    let object = ("IDENTITY_OBJECT_ID", "8d3b");
    let id = ("IDENTITY_RESOURCE_ID", "/subscriptions/s/resourcegroups/g");
    let resource = "resource=https%3A%2F%2Fvault.azure.net";
    let newer_query = format!("localhost:42356/msi/token?api-version=2019-08-01&{resource}");
    let older_query = format!("127.0.0.1:41741/MSI/token/?api-version=2017-09-01&{resource}");
    let imds_query =
        format!("169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&{resource}");
    let encoded = "%2Fsubscriptions%2Fs%2Fresourcegroups%2Fg";
    for (settings, address, secret) in [
        (vec![app_service[0], app_service[1]], newer_query.clone(), "x-identity-header: head"),
        (
            vec![app_service[0], app_service[1], client],
            format!("{newer_query}&client_id=5e29463d"),
            "x-identity-header: head",
        ),
        (
            vec![app_service[0], app_service[1], object],
            format!("{newer_query}&principal_id=8d3b"),
            "x-identity-header: head",
        ),
        (
            vec![app_service[0], app_service[1], id],
            format!("{newer_query}&mi_res_id={encoded}"),
            "x-identity-header: head",
        ),
        (vec![older[0], older[1]], older_query.clone(), "secret: head"),
        (vec![older[0], older[1], client], format!("{older_query}&clientid=5e29463d"), "secret: head"),
        // Azure Machine Learning.
        (vec![older[0], older[1], default], format!("{older_query}&clientid={GUID}"), "secret: head"),
        (
            vec![older[0], older[1], default, client],
            format!("{older_query}&clientid=5e29463d"),
            "secret: head",
        ),
        (
            vec![older[0], older[1], ("DEFAULT_IDENTITY_CLIENT_ID", "none")],
            older_query.clone(),
            "secret: head",
        ),
        (vec![app_service[0], app_service[1], default], newer_query.clone(), "x-identity-header: head"),
        (vec![default], imds_query.clone(), "metadata: true"),
        (vec![], imds_query.clone(), "metadata: true"),
        (vec![client], format!("{imds_query}&client_id=5e29463d"), "metadata: true"),
        (vec![object], format!("{imds_query}&object_id=8d3b"), "metadata: true"),
        (vec![id], format!("{imds_query}&msi_res_id={encoded}"), "metadata: true"),
        (
            vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://127.0.0.1:80")],
            imds_query.replace("169.254.169.254", "127.0.0.1:80"),
            "metadata: true",
        ),
    ] {
        let call = detect(&settings).unwrap().call(vault().audience(), "");
        assert_eq!(*call.method(), http::Method::GET);
        assert_eq!(address_of(&call), (false, address), "{settings:?}");
        assert_eq!(last_header(&call), secret, "{settings:?}");
        assert!(call.body().expose().is_empty());
    }
}

#[test]
fn builds_form_requests() {
    let shell = vec![("MSI_ENDPOINT", "http://localhost:50342/oauth2/token")];
    let secret = vec![
        ("AZURE_TENANT_ID", "contoso.com"),
        ("AZURE_CLIENT_ID", "c-1"),
        ("AZURE_CLIENT_SECRET", "x y&z=ü~"),
    ];
    let form = "grant_type=client_credentials&client_id=c-1&client_secret=x+y%26z%3D%C3%BC%7E\
                &scope=https%3A%2F%2Fvault.azure.net%2F.default";
    for (settings, address, last, form) in [
        (
            shell,
            (false, "localhost:50342/oauth2/token".to_owned()),
            "metadata: true",
            "resource=https%3A%2F%2Fvault.azure.net",
        ),
        (
            secret,
            (true, "login.microsoftonline.com/contoso.com/oauth2/v2.0/token".to_owned()),
            "content-type: application/x-www-form-urlencoded",
            form,
        ),
    ] {
        let call = detect(&settings).unwrap().call(vault().audience(), "");
        assert_eq!(*call.method(), http::Method::POST);
        assert_eq!(address_of(&call), address);
        assert!(call.headers().iter().any(|(name, _)| *name == "content-type"));
        assert_eq!(last_header(&call), last);
        assert_eq!(std::str::from_utf8(call.body().expose()).unwrap(), form);
    }
}

#[test]
fn each_cloud_has_its_authority() {
    let settings = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")];
    for (suffix, authority) in [
        ("vault.azure.net", "login.microsoftonline.com"),
        ("vault.azure.cn", "login.chinacloudapi.cn"),
        ("vault.usgovcloudapi.net", "login.microsoftonline.us"),
    ] {
        let vault = Vault::parse("KeyVaultUri", &format!("https://my-vault.{suffix}"), None, None).unwrap();
        let call = detect_for(&settings, &vault).unwrap().call(vault.audience(), "");
        assert_eq!(call.endpoint().authority(), authority);
        let form = String::from_utf8(call.body().expose().clone()).unwrap();
        assert!(form.ends_with(&format!("scope=https%3A%2F%2F{suffix}%2F.default")), "{suffix}");
    }
}

#[test]
fn maps_answers_without_a_token_to_errors() {
    let imds = detect(&[]).unwrap();
    let newer = detect(&[("IDENTITY_ENDPOINT", "http://a"), ("IDENTITY_HEADER", "h")]).unwrap();
    let older = detect(&[("MSI_ENDPOINT", "http://a"), ("MSI_SECRET", "h")]).unwrap();
    let shell = detect(&[("MSI_ENDPOINT", "http://a")]).unwrap();
    let entra =
        detect(&[("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "s")]).unwrap();
    let all = [&newer, &older, &shell, &entra, &imds];
    let nested = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"{code} "}}}}"#);
    let flat = |code: &str, text: &str| format!(r#"{{"error":"{code}","error_description":"{text}"}}"#);
    let app_service = |text: &str| format!(r#"{{"statusCode":400,"message":"{text}","correlationId":"c"}}"#);
    let aadsts = |code: &str, number: u64| {
        let text = format!("AADSTS{number}: text. Trace ID: x");
        format!(r#"{{"error":"{code}","error_description":"{text}","error_codes":[{number}]}}"#)
    };
    use TokenRefusal::*;
    let refused = |reason, code: &str| Some((reason, code.to_owned()));
    // `None`: the error may pass.
    for (sources, status, body, expected) in [
        // App Service and Container Apps: known texts and unknown ones.
        (
            &[&newer, &older][..],
            400,
            app_service(
                "No User Assigned or Delegated Managed Identity found for specified ClientId/ResourceId.",
            ),
            refused(NoSuchIdentity, ""),
        ),
        (&[&newer, &older], 400, app_service("Unable to load the identity."), refused(NoSuchIdentity, "")),
        (
            &[&newer, &older],
            400,
            r#"{"StatusCode":400,"Message":"No MSI found for specified ClientId/ResourceId."}"#.to_owned(),
            refused(NoSuchIdentity, ""),
        ),
        (&[&newer, &older], 400, r#"{"message":"anything"}"#.to_owned(), refused(NoSuchIdentity, "")),
        (&[&newer, &older, &imds], 400, String::new(), refused(NoSuchIdentity, "")),
        (&[&newer, &older, &imds], 400, "<html>".to_owned(), refused(NoSuchIdentity, "")),
        // Azure Machine Learning (Azure/azure-sdk-for-net issues 49174 and 46932).
        (
            &[&older],
            404,
            "InternalError - :{\nInfo: Request failure status code: 404\n\n}".to_owned(),
            refused(NoSuchIdentity, ""),
        ),
        (&[&older], 401, "Invalid secret token header: .".to_owned(), refused(Credential, "")),
        (&[&newer], 404, nested("SecretHeaderNotFound"), refused(Credential, "SecretHeaderNotFound")),
        // Container Instances.
        (
            &[&imds, &newer],
            404,
            nested("DefaultIdentityNotDefined"),
            refused(NoSuchIdentity, "DefaultIdentityNotDefined"),
        ),
        (
            &[&imds],
            404,
            nested("ManagedIdentityNotFound"),
            refused(NoSuchIdentity, "ManagedIdentityNotFound"),
        ),
        (&[&imds], 404, nested("Updating"), None),
        (&[&imds], 404, String::new(), None),
        // The metadata service.
        (
            &[&imds],
            400,
            flat("invalid_request", "Identity not found"),
            refused(NoSuchIdentity, "invalid_request"),
        ),
        (
            &[&imds],
            400,
            flat("invalid_request", "Multiple user assigned identities exist, please specify the clientId"),
            refused(SeveralIdentities, "invalid_request"),
        ),
        (
            &[&imds],
            400,
            flat("bad_request_102", "Required metadata header"),
            refused(Other, "bad_request_102"),
        ),
        (&all[..], 400, aadsts("invalid_resource", 500_011), refused(Audience, "AADSTS500011")),
        (&all[..], 400, flat("invalid_resource", "AADSTS50001: x"), refused(Audience, "AADSTS50001")),
        // Cloud Shell.
        (&[&shell], 400, nested("AudienceNotSupported"), refused(Audience, "AudienceNotSupported")),
        (&[&shell], 400, String::new(), refused(Audience, "")),
        // Entra ID.
        (&[&entra], 400, aadsts("invalid_request", 90_002), refused(Tenant, "AADSTS90002")),
        (&[&entra], 400, aadsts("invalid_request", 900_023), refused(Tenant, "AADSTS900023")),
        (&[&entra], 400, flat("invalid_tenant", ""), refused(Tenant, "invalid_tenant")),
        (&[&entra], 400, aadsts("unauthorized_client", 700_016), refused(Application, "AADSTS700016")),
        (&[&entra], 401, aadsts("invalid_client", 7_000_112), refused(Application, "AADSTS7000112")),
        (&[&entra], 401, aadsts("invalid_client", 7_000_215), refused(Credential, "AADSTS7000215")),
        (&[&entra], 401, aadsts("invalid_client", 7_000_222), refused(Credential, "AADSTS7000222")),
        (&[&entra], 400, aadsts("invalid_grant", 53_003), refused(Policy, "AADSTS53003")),
        (&[&entra], 400, aadsts("access_denied", 530_032), refused(Policy, "AADSTS530032")),
        (&[&entra], 400, aadsts("invalid_scope", 70_011), refused(Audience, "AADSTS70011")),
        (&[&entra], 400, aadsts("invalid_request", 4_711), refused(Credential, "AADSTS4711")),
        (
            &[&entra],
            400,
            r#"{"error":"x","error_codes":[900023]}"#.to_owned(),
            refused(Tenant, "AADSTS900023"),
        ),
        (&[&entra], 401, aadsts("invalid_client", 700_027), refused(Assertion, "AADSTS700027")),
        (&[&entra], 400, flat("temporarily_unavailable", ""), None),
        // Only a valid code is logged.
        (&[&newer], 401, nested("two words"), refused(Credential, "")),
        (&[&newer], 403, nested(&"x".repeat(65)), refused(Credential, "")),
        (&[&newer], 403, nested(&"x".repeat(64)), refused(Credential, &"x".repeat(64))),
        (&all[..], 302, String::new(), refused(Other, "")),
        (&all[..], 204, String::new(), refused(Other, "")),
        (&[&newer, &older, &shell, &entra], 410, String::new(), refused(Other, "")),
        (&all[..], 408, String::new(), None),
        (&all[..], 500, app_service("An unexpected error occured while fetching the AAD Token."), None),
        (&all[..], 503, nested("ManagedIdentityNotFound"), None),
    ] {
        for source in sources {
            let expected = expected.clone().map_or(
                Error::upstream(Service::TokenSource, FailureKind::Failing, None),
                |(reason, code)| Error::TokenSourceRefused {
                    reason,
                    source: source.name(),
                    status,
                    code: Code::parse(&code),
                    claims: None,
                },
            );
            let error = parse_error(source, status, None, &body);
            assert_eq!(error, expected, "{} {status} {body}", source.name());
        }
    }
    let after = |seconds| Some(Duration::from_secs(seconds));
    for (source, status, retry_after, body, error) in [
        (&imds, 200, None, String::new(), Error::TokenSourceUnusable),
        (&imds, 401, None, flat("unknown_source", "Unknown Source"), Error::TokenSourceAbsent(401)),
        (
            &imds,
            403,
            None,
            "connecting to 169.254.169.254:80: unreachable".to_owned(),
            Error::TokenSourceAbsent(403),
        ),
        (
            &imds,
            410,
            None,
            String::new(),
            Error::upstream(Service::TokenSource, FailureKind::Failing, after(10)),
        ),
        (
            &imds,
            410,
            Some("70"),
            String::new(),
            Error::upstream(Service::TokenSource, FailureKind::Failing, after(70)),
        ),
        (
            &imds,
            429,
            Some("5"),
            String::new(),
            Error::upstream(Service::TokenSource, FailureKind::Throttled, after(5)),
        ),
        (
            &newer,
            429,
            None,
            String::new(),
            Error::upstream(Service::TokenSource, FailureKind::Throttled, None),
        ),
        (
            &newer,
            503,
            Some("7"),
            String::new(),
            Error::upstream(Service::TokenSource, FailureKind::Failing, after(7)),
        ),
        (
            &entra,
            400,
            Some("7"),
            aadsts("invalid_request", 90_055),
            Error::upstream(Service::TokenSource, FailureKind::Throttled, after(7)),
        ),
        (
            &entra,
            400,
            None,
            aadsts("invalid_request", 50_196),
            Error::upstream(Service::TokenSource, FailureKind::Throttled, after(60)),
        ),
    ] {
        assert_eq!(
            parse_error(source, status, retry_after, &body),
            error,
            "{} {status} {body}",
            source.name()
        );
    }
    for (call_error, error) in [
        (CallError::Lost, Error::upstream(Service::TokenSource, FailureKind::Unreachable, None)),
        (CallError::NotAllowed, Error::CallNotAllowed),
        (CallError::TimedOut, Error::DeadlineExceeded),
        (CallError::TooLarge, Error::TokenSourceUnusable),
    ] {
        assert_eq!(
            imds.parse_token(Err(call_error), "", Moment::after_start(Duration::ZERO), 0).unwrap_err(),
            error
        );
    }
}

#[test]
fn debug_output_has_no_credential() {
    for settings in [
        vec![("IDENTITY_ENDPOINT", "http://a"), ("IDENTITY_HEADER", "marker")],
        vec![("MSI_ENDPOINT", "http://a"), ("MSI_SECRET", "marker")],
        vec![("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "marker")],
    ] {
        let source = detect(&settings).unwrap();
        let call = source.call(vault().audience(), "");
        assert!(!format!("{source:?} {call:?}").contains("marker"), "{}", source.name());
    }
}

fn parse_error(source: &TokenSource, status: u16, retry_after: Option<&str>, body: &str) -> Error {
    let answer = Answer::new(status, retry_after.map(str::to_owned), body.into());
    source.parse_token(Ok(answer), "", Moment::after_start(Duration::ZERO), 0).unwrap_err()
}

const GUID: &str = "5e29463d-71da-4fe0-8e69-999b57db23b0";

/// A token with the text `value` that lasts an hour from the start of the clock.
pub(in crate::azure) fn token(value: &str) -> Token {
    let body = format!(r#"{{"access_token":"{value}","expires_in":3600}}"#);
    Token::parse(&Answer::new(200, None, body.into()), Moment::after_start(Duration::ZERO), 0).unwrap()
}

fn detect(settings: &[(&'static str, &str)]) -> Result<TokenSource, crate::error::SettingError> {
    detect_for(settings, &vault())
}

fn detect_for(
    settings: &[(&'static str, &str)],
    vault: &Vault,
) -> Result<TokenSource, crate::error::SettingError> {
    let settings: Vec<_> =
        settings.iter().map(|(name, text)| (*name, Ok(Some((*text).to_owned())))).collect();
    TokenSource::detect(Lookup::new(&settings), vault, false)
}

fn vault() -> Vault {
    Vault::parse("KeyVaultUri", "https://my-vault.vault.azure.net", None, None).unwrap()
}

fn address_of(call: &Call) -> (bool, String) {
    let endpoint = call.endpoint();
    (endpoint.is_tls(), format!("{}{}", endpoint.authority(), endpoint.path_and_query()))
}

fn last_header(call: &Call) -> String {
    let (name, value) = call.headers().last().unwrap();
    format!("{name}: {}", value.expose())
}
