//! The command line of `keyvault-emulator`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use keyvault_emulator::{Addresses, Emulator, Served, Source};

/// Serves an emulated Key Vault and Azure's token endpoints on loopback until it is stopped
#[derive(Debug, Parser)]
#[command(name = "keyvault-emulator")]
struct Options {
    #[command(flatten)]
    addresses: Addresses,
    /// A JSON object of secret names and values
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Where to write the certificate authority that clients must trust; default: a temporary file
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The token source whose settings are printed as NAME=value
    #[arg(long, value_enum, default_value = "app-service-2019")]
    source: Source,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("keyvault-emulator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), String> {
    let emulator = Emulator::new();
    if let Some(path) = &options.secrets {
        for (name, value) in keyvault_emulator::read_secrets(path)? {
            emulator.set_secret(&name, &value).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    let served = emulator.serve_at(options.addresses).await.map_err(|error| error.to_string())?;
    let name = format!("keyvault-emulator-{}.pem", served.addresses.https.port());
    let path = options.ca_file.clone().unwrap_or(std::env::temp_dir().join(name));
    let written = match options.ca_file {
        Some(_) => std::fs::write(&path, &served.ca_pem),
        None => write_new(&path, &served.ca_pem),
    };
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    print!("{}", setup_text(&emulator, &served, options.source, &path));
    io::stdout().flush().map_err(|error| error.to_string())?;
    std::future::pending().await
}

/// Creates a new file and writes it, so that a link of another user cannot redirect the write.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // The file may be missing; any other error shows in the next step.
    let _ = std::fs::remove_file(path);
    std::fs::File::create_new(path)?.write_all(text.as_bytes())
}

/// Formats the addresses, the settings of the source, and the shell lines for each client.
fn setup_text(emulator: &Emulator, served: &Served, source: Source, ca_file: &Path) -> String {
    let lines = |prefix: &str, settings: &[(&str, String)]| {
        settings.iter().map(|(name, value)| format!("{prefix}{name}={value}")).collect::<Vec<_>>().join("\n")
    };
    let (http, https, proxy) = (served.http_base(), served.https_base(), served.proxy_base());
    // MSAL accepts only an HTTPS authority.
    let has_authority = matches!(source, Source::ClientSecret | Source::WorkloadIdentity);
    let base = if has_authority { &https } else { &http };
    format!(
        include_str!("setup.txt"),
        settings = lines("", &served.settings(source)),
        exports = lines("export ", &emulator.settings(source, base)[2..]),
        header = emulator.settings(Source::AppService2019, &http)[3].1,
        ca_file = ca_file.display(),
        http = http,
        https = https,
        proxy = proxy,
    )
}
