//! Microsoft's Python clients against the emulator, with all verification on.

use std::error::Error;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use keyvault_emulator::{Emulator, Served, Source, facts};

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
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
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

/// The directory with Microsoft's packages, which are installed if they are not there. `None`: they cannot be,
/// and this has been said; where it matters it is an error.
fn packages() -> Result<Option<PathBuf>, Box<dyn Error>> {
    let Some(version) = python(&["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]) else {
        return not_run("python3 is not there; `apt-get install python3 python3-pip` brings it");
    };
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requirements.txt");
    let directory = match std::env::var_os("AZURE_PYTHON_PACKAGES") {
        Some(directory) => PathBuf::from(directory),
        None => {
            // What was installed for other requirements or for another Python is not what is wanted.
            let mut wanted = DefaultHasher::new();
            std::fs::read(&requirements)?.hash(&mut wanted);
            let name = format!("python-{}-azure-{:016x}", version.trim(), wanted.finish());
            Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name(name)
        }
    };
    if directory.is_dir() {
        return Ok(Some(directory));
    }
    if python(&["-m", "pip", "--version"]).is_none() {
        return not_run("pip is not there; `apt-get install python3-pip` brings it");
    }
    // In a directory of its own first, so that half an installation is not taken for a whole one.
    let parent = directory.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent)?;
    let beside = tempfile::tempdir_in(parent)?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
    let output = pip.arg(beside.path()).arg("-r").arg(requirements).output()?;
    if !output.status.success() {
        return Err(format!("pip: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    match std::fs::rename(beside.path(), &directory) {
        // Another test run may have been first.
        Err(_) if directory.is_dir() => {}
        other => other?,
    }
    Ok(Some(directory))
}

/// Says what is missing; where the clients have to run it is an error.
fn not_run(reason: &str) -> Result<Option<PathBuf>, Box<dyn Error>> {
    // Not `println`, which the test harness keeps to itself when a test passes.
    writeln!(io::stdout(), "\nNOT RUN: Microsoft's Python clients: {reason}")?;
    if std::env::var_os("CI").is_some() { Err(reason.into()) } else { Ok(None) }
}

/// What Python prints, if it is there and does not fail.
fn python(arguments: &[&str]) -> Option<String> {
    let output = Command::new("python3").args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// An application that callers bring tokens for.
const AUDIENCE: &str = "api://gateway";
