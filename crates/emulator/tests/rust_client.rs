//! Microsoft's Rust clients against the emulator, with all verification on.

use std::collections::HashMap;
use std::error::Error;
use std::process::{Command, ExitCode};

use azure_core::http::{RequestContent, StatusCode};
use azure_identity::ManagedIdentityCredential;
use azure_security_keyvault_secrets::models::{
    SecretAttributes, SecretClientGetSecretOptions, SecretClientListSecretPropertiesOptions,
    SetSecretParameters, UpdateSecretPropertiesParameters,
};
use azure_security_keyvault_secrets::{ResourceExt as _, SecretClient};
use futures_util::TryStreamExt as _;
use keyvault_emulator::{Emulator, Source};

/// Without an argument: the emulator, which starts this program again as its client.
fn main() -> ExitCode {
    let is_client = std::env::args().any(|it| it == CLIENT);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let done = runtime.block_on(async { if is_client { client().await } else { emulator().await } });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rust_client: {error}");
            ExitCode::FAILURE
        }
    }
}

const CLIENT: &str = "--as-client-of-the-emulator";

async fn emulator() -> Result<(), Box<dyn Error>> {
    let emulator = Emulator::new();
    let served = emulator.serve().await?;
    let directory = tempfile::tempdir()?;
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, &served.ca_pem)?;

    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CLIENT).env_clear().envs(served.settings(Source::AppService2019));
    command.env("SSL_CERT_FILE", &ca_file).env("NO_PROXY", "127.0.0.1");
    command.env("HTTPS_PROXY", served.proxy_base()).env("HTTP_PROXY", served.proxy_base());
    let status = tokio::task::spawn_blocking(move || command.status()).await??;
    if !status.success() {
        return Err("the client failed".into());
    }
    // The client keeps its token, and asks the vault without one only at first.
    let unauthorized = emulator.vault_calls().iter().filter(|it| it.status == Some(401)).count();
    assert_eq!((emulator.token_calls().len(), unauthorized), (1, 1));
    println!("test microsofts_rust_clients_are_satisfied ... ok");
    Ok(())
}

async fn client() -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    let credential = ManagedIdentityCredential::new(None)?;
    let client = SecretClient::new("https://demo.vault.azure.net", credential, None)?;

    let first = set(&client, "db-password", "one").await?;
    let second = set(&client, "db-password", "two").await?;
    let (latest, version) = get(&client, "db-password", None).await?;
    assert_eq!((latest.as_str(), &version), ("two", &second));
    let (earlier, version) = get(&client, "DB-Password", Some(first.clone())).await?;
    assert_eq!((earlier.as_str(), &version), ("one", &first));

    let mut versions = Vec::new();
    let mut pager = client.list_secret_properties_versions("db-password", None)?;
    while let Some(secret) = pager.try_next().await? {
        versions.extend(secret.resource_id()?.version);
    }
    assert_eq!(versions, [first.clone(), second]);

    // Three secrets on pages of two.
    set(&client, "Another", "1").await?;
    set(&client, "third", "1").await?;
    let mut names = Vec::new();
    let options = SecretClientListSecretPropertiesOptions { maxresults: Some(2), ..Default::default() };
    let mut pager = client.list_secret_properties(Some(options))?;
    while let Some(secret) = pager.try_next().await? {
        names.push(secret.resource_id()?.name);
    }
    assert_eq!(names, ["Another", "db-password", "third"]);

    let tags = HashMap::from([("team".to_owned(), "a".to_owned())]);
    let properties = UpdateSecretPropertiesParameters { tags: Some(tags.clone()), ..Default::default() };
    update(&client, properties).await?;
    let secret = client.get_secret("db-password", None).await?.into_model()?;
    assert_eq!((secret.value.as_deref(), secret.tags), (Some("two"), Some(tags)));

    let disabled = SecretAttributes { enabled: Some(false), ..Default::default() };
    let properties =
        UpdateSecretPropertiesParameters { secret_attributes: Some(disabled), ..Default::default() };
    update(&client, properties).await?;
    assert_eq!(refused(&client, "db-password").await, Some(StatusCode::Forbidden));
    assert_eq!(get(&client, "db-password", Some(first)).await?.0, "one");

    client.delete_secret("db-password", None).await?;
    assert_eq!(refused(&client, "db-password").await, Some(StatusCode::NotFound));
    let deleted = client.get_deleted_secret("db-password", None).await?.into_model()?;
    assert!(deleted.deleted_date.is_some() && deleted.scheduled_purge_date.is_some());
    client.recover_deleted_secret("db-password", None).await?;
    client.delete_secret("db-password", None).await?;
    client.purge_deleted_secret("db-password", None).await?;

    assert_eq!(refused(&client, "absent").await, Some(StatusCode::NotFound));
    assert_eq!(refused(&client, "bad_name").await, Some(StatusCode::BadRequest));
    Ok(())
}

/// Sets a secret and returns its version.
async fn set(client: &SecretClient, name: &str, value: &str) -> azure_core::Result<String> {
    let parameters = SetSecretParameters { value: Some(value.into()), ..Default::default() };
    let secret = client.set_secret(name, parameters.try_into()?, None).await?.into_model()?;
    Ok(secret.resource_id()?.version.expect("a version"))
}

/// The value and the version of a secret.
async fn get(
    client: &SecretClient,
    name: &str,
    version: Option<String>,
) -> azure_core::Result<(String, String)> {
    let options = SecretClientGetSecretOptions { secret_version: version, ..Default::default() };
    let secret = client.get_secret(name, Some(options)).await?.into_model()?;
    let version = secret.resource_id()?.version.expect("a version");
    Ok((secret.value.expect("a value"), version))
}

async fn update(
    client: &SecretClient,
    properties: UpdateSecretPropertiesParameters,
) -> azure_core::Result<()> {
    let content: RequestContent<_> = properties.try_into()?;
    client.update_secret_properties("db-password", content, None).await.map(|_| ())
}

/// The status with which a secret is refused.
async fn refused(client: &SecretClient, name: &str) -> Option<StatusCode> {
    client.get_secret(name, None).await.err()?.http_status()
}
