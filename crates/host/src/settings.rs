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
            description: config.description(),
        })
    }
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
