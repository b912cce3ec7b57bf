//! The settings of the component: environment variables, and credentials of systemd.

use std::env::{self, VarError};
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};
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
        let token_directory = match (token_directory, config.token_source.token_file()) {
            (Some(directory), _) => Some(named(directory)?),
            (None, Some(file)) => Some(directory_of(Path::new(file), is_volume).ok_or_else(|| {
                format!(
                    "AZURE_FEDERATED_TOKEN_FILE is {file}, whose directory has more than tokens: put the file \
                     into one of its own, or name one with --token-directory"
                )
            })?),
            (None, None) => None,
        };
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

/// The directory of the option, absolute: the reader looks for it at the start of the file's name.
fn named(directory: &Path) -> Result<PathBuf, String> {
    let absolute = std::path::absolute(directory).map_err(|error| format!("--token-directory: {error}"))?;
    if is_straight(&absolute) {
        Ok(absolute)
    } else {
        Err(format!("--token-directory must be without `..`, and is {}", directory.display()))
    }
}

/// The directory to open for the reader of a token file. In a volume of Kubernetes that is the one with `..data`:
/// directories below it are links that a renewal replaces (kubernetes/kubernetes,
/// `pkg/volume/util/atomic_writer.go`). `None` if that is the whole file system, or a path that leads up and
/// so to a directory with another name.
fn directory_of(file: &Path, is_volume: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let volume = file.ancestors().skip(1).find(|directory| is_volume(directory));
    let directory = volume.or(file.parent())?;
    (is_straight(file) && directory.parent().is_some()).then(|| directory.to_owned())
}

fn is_straight(path: &Path) -> bool {
    path.components().all(|component| component != Component::ParentDir)
}

fn is_volume(directory: &Path) -> bool {
    directory.join("..data").symlink_metadata().is_ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_token_file_has_no_more_than_tokens() {
        let azure = "/var/run/secrets/azure/tokens";
        for (file, volume, directory) in [
            // A projected volume with the file at its top, and one with the file in a directory.
            ("/var/run/secrets/azure/tokens/azure-identity-token", azure, Some(azure)),
            ("/var/run/secrets/azure/tokens/wi/token", azure, Some(azure)),
            ("/run/tokens/token", "", Some("/run/tokens")),
            ("/tokens/token", "", Some("/tokens")),
            ("/token", "", None),
            ("/tokens/token", "/", None),
            ("/run/../token", "", None),
            ("/run/tokens/../../etc/token", "", None),
        ] {
            let found = directory_of(Path::new(file), |directory| directory == Path::new(volume));
            assert_eq!(found.as_deref(), directory.map(Path::new), "{file}");
        }
    }

    #[test]
    fn a_named_directory_is_absolute() {
        let here = env::current_dir().unwrap();
        for (name, expected) in [
            ("/run/tokens", Some(PathBuf::from("/run/tokens"))),
            ("/", Some(PathBuf::from("/"))),
            ("tokens", Some(here.join("tokens"))),
            ("./tokens", Some(here.join("tokens"))),
            ("../tokens", None),
            ("", None),
        ] {
            let found = named(Path::new(name));
            assert_eq!(found.is_err(), expected.is_none(), "{name}");
            assert_eq!(found.ok(), expected, "{name}");
        }
    }
}
