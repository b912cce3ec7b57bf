//! The settings of the component: environment variables, and credentials of systemd.

use std::env::{self, VarError};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
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
    /// The one directory that the component may read, if there is one.
    pub token_directory: Option<PathBuf>,
    /// What the settings mean, without a secret.
    pub description: String,
}

impl Settings {
    /// Reads all settings; `token_directory` comes before the directory that they name. An error names the first
    /// setting that is missing or wrong, without its value.
    pub fn load(token_directory: Option<&Path>) -> Result<Self, String> {
        let settings = NAMES.map(|name| (name, read(name)));
        let config = Config::without_store(Lookup::new(&settings), true);
        let config = config.map_err(|error| format!("{} {}", error.name, error.should))?;
        let token_file = config.token_source.token_file().map(Path::new);
        let token_directory = token_directory.map(Path::to_owned).or_else(|| directory_of(token_file?));
        let mut description = config.description();
        if let Some(directory) = &token_directory {
            description.push_str(&format!("\ntoken directory: {}", directory.display()));
            let metadata = fs::metadata(directory).ok().filter(fs::Metadata::is_dir);
            metadata
                .ok_or_else(|| format!("there is no directory {} with a token file", directory.display()))?;
        }
        let set = settings.into_iter().filter_map(|(name, setting)| Some((name.to_owned(), setting.ok()??)));
        Ok(Self {
            variables: set.collect(),
            destinations: config.destinations().into_iter().cloned().collect(),
            deadline: config.deadline,
            token_directory,
            description,
        })
    }
}

/// The directory to open for the reader of a token file. In a volume of Kubernetes that is the one with `..data`:
/// directories below it are links that a renewal replaces (kubernetes/kubernetes,
/// `pkg/volume/util/atomic_writer.go`).
fn directory_of(file: &Path) -> Option<PathBuf> {
    let is_volume = |directory: &&Path| directory.join("..data").symlink_metadata().is_ok();
    file.ancestors().skip(1).find(is_volume).or(file.parent()).map(Path::to_owned)
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
