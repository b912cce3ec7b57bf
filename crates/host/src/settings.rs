//! The settings of the component: environment variables, and credentials of systemd.

use std::env::{self, VarError};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use keyvault_gateway::azure::Endpoint;
use keyvault_gateway::config::Config;
use keyvault_gateway::env::{Lookup, NAMES, Setting, Unreadable};

/// The settings, checked with the code of the component. They contain keys, so there is no `Debug`.
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
    /// Reads all settings. An error names the first setting that is missing or wrong, without its value.
    pub fn load() -> Result<Self, String> {
        let settings = NAMES.map(|name| (name, read(name)));
        let config = Config::without_store(Lookup::new(&settings));
        let config = config.map_err(|error| format!("{} {}", error.name, error.should))?;
        let set = settings.into_iter().filter_map(|(name, setting)| Some((name.to_owned(), setting.ok()??)));
        Ok(Self {
            variables: set.collect(),
            destinations: config.destinations().into_iter().cloned().collect(),
            deadline: config.deadline,
            description: config.description(),
        })
    }
}

/// Reads a variable, or if that is empty or not set the credential of this name: a file, whose last line end
/// is not a part of it.
fn read(name: &str) -> Setting {
    match (env::var(name), env::var_os("CREDENTIALS_DIRECTORY")) {
        (Ok(text), _) if !text.is_empty() => Ok(Some(text)),
        (Err(VarError::NotUnicode(_)), _) => Err(Unreadable),
        (_, None) => Ok(None),
        (_, Some(folder)) => match fs::read_to_string(Path::new(&folder).join(name)) {
            Ok(text) => Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(_) => Err(Unreadable),
        },
    }
}
