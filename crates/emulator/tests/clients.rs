//! Microsoft's clients for Python, JavaScript and Rust, as processes with the environment of a token source.
//! They use `https://demo.vault.azure.net` through the emulator's proxy, with TLS verification.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core::http::{ClientOptions, StatusCode, Transport};
use azure_identity::{
    ClientAssertionCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use azure_security_keyvault_secrets::models::{
    SecretClientGetSecretOptions, SecretClientListSecretPropertiesOptions, SetSecretParameters,
};
use azure_security_keyvault_secrets::{ResourceExt as _, SecretClient, SecretClientOptions};
use futures_util::TryStreamExt as _;
use keyvault_emulator::{Emulator, Source, facts};
use testkit::packages::{NodePackages, PythonPackages, output_within};

/// A program, its arguments, and the directory with its packages.
type Client<'a> = (&'a Path, &'a [&'a str], &'a Path);

/// Runs a client for each source. `expected` are its token requests and its refused vault requests.
async fn run_client(
    sources: &[Source],
    expected: (usize, usize),
    (program, arguments, package_directory): Client<'_>,
) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let ca_file = directory.path().join("ca.pem");
    for &source in sources {
        let emulator = Emulator::new();
        emulator.configure(|settings| settings.caller_audience = Some(AUDIENCE.to_owned()));
        let served = emulator.serve().await?;
        std::fs::write(&ca_file, &served.ca_pem)?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(package_directory);
        // Windows cannot open sockets without SystemRoot.
        let inherited = ["PATH", "SystemRoot"].map(|name| std::env::var_os(name).map(|value| (name, value)));
        command.env_clear().envs(inherited.into_iter().flatten()).envs(served.settings(source));
        match source {
            // The clients accept only an HTTPS authority.
            Source::ClientSecret | Source::GithubActions => {
                command.env("AZURE_AUTHORITY_HOST", served.https_base());
            }
            Source::WorkloadIdentity => {
                let file = directory.path().join("azure-identity-token");
                std::fs::write(&file, emulator.cluster_assertion())?;
                command.env("AZURE_AUTHORITY_HOST", format!("{}/", served.https_base()));
                command.env("AZURE_FEDERATED_TOKEN_FILE", file);
            }
            _ => {}
        }
        command.env("HTTPS_PROXY", served.proxy_base()).env("HTTP_PROXY", served.proxy_base());
        command.env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1").env("AUDIENCE", AUDIENCE);
        for name in ["REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", CA_FILE] {
            command.env(name, &ca_file);
        }
        // The working directory contains Python's packages.
        command.env("TENANT", facts::TENANT).env("PYTHONPATH", ".");
        let output = tokio::task::spawn_blocking(move || output_within(LIMIT, b"", &mut command)).await??;
        assert!(output.status.success(), "{source:?}: {}", String::from_utf8_lossy(&output.stderr));
        let calls = emulator.vault_calls();
        let refused = calls.iter().filter(|call| call.status == Some(401)).count();
        assert_eq!((emulator.token_calls().len(), refused), expected, "{source:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn microsofts_python_clients_work() -> Result<(), Box<dyn Error>> {
    let packages = PythonPackages {
        name: "azure",
        purpose: "Microsoft's Python clients",
        requirements: &Path::new(FILES).join("requirements.txt"),
        target: target(),
    };
    let packages = packages.install()?;
    // One of the three tokens has a wrong audience. Vaults refuse it, and a request without a token.
    let program = format!("{FILES}/client.py");
    let command: Client<'_> = (Path::new("python3"), &[&program], &packages);
    run_client(&SOURCES, (3, 2), command).await?;
    run_client(&[Source::WorkloadIdentity], (3, 2), command).await?;
    // Each token needs a client assertion from GitHub.
    run_client(&[Source::GithubActions], (6, 2), command).await
}

#[tokio::test(flavor = "multi_thread")]
async fn microsofts_javascript_clients_work() -> Result<(), Box<dyn Error>> {
    let packages = NodePackages {
        name: "azure",
        purpose: "Microsoft's JavaScript clients",
        list: Path::new(FILES),
        files: &["client.mjs"],
        target: target(),
    };
    let packages = packages.install()?;
    run_client(&SOURCES, (1, 1), (Path::new("node"), &["client.mjs"], &packages)).await
}

/// Runs this test program again, as the client.
#[tokio::test(flavor = "multi_thread")]
async fn microsofts_rust_clients_work() -> Result<(), Box<dyn Error>> {
    if let Ok(ca_file) = std::env::var(CA_FILE) {
        return rust_client(&ca_file).await;
    }
    let program = std::env::current_exe()?;
    let arguments = ["--exact", "microsofts_rust_clients_work"];
    let sources = [Source::AppService2019, Source::WorkloadIdentity];
    run_client(&sources, (1, 1), (&program, &arguments, Path::new("."))).await
}

async fn rust_client(ca_file: &str) -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    // Trust only the emulator's authority: each operating system has its own trust store.
    let ca = reqwest::Certificate::from_pem(&std::fs::read(ca_file)?)?;
    let transport = Transport::new(Arc::new(reqwest::Client::builder().tls_certs_only([ca]).build()?));
    let client_options = ClientOptions { transport: Some(transport), ..Default::default() };
    let credential: Arc<dyn TokenCredential> = if std::env::var_os("AZURE_FEDERATED_TOKEN_FILE").is_some() {
        let credential_options = ClientAssertionCredentialOptions { client_options: client_options.clone() };
        let options = WorkloadIdentityCredentialOptions { credential_options, ..Default::default() };
        WorkloadIdentityCredential::new(Some(options))?
    } else {
        let options =
            ManagedIdentityCredentialOptions { client_options: client_options.clone(), ..Default::default() };
        ManagedIdentityCredential::new(Some(options))?
    };
    let options = SecretClientOptions { client_options, ..Default::default() };
    let client = &SecretClient::new("https://demo.vault.azure.net", credential, Some(options))?;
    let set = async |name: &str, value: &str| -> azure_core::Result<String> {
        let parameters = SetSecretParameters { value: Some(value.into()), ..Default::default() };
        let secret = client.set_secret(name, parameters.try_into()?, None).await?.into_model()?;
        Ok(secret.resource_id()?.version.expect("a version"))
    };
    let get = async |name: &str, version: Option<String>| -> azure_core::Result<Option<String>> {
        let options = SecretClientGetSecretOptions { secret_version: version, ..Default::default() };
        Ok(client.get_secret(name, Some(options)).await?.into_model()?.value)
    };
    let refused = async |name: &str| get(name, None).await.err().and_then(|error| error.http_status());

    let name = "db-password";
    let (first, second) = (set(name, "one").await?, set(name, "two").await?);
    assert_eq!(get(name, None).await?.as_deref(), Some("two"));
    assert_eq!(get("DB-Password", Some(first.clone())).await?.as_deref(), Some("one"));
    let pager = client.list_secret_properties_versions(name, None)?;
    let versions = pager.map_ok(|secret| secret.resource_id().expect("an id").version.expect("a version"));
    assert_eq!(versions.try_collect::<Vec<_>>().await?, [first, second]);

    // Two secrets on pages of one.
    set("Another", "1").await?;
    let options = SecretClientListSecretPropertiesOptions { maxresults: Some(1), ..Default::default() };
    let pager = client.list_secret_properties(Some(options))?;
    let names = pager.map_ok(|secret| secret.resource_id().expect("an id").name);
    assert_eq!(names.try_collect::<Vec<_>>().await?, ["Another", name]);

    client.delete_secret(name, None).await?;
    assert_eq!(refused(name).await, Some(StatusCode::NotFound));
    let deleted = client.get_deleted_secret(name, None).await?.into_model()?;
    assert!(deleted.deleted_date.is_some() && deleted.scheduled_purge_date.is_some());
    client.recover_deleted_secret(name, None).await?;
    client.delete_secret(name, None).await?;
    client.purge_deleted_secret(name, None).await?;
    assert_eq!(refused("bad_name").await, Some(StatusCode::BadRequest));
    Ok(())
}

/// Returns the directory in which packages are installed.
fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory")
}

const FILES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients");

const SOURCES: [Source; 3] = [Source::AppService2019, Source::Imds, Source::ClientSecret];

/// The variable with the path of the certificate authority, for the Rust client.
const CA_FILE: &str = "EMULATOR_CA_FILE";

/// The application for which callers get access tokens.
const AUDIENCE: &str = "api://gateway";

/// Many times the duration of a run.
const LIMIT: Duration = Duration::from_secs(300);
