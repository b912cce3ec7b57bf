//! Microsoft's Python clients against the emulator, with all verification on.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use keyvault_emulator::{Emulator, Served, Source, facts};
use testkit::packages::{PythonPackages, output_within};

#[tokio::test(flavor = "multi_thread")]
async fn microsofts_python_clients_are_satisfied() -> Result<(), Box<dyn Error>> {
    let Some(packages) = packages()? else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    for (name, source) in [
        ("app-service-2019", Source::AppService2019),
        ("imds", Source::Imds),
        ("client-secret", Source::ClientSecret),
    ] {
        let emulator = Emulator::new();
        emulator.configure(|it| it.caller_audience = Some(AUDIENCE.to_owned()));
        let served = emulator.serve().await?;
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, &served.ca_pem)?;

        let mut command = client(&served, source);
        command
            .args([name, facts::TENANT, AUDIENCE])
            .env("PYTHONPATH", &packages)
            .env("REQUESTS_CA_BUNDLE", &ca_file);
        let output = tokio::task::spawn_blocking(move || output_within(LIMIT, b"", &mut command)).await??;
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));

        // The wrong audience and the callers' need a token each.
        assert_eq!(emulator.token_calls().len(), 3, "{name}");
        assert_eq!(emulator.signing_key_calls().len(), 1, "{name}");
    }
    Ok(())
}

/// Python with the environment of a place in Azure and with nothing else.
fn client(served: &Served, source: Source) -> Command {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python_client.py"));
    command.env_clear().envs(std::env::var_os("PATH").map(|it| ("PATH", it))).envs(served.settings(source));
    if source == Source::ClientSecret {
        // MSAL takes an authority by HTTPS only.
        command.env("AZURE_AUTHORITY_HOST", served.https_base());
    }
    command.env("HTTPS_PROXY", served.proxy_base()).env("HTTP_PROXY", served.proxy_base());
    command.env("NO_PROXY", "127.0.0.1").env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The directory with Microsoft's packages, if they can be had.
fn packages() -> Result<Option<PathBuf>, Box<dyn Error>> {
    let packages = PythonPackages {
        name: "azure",
        purpose: "Microsoft's Python clients",
        requirements: &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requirements.txt"),
        target: &Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(""),
    };
    packages.install()
}

/// An application that callers bring tokens for.
const AUDIENCE: &str = "api://gateway";

/// Many times what a run takes.
const LIMIT: Duration = Duration::from_secs(300);
