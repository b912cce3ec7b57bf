//! The choice of a source, and the request of each.

use core::time::Duration;
use std::collections::BTreeMap;

use super::*;
use crate::azure::vault::Vault;
use crate::error::Refusal;
use crate::host::Unreadable;
use crate::settings::Lookup;

#[test]
fn the_first_source_with_its_settings_is_chosen() {
    let (endpoint, header) =
        (("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token"), ("IDENTITY_HEADER", "h"));
    let (msi, secret) = (("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"), ("MSI_SECRET", "s"));
    let (tenant, client) = (("AZURE_TENANT_ID", "contoso.onmicrosoft.com"), ("AZURE_CLIENT_ID", "c"));
    let client_secret = ("AZURE_CLIENT_SECRET", "x y&z=ü");
    for (settings, source) in [
        (vec![], Ok("imds")),
        (vec![endpoint, header], Ok("app-service-2019")),
        (vec![endpoint, header, msi, secret], Ok("app-service-2019")),
        (vec![msi, secret], Ok("app-service-2017")),
        (vec![endpoint, msi, secret], Ok("app-service-2017")),
        (vec![endpoint, ("IDENTITY_HEADER", ""), msi, secret], Ok("app-service-2017")),
        (vec![msi], Ok("cloud-shell")),
        (vec![msi, ("MSI_SECRET", "")], Ok("cloud-shell")),
        (vec![tenant, client, client_secret], Ok("client-secret")),
        (vec![msi, secret, tenant, client, client_secret], Ok("app-service-2017")),
        (vec![endpoint], Ok("imds")),
        (vec![header], Err("IDENTITY_ENDPOINT")),
        (vec![secret], Err("MSI_ENDPOINT")),
        (vec![tenant, client], Ok("imds")),
        (vec![endpoint, header, ("IDENTITY_SOURCE", "imds")], Ok("imds")),
        (
            vec![endpoint, header, msi, secret, ("IDENTITY_SOURCE", "app-service-2017")],
            Ok("app-service-2017"),
        ),
        (
            vec![msi, secret, tenant, client, client_secret, ("IDENTITY_SOURCE", "client-secret")],
            Ok("client-secret"),
        ),
        (vec![msi, secret, ("IDENTITY_SOURCE", "cloud-shell")], Ok("cloud-shell")),
        (vec![("IDENTITY_SOURCE", "app-service-2019")], Err("IDENTITY_SOURCE")),
        (vec![("IDENTITY_SOURCE", "arc")], Err("IDENTITY_SOURCE")),
        (vec![client, client_secret], Err("AZURE_TENANT_ID")),
        (vec![tenant, client_secret], Err("AZURE_CLIENT_ID")),
        (vec![("AZURE_TENANT_ID", "a/b"), client, client_secret], Err("AZURE_TENANT_ID")),
        (
            vec![tenant, client, client_secret, ("AZURE_AUTHORITY_HOST", "http://example.com")],
            Err("AZURE_AUTHORITY_HOST"),
        ),
        (vec![("IDENTITY_ENDPOINT", "localhost:1"), header], Err("IDENTITY_ENDPOINT")),
        (vec![endpoint, ("IDENTITY_HEADER", "a\r\nb")], Err("IDENTITY_HEADER")),
        (vec![("MSI_ENDPOINT", "/msi"), secret], Err("MSI_ENDPOINT")),
        (vec![("MSI_ENDPOINT", "/msi")], Err("MSI_ENDPOINT")),
        (vec![msi, ("MSI_SECRET", "a b")], Err("MSI_SECRET")),
        (vec![("AZURE_POD_IDENTITY_AUTHORITY_HOST", "http://a/b")], Err("AZURE_POD_IDENTITY_AUTHORITY_HOST")),
        (vec![client, ("IDENTITY_OBJECT_ID", "o")], Err("IDENTITY_OBJECT_ID")),
        (vec![client, ("IDENTITY_RESOURCE_ID", "/subscriptions/x")], Err("IDENTITY_RESOURCE_ID")),
        (vec![("IDENTITY_RESOURCE_ID", "x")], Err("IDENTITY_RESOURCE_ID")),
        (vec![("AZURE_CLIENT_ID", "a&b")], Err("AZURE_CLIENT_ID")),
        (vec![msi, secret, ("IDENTITY_OBJECT_ID", "o")], Err("IDENTITY_OBJECT_ID")),
        (vec![msi, secret, ("IDENTITY_RESOURCE_ID", "/subscriptions/x")], Err("IDENTITY_RESOURCE_ID")),
        (vec![msi, client], Err("AZURE_CLIENT_ID")),
    ] {
        let chosen = choose(&settings);
        assert_eq!(chosen.as_ref().map(TokenSource::name).map_err(|it| it.name), source, "{settings:?}");
    }
}

#[test]
fn requests() {
    let app_service =
        [("IDENTITY_ENDPOINT", "http://localhost:42356/msi/token"), ("IDENTITY_HEADER", "head")];
    let older = [("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"), ("MSI_SECRET", "head")];
    let client = ("AZURE_CLIENT_ID", "5e29463d");
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
        let call = choose(&settings).unwrap().get(vault().audience());
        assert_eq!(*call.method(), http::Method::GET);
        assert_eq!(shown(&call), (false, address), "{settings:?}");
        assert_eq!(last_header(&call), secret, "{settings:?}");
        assert!(call.body().expose().is_empty());
    }
}

