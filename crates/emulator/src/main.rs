//! `keyvault-emulator`: serves a Key Vault and its token endpoints until it is stopped.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use keyvault_emulator::{Addresses, Emulator, Source};

#[tokio::main]
async fn main() -> ExitCode {
    match run(std::env::args_os().skip(1)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            eprintln!("keyvault-emulator: {sentence}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), String> {
    let Some(options) = Options::parse(arguments)? else {
        print!("{HELP}");
        return Ok(());
    };
    let emulator = Emulator::new();
    if let Some(path) = &options.secrets {
        for (name, value) in keyvault_emulator::read_secrets(path)? {
            emulator.set_secret(&name, &value).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    let served = emulator.serve_at(options.addresses).await.map_err(|error| error.to_string())?;
    if let Some(path) = &options.ca_file {
        std::fs::write(path, &served.ca_pem)
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    println!("http  {}", served.http_base());
    println!("https {}", served.https_base());
    println!("proxy {}", served.proxy_base());
    for (name, value) in served.settings(options.source) {
        println!("{name}={value}");
    }
    std::future::pending().await
}

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    addresses: Addresses,
    secrets: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    source: Source,
}

impl Options {
    /// `None`: help is asked for.
    fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut options = Self {
            addresses: Addresses::default(),
            secrets: None,
            ca_file: None,
            source: Source::AppService2019,
        };
        while let Some(name) = arguments.next() {
            let name = name.to_string_lossy();
            if name == "--help" || name == "-h" {
                return Ok(None);
            }
            let mut value = || arguments.next().ok_or_else(|| format!("{name} needs a value"));
            match &*name {
                "--http" => options.addresses.http = address(&name, &value()?)?,
                "--https" => options.addresses.https = address(&name, &value()?)?,
                "--proxy" => options.addresses.proxy = address(&name, &value()?)?,
                // The name of a file need not be text.
                "--secrets" => options.secrets = Some(value()?.into()),
                "--ca-file" => options.ca_file = Some(value()?.into()),
                "--source" => options.source = source(&value()?)?,
                _ => return Err(format!("there is no option {name}; --help lists them")),
            }
        }
        Ok(Some(options))
    }
}

fn address(option: &str, value: &OsStr) -> Result<SocketAddr, String> {
    let address = value.to_str().and_then(|it| it.parse().ok());
    address.ok_or_else(|| format!("{option} needs an address and a port, such as 127.0.0.1:8080"))
}

fn source(value: &OsStr) -> Result<Source, String> {
    let found = Source::ALL.into_iter().find(|(name, _)| value == *name);
    let names = Source::ALL.map(|(name, _)| name).join(", ");
    found.map(|(_, it)| it).ok_or_else(|| format!("--source is one of {names}"))
}

const HELP: &str = "\
Serves a Key Vault and the token endpoints of Azure on loopback, until it is stopped.

keyvault-emulator [--http ADDR] [--https ADDR] [--proxy ADDR] [--secrets FILE] [--ca-file FILE]
                  [--source app-service-2019|app-service-2017|imds|cloud-shell|client-secret]

  --http, --https, --proxy  where on loopback to listen; a free port of 127.0.0.1 without it
  --secrets FILE            a JSON object: names and values of secrets
  --ca-file FILE            where to write the certificate that clients must trust
  --source SOURCE           whose settings to print, as NAME=value
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Options>, String> {
        Options::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options() {
        let expected = Options {
            addresses: Addresses { http: ([127, 0, 0, 1], 8080).into(), ..Addresses::default() },
            secrets: Some("a.json".into()),
            ca_file: None,
            source: Source::Imds,
        };
        assert_eq!(parse("--http 127.0.0.1:8080 --secrets a.json --source imds"), Ok(Some(expected)));
        assert_eq!(parse("--secrets a.json --help"), Ok(None));
    }

    #[test]
    fn mistakes_are_told() {
        for (line, sentence) in [
            ("--http", "--http needs a value"),
            ("--http 8080", "--http needs an address and a port, such as 127.0.0.1:8080"),
            ("--verbose", "there is no option --verbose; --help lists them"),
            (
                "--source vm",
                "--source is one of app-service-2019, app-service-2017, imds, cloud-shell, client-secret",
            ),
        ] {
            assert_eq!(parse(line), Err(sentence.to_owned()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn an_argument_need_not_be_text() {
        let strange = || <OsString as std::os::unix::ffi::OsStringExt>::from_vec(b"a\xff".to_vec());
        let parse = |option: &str| Options::parse([option.into(), strange()].into_iter());
        assert_eq!(parse("--secrets").map(|it| it.and_then(|it| it.secrets)), Ok(Some(strange().into())));
        for (option, sentence) in [
            ("--http", "--http needs an address and a port, such as 127.0.0.1:8080"),
            (
                "--source",
                "--source is one of app-service-2019, app-service-2017, imds, cloud-shell, client-secret",
            ),
        ] {
            assert_eq!(parse(option), Err(sentence.to_owned()));
        }
        let alone = Options::parse([strange()].into_iter());
        assert_eq!(alone, Err("there is no option a\u{fffd}; --help lists them".to_owned()));
    }
}
