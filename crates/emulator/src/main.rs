//! `keyvault-emulator`: serves a Key Vault and its token endpoints until it is stopped.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use keyvault_emulator::{Addresses, Emulator, Served, Source};

/// Serves a Key Vault and the token endpoints of Azure on loopback, until it is stopped.
#[derive(Debug, Parser)]
#[command(name = "keyvault-emulator")]
struct Options {
    /// Where to listen for plain HTTP; port 0 is a free one.
    #[arg(long, value_name = "ADDRESS", default_value = FREE)]
    http: SocketAddr,
    /// Where to listen for HTTPS.
    #[arg(long, value_name = "ADDRESS", default_value = FREE)]
    https: SocketAddr,
    /// Where to listen as a proxy for the hosts of Azure.
    #[arg(long, value_name = "ADDRESS", default_value = FREE)]
    proxy: SocketAddr,
    /// A JSON object: names and values of secrets.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
    /// Where to write the certificate that clients must trust; without it, a file for temporary files.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Whose settings to print, as NAME=value.
    #[arg(long, value_enum, default_value = "app-service-2019")]
    source: Source,
}

const FREE: &str = "127.0.0.1:0";

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("keyvault-emulator: {sentence}");
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
    let addresses = Addresses { http: options.http, https: options.https, proxy: options.proxy };
    let served = emulator.serve_at(addresses).await.map_err(|error| error.to_string())?;
    let name = format!("keyvault-emulator-{}.pem", served.addresses.https.port());
    let path = options.ca_file.clone().unwrap_or(std::env::temp_dir().join(name));
    let written = match options.ca_file {
        Some(_) => std::fs::write(&path, &served.ca_pem),
        None => write_new(&path, &served.ca_pem),
    };
    written.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    print!("{}", paste(&emulator, &served, options.source, &path));
    io::stdout().flush().map_err(|error| error.to_string())?;
    std::future::pending().await
}

/// Writes a file that is new, so that no link of another user leads it elsewhere.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    // There may be none from before; another error shows in the next step.
    let _ = std::fs::remove_file(path);
    std::fs::File::create_new(path)?.write_all(text.as_bytes())
}

/// Where it listens, the settings of the source, and lines to paste for each client.
fn paste(emulator: &Emulator, served: &Served, source: Source, ca_file: &Path) -> String {
    let lines = |prefix: &str, settings: &[(&str, String)]| {
        settings.iter().map(|(name, value)| format!("{prefix}{name}={value}")).collect::<Vec<_>>().join("\n")
    };
    let (http, https, proxy) = (served.http_base(), served.https_base(), served.proxy_base());
    // MSAL takes an authority by HTTPS only.
    let base = if source == Source::ClientSecret { &https } else { &http };
    format!(
        include_str!("paste.txt"),
        settings = lines("", &served.settings(source)),
        exports = lines("export ", &emulator.settings(source, base)[2..]),
        header = emulator.settings(Source::AppService2019, &http)[3].1,
        ca_file = ca_file.display(),
        http = http,
        https = https,
        proxy = proxy,
    )
}
