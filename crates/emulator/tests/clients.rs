//! Microsoft's clients for Python, JavaScript and Rust against the emulator, with all verification on. Each is a process with
//! the environment of a place in Azure, and reads `https://demo.vault.azure.net` through the emulator's proxy.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use azure_core::http::{ClientOptions, StatusCode, Transport};
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions};
use azure_security_keyvault_secrets::models::{
    SecretClientGetSecretOptions, SecretClientListSecretPropertiesOptions, SetSecretParameters,
};
use azure_security_keyvault_secrets::{ResourceExt as _, SecretClient, SecretClientOptions};
use futures_util::TryStreamExt as _;
use keyvault_emulator::{Emulator, Source, facts};
use testkit::packages::{NodePackages, PythonPackages, output_within};

/// Runs a client with the settings of each source, and looks at what it asked: tokens, and reads without one.
async fn satisfied(
    sources: &[(Source, usize, usize)],
    (program, arguments, directory_of_packages): (&Path, &[&str], &Path),
) -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let ca_file = directory.path().join("ca.pem");
    for &(source, tokens, unauthorized) in sources {
        let emulator = Emulator::new();
        emulator.configure(|settings| settings.caller_audience = Some(AUDIENCE.to_owned()));
        let served = emulator.serve().await?;
        std::fs::write(&ca_file, &served.ca_pem)?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(directory_of_packages);
        // Without SystemRoot Windows opens no sockets.
        let kept = ["PATH", "SystemRoot"].map(|name| std::env::var_os(name).map(|value| (name, value)));
        command.env_clear().envs(kept.into_iter().flatten()).envs(served.settings(source));
        if source == Source::ClientSecret {
            // MSAL takes an authority by HTTPS only.
            command.env("AZURE_AUTHORITY_HOST", served.https_base());
        }
        command.env("HTTPS_PROXY", served.proxy_base()).env("HTTP_PROXY", served.proxy_base());
        command.env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1").env("AUDIENCE", AUDIENCE);
        for name in ["REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", CA_FILE] {
            command.env(name, &ca_file);
        }
        // Python's packages are where it runs.
        command.env("TENANT", facts::TENANT).env("PYTHONPATH", ".");
        let output = tokio::task::spawn_blocking(move || output_within(LIMIT, b"", &mut command)).await??;
        assert!(output.status.success(), "{source:?}: {}", String::from_utf8_lossy(&output.stderr));
        let calls = emulator.vault_calls();
        let refused = calls.iter().filter(|call| call.status == Some(401)).count();
        assert_eq!((emulator.token_calls().len(), refused), (tokens, unauthorized), "{source:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn microsofts_python_clients_are_satisfied() -> Result<(), Box<dyn Error>> {
    let (files, target) = directories();
    let packages = PythonPackages {
        name: "azure",
        purpose: "Microsoft's Python clients",
        requirements: &files.join("requirements.txt"),
        target,
    };
    let packages = packages.install()?.ok_or("python3 and pip are needed")?;
    // The wrong audience and the callers' need a token each, and the wrong one is refused.
    let sources = [Source::AppService2019, Source::Imds, Source::ClientSecret].map(|source| (source, 3, 2));
    let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/client.py");
    satisfied(&sources, (Path::new("python3"), &[program], &packages)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn microsofts_javascript_clients_are_satisfied() -> Result<(), Box<dyn Error>> {
    let (files, target) = directories();
    let packages = NodePackages {
        name: "azure",
        purpose: "Microsoft's JavaScript clients",
        list: files,
        files: &["client.mjs"],
        target,
    };
    let packages = packages.install()?.ok_or("node, npm and the npm registry are needed")?;
    let sources = [Source::AppService2019, Source::Imds, Source::ClientSecret].map(|source| (source, 1, 1));
    satisfied(&sources, (Path::new("node"), &["client.mjs"], &packages)).await
}

/// The test starts itself again, as the client.
#[tokio::test(flavor = "multi_thread")]
async fn microsofts_rust_clients_are_satisfied() -> Result<(), Box<dyn Error>> {
    if let Ok(ca_file) = std::env::var(CA_FILE) {
        return rust_client(&ca_file).await;
    }
    let program = std::env::current_exe()?;
    let arguments = ["--exact", "microsofts_rust_clients_are_satisfied"];
    satisfied(&[(Source::AppService2019, 1, 1)], (&program, &arguments, Path::new("."))).await
}

async fn rust_client(ca_file: &str) -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider().install_default().expect("the first provider");
    // The emulator's authority alone, whose place in a system's own trust is another on each system.
    let ca = reqwest::Certificate::from_pem(&std::fs::read(ca_file)?)?;
    let transport = Transport::new(Arc::new(reqwest::Client::builder().tls_certs_only([ca]).build()?));
    let client_options = ClientOptions { transport: Some(transport), ..Default::default() };
    let options =
        ManagedIdentityCredentialOptions { client_options: client_options.clone(), ..Default::default() };
    let credential = ManagedIdentityCredential::new(Some(options))?;
    let options = SecretClientOptions { client_options, ..Default::default() };
    let client = &SecretClient::new("https://demo.vault.azure.net", credential, Some(options))?;
    let (name, set, get) = (
        "db-password",
        async |name: &str, value: &str| -> azure_core::Result<String> {
            let parameters = SetSecretParameters { value: Some(value.into()), ..Default::default() };
            let secret = client.set_secret(name, parameters.try_into()?, None).await?.into_model()?;
            Ok(secret.resource_id()?.version.expect("a version"))
        },
        async |name: &str, version: Option<String>| -> azure_core::Result<Option<String>> {
            let options = SecretClientGetSecretOptions { secret_version: version, ..Default::default() };
            Ok(client.get_secret(name, Some(options)).await?.into_model()?.value)
        },
    );
    let refused = async |name: &str| get(name, None).await.err().and_then(|error| error.http_status());

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

/// The directory with the clients' files, and the one in which packages are installed.
fn directories() -> (&'static Path, &'static Path) {
    let files = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients"));
    (files, Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory"))
}

/// Names the emulator's certificate to the Rust client.
const CA_FILE: &str = "EMULATOR_CA_FILE";

/// An application that callers bring tokens for.
const AUDIENCE: &str = "api://gateway";

/// Many times what a run takes.
const LIMIT: Duration = Duration::from_secs(300);