#[test]
fn requests_with_a_form() {
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
        let call = choose(&settings).unwrap().get(vault().audience());
        assert_eq!(*call.method(), http::Method::POST);
        assert_eq!(shown(&call), address);
        assert!(call.headers().iter().any(|it| it.0 == "content-type"));
        assert_eq!(last_header(&call), last);
        assert_eq!(core::str::from_utf8(call.body().expose()).unwrap(), form);
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
        let call = choose_for(&settings, &vault).unwrap().get(vault.audience());
        assert_eq!(call.endpoint().authority(), authority);
        let form = String::from_utf8(call.body().expose().clone()).unwrap();
        assert!(form.ends_with(&format!("scope=https%3A%2F%2F{suffix}%2F.default")), "{suffix}");
    }
}

#[test]
fn answers_without_a_token() {
    let imds = choose(&[]).unwrap();
    let app_service = choose(&[("IDENTITY_ENDPOINT", "http://a"), ("IDENTITY_HEADER", "h")]).unwrap();
    let after = |seconds| Some(Duration::from_secs(seconds));
    for (source, status, retry_after, error) in [
        (&imds, 200, None, Error::IdentityUnusable),
        (&imds, 204, None, Error::IdentityRefused(Refusal::Other(204))),
        (&imds, 302, None, Error::IdentityRefused(Refusal::Other(302))),
        (&imds, 400, None, Error::IdentityRefused(Refusal::Other(400))),
        (&imds, 404, None, Error::IdentityUnavailable(None)),
        (&imds, 410, None, Error::IdentityUnavailable(after(10))),
        (&imds, 410, Some("70"), Error::IdentityUnavailable(after(70))),
        (&imds, 429, Some("5"), Error::IdentityThrottled(after(5))),
        (&imds, 500, None, Error::IdentityUnavailable(None)),
        (&app_service, 401, None, Error::IdentityRefused(Refusal::Credential)),
        (&app_service, 404, None, Error::IdentityRefused(Refusal::Other(404))),
        (&app_service, 410, None, Error::IdentityRefused(Refusal::Other(410))),
        (&app_service, 429, None, Error::IdentityThrottled(None)),
        (&app_service, 500, None, Error::IdentityUnavailable(None)),
        (&app_service, 503, Some("7"), Error::IdentityUnavailable(after(7))),
    ] {
        let answer = Answer::new(status, retry_after.map(str::to_owned), Vec::new());
        let read = source.read(Ok(answer), Moment::after_start(Duration::ZERO), 0);
        assert_eq!(read.unwrap_err(), error, "{} {status}", source.name());
    }
    for (no_answer, error) in [
        (NoAnswer::Lost, Error::IdentityUnreachable(None)),
        (NoAnswer::NotAllowed, Error::CallNotAllowed),
        (NoAnswer::TimedOut, Error::DeadlineExceeded),
        (NoAnswer::TooLarge, Error::IdentityUnusable),
    ] {
        assert_eq!(imds.read(Err(no_answer), Moment::after_start(Duration::ZERO), 0).unwrap_err(), error);
    }
}

#[test]
fn no_source_shows_what_it_holds() {
    for settings in [
        vec![("IDENTITY_ENDPOINT", "http://a"), ("IDENTITY_HEADER", "marker")],
        vec![("MSI_ENDPOINT", "http://a"), ("MSI_SECRET", "marker")],
        vec![("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c"), ("AZURE_CLIENT_SECRET", "marker")],
    ] {
        let source = choose(&settings).unwrap();
        let call = source.get(vault().audience());
        assert!(!format!("{source:?} {call:?}").contains("marker"), "{}", source.name());
    }
}

/// A token with the text `value` that lasts an hour from the start of the clock.
pub(in crate::azure) fn token(value: &str) -> Token {
    let body = format!(r#"{{"access_token":"{value}","expires_in":3600}}"#);
    Token::read(&Answer::new(200, None, body.into()), Moment::after_start(Duration::ZERO), 0).unwrap()
}

fn choose(settings: &[(&'static str, &str)]) -> Result<TokenSource, crate::error::SettingError> {
    choose_for(settings, &vault())
}

fn choose_for(
    settings: &[(&'static str, &str)],
    vault: &Vault,
) -> Result<TokenSource, crate::error::SettingError> {
    let settings: BTreeMap<_, _> = settings.iter().copied().collect();
    let read = |name: &'static str| Ok::<_, Unreadable>(settings.get(name).map(|it| (*it).to_owned()));
    TokenSource::choose(Lookup::new(&read), vault)
}

fn vault() -> Vault {
    Vault::parse("KeyVaultUri", "https://my-vault.vault.azure.net", None, None).unwrap()
}

fn shown(call: &Call) -> (bool, String) {
    let endpoint = call.endpoint();
    (endpoint.is_tls(), format!("{}{}", endpoint.authority(), endpoint.path_and_query()))
}

fn last_header(call: &Call) -> String {
    let (name, value) = call.headers().last().unwrap();
    format!("{name}: {}", value.expose())
}
