//! Microsoft's Rust clients against the emulator, with all verification on.

use std::collections::HashMap;
use std::error::Error;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Instant;

use azure_core::http::{ClientOptions, RequestContent, StatusCode, Transport};
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions};
use azure_security_keyvault_secrets::models::{
    SecretAttributes, SecretClientGetSecretOptions, SecretClientListSecretPropertiesOptions,
    SetSecretParameters, UpdateSecretPropertiesParameters,
};
use azure_security_keyvault_secrets::{ResourceExt as _, SecretClient, SecretClientOptions};
use futures_util::TryStreamExt as _;
use keyvault_emulator::{Emulator, Source};

/// Without an argument: the emulator, which starts this program again as its client.
fn main() -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    if std::env::args().any(|it| it == CLIENT) {
        return match runtime.block_on(client()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let begun = Instant::now();
    println!("\nrunning 1 test");
    let done = runtime.block_on(emulator());
    report(done, begun)
}

/// Says how it went in the words of Rust's own harness, which whoever counts tests reads.
fn report(done: Result<(), Box<dyn Error>>, begun: Instant) -> ExitCode {
    let (word, passed, failed) = match done {
        Ok(()) => ("ok", 1, 0),
        Err(_) => ("FAILED", 0, 1),
    };
    println!("test {TEST} ... {word}");
    if let Err(error) = &done {
        println!("\nfailures:\n\n---- {TEST} ----\n{error}\n\nfailures:\n    {TEST}");
    }
    let time = begun.elapsed().as_secs_f64();
    println!(
        "\ntest result: {word}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; \
         finished in {time:.2}s\n"
    );
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(HARNESS_FAILED) }
}

const TEST: &str = "microsofts_rust_clients_are_satisfied";

/// The code with which Rust's own harness ends when a test has failed.
const HARNESS_FAILED: u8 = 101;

const CLIENT: &str = "--as-client-of-the-emulator";

async fn emulator() -> Result<(), Box<dyn Error>> {
    let emulator = Emulator::new();
    let served = emulator.serve().await?;
    let directory = tempfile::tempdir()?;
    let ca_file = directory.path().join("ca.pem");
    std::fs::write(&ca_file, &served.ca_pem)?;

    let mut command = Command::new(std::env::current_exe()?);
    command.arg(CLIENT).env_clear().envs(served.settings(Source::AppService2019));
    // Without it Windows opens no sockets.
    command.envs(std::env::var_os("SystemRoot").map(|it| ("SystemRoot", it)));
    command.env(CA_FILE, &ca_file).env("NO_PROXY", "127.0.0.1");
    command.env("HTTPS_PROXY", served.proxy_base()).env("HTTP_PROXY", served.proxy_base());
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    if !output.status.success() {
        return Err(format!("the client failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    // The client keeps its token, and asks the vault without one only at first.
    let unauthorized = emulator.vault_calls().iter().filter(|it| it.status == Some(401)).count();
    let asked = (emulator.token_calls().len(), unauthorized);
    if asked != (1, 1) {
        return Err(format!("tokens asked for and refusals of the vault: {asked:?}").into());
    }
    Ok(())
}

const CA_FILE: &str = "CA_FILE";

async fn client() -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    // The emulator's authority alone, whose place in a system's own trust is another on each system.
    let ca = reqwest::Certificate::from_pem(&std::fs::read(std::env::var(CA_FILE)?)?)?;
    let transport = reqwest::Client::builder().tls_certs_only([ca]).build()?;
    let transport = Some(Transport::new(Arc::new(transport)));
    let client_options = ClientOptions { transport, ..Default::default() };

    let options =
        ManagedIdentityCredentialOptions { client_options: client_options.clone(), ..Default::default() };
    let credential = ManagedIdentityCredential::new(Some(options))?;
    let options = SecretClientOptions { client_options, ..Default::default() };
    let client = SecretClient::new("https://demo.vault.azure.net", credential, Some(options))?;

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
