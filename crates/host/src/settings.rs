//! The settings of the component: environment variables, and credentials of systemd.

use std::env::{self, VarError};
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use keyvault_gateway::azure::Endpoint;
use keyvault_gateway::config::Config;
use keyvault_gateway::env::{Lookup, NAMES, Setting, Unreadable};

/// The settings, read once and checked with the code of the component. They contain keys, so there is no `Debug`.
pub struct Settings {
    /// The environment of the component: nothing else of the host's environment is passed on.
    pub variables: Vec<(String, String)>,
    /// The addresses that the component calls.
    pub destinations: Vec<Endpoint>,
    /// How long a request may take.
    pub deadline: Duration,
    /// What the settings mean, without a secret.
    pub description: String,
}

impl Settings {
    /// Reads all settings.
    ///
    /// # Errors
    ///
    /// Names the first setting that is missing or wrong, without its value.
    pub fn load() -> Result<Self, String> {
        let credentials = env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        let read = |name: &'static str| {
            let variable = match env::var(name) {
                Ok(text) => Ok(Some(text)),
                Err(VarError::NotPresent) => Ok(None),
                Err(VarError::NotUnicode(_)) => Err(Unreadable),
            };
            match (variable, &credentials) {
                (Ok(None), Some(folder)) => (name, credential(&folder.join(name))),
                (variable, _) => (name, variable),
            }
        };
        Self::parse(&NAMES.map(read))
    }

    fn parse(settings: &[(&'static str, Setting)]) -> Result<Self, String> {
        let config = Config::without_store(Lookup::new(settings));
        let config = config.map_err(|error| format!("{} {}", error.name, error.should))?;
        let set =
            settings.iter().filter_map(|(name, setting)| Some((*name, setting.as_ref().ok()?.as_ref()?)));
        let variables = set.map(|(name, text)| (name.to_owned(), text.clone())).collect();
        Ok(Self {
            variables,
            destinations: config.destinations().into_iter().cloned().collect(),
            deadline: config.deadline,
            description: describe(&config),
        })
    }
}

fn describe(config: &Config) -> String {
    let mut callers = config.callers.names().collect::<Vec<_>>();
    if config.callers.anonymous().is_some() {
        callers.push("anonymous ones");
    }
    let callers = if callers.is_empty() { "none".to_owned() } else { callers.join(", ") };
    let calls = config.destinations().into_iter().map(origin).collect::<Vec<_>>().join(", ");
    let (vault, source) = (config.vault.uri(), config.token_source.name());
    format!("vault: {vault}\ntoken source: {source}\ncallers: {callers}\ncalls go to: {calls}")
}

fn origin(endpoint: &Endpoint) -> String {
    format!("{}://{}", if endpoint.is_tls() { "https" } else { "http" }, endpoint.authority())
}

/// Reads a credential: a file whose last line end is not a part of it. One that does not exist is not set.
fn credential(file: &PathBuf) -> Setting {
    match fs::read_to_string(file) {
        Ok(mut text) => {
            text.truncate(text.trim_end_matches(['\r', '\n']).len());
            Ok(Some(text))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(_) => Err(Unreadable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_described_without_secrets() {
        let set = |name, text: &str| (name, Ok(Some(text.to_owned())));
        let settings = [
            set("KeyVaultUri", "https://my-vault.vault.azure.net/"),
            set("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"),
            set("MSI_SECRET", "marked"),
            set("GATEWAY_KEY", "marked"),
            ("GATEWAY_LOG", Ok(None)),
        ];
        let parsed =
            Settings::parse(&settings).map_err(|error| panic!("{error}")).unwrap_or_else(|()| unreachable!());
        assert_eq!(parsed.variables.len(), 4);
        assert_eq!(
            parsed.description,
            "vault: https://my-vault.vault.azure.net\ntoken source: app-service-2017\ncallers: key\n\
             calls go to: http://127.0.0.1:41741, https://my-vault.vault.azure.net"
        );
        let wrong = [settings[0].clone(), set("GATEWAY_LOG", "marked")];
        assert_eq!(
            Settings::parse(&wrong).err().as_deref(),
            Some("GATEWAY_LOG must be error, info or debug")
        );
        let stored = [settings[0].clone(), set("GATEWAY_STORE", "a"), ("GATEWAY_STORE_KEY", Err(Unreadable))];
        assert_eq!(
            Settings::parse(&stored).err().as_deref(),
            Some("GATEWAY_STORE_KEY could not be read from the host")
        );
    }

    #[test]
    fn a_credential_is_a_file_without_its_line_end() {
        let folder = env::temp_dir().join(format!("credential-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join("GATEWAY_KEY");
        assert_eq!(credential(&file), Ok(None));
        fs::write(&file, " key \r\n").unwrap();
        assert_eq!(credential(&file), Ok(Some(" key ".to_owned())));
        assert_eq!(credential(&folder), Err(Unreadable));
        fs::remove_dir_all(&folder).unwrap();
    }
}
