//! Spin's interpretation of a manifest: the variables, stores and allowed hosts of a component.
//!
//! It covers the forms that `spin.toml` uses, as Spin 4.0.2 does. Sources:
//! `crates/manifest/src/schema/v2.rs`, `crates/outbound-networking-config/src/allowed_hosts.rs` of Spin.

use std::collections::BTreeMap;

use http::Uri;
use serde::Deserialize;

/// An application with one component and resolved variables.
#[derive(Debug)]
pub(crate) struct Application {
    variables: BTreeMap<String, String>,
    stores: Vec<String>,
    allowed: Vec<String>,
    /// The directories that dependencies get, with their names inside.
    pub(crate) files: Vec<Files>,
}

#[derive(Deserialize)]
struct Manifest {
    variables: BTreeMap<String, Variable>,
    component: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
struct Variable {
    default: Option<String>,
}

#[derive(Deserialize)]
struct Component {
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    key_value_stores: Vec<String>,
    variables: BTreeMap<String, String>,
    #[serde(default)]
    files: Vec<Files>,
    #[serde(default)]
    dependencies: BTreeMap<String, Dependency>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Files {
    pub(crate) source: String,
    pub(crate) destination: String,
}

/// A component that the component is composed with. By default it inherits nothing.
#[derive(Deserialize)]
struct Dependency {
    #[serde(default)]
    inherit_configuration: Vec<String>,
}

impl Application {
    /// Loads a manifest with these values of its variables, and drops values that it does not declare.
    pub(crate) fn load(manifest: &str, values: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut manifest: Manifest = toml::from_str(manifest).map_err(|error| error.to_string())?;
        let component = manifest.component.pop_first().filter(|_| manifest.component.is_empty());
        let component = component.ok_or("the manifest must have one component")?.1;
        let mut given = BTreeMap::new();
        for (name, variable) in manifest.variables {
            let value = values.get(&name).cloned().or(variable.default);
            let value = value.ok_or(format!("{name} is required and has no value"))?;
            given.insert(format!("{{{{ {name} }}}}"), value);
        }
        let resolved = |(name, template)| {
            let value = given.get(&template).ok_or(format!("{template} names no variable"))?;
            Ok((name, value.clone()))
        };
        let variables = component.variables.into_iter().map(resolved).collect::<Result<_, String>>()?;
        let inherits =
            |dependency: &Dependency| dependency.inherit_configuration.iter().any(|one| one == "files");
        let files = if component.dependencies.values().any(inherits) { component.files } else { Vec::new() };
        let (stores, allowed) = (component.key_value_stores, component.allowed_outbound_hosts);
        Ok(Self { variables, stores, allowed, files })
    }

    /// Returns a variable of the component.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Returns whether the component may open this store.
    pub(crate) fn may_open(&self, label: &str) -> bool {
        self.stores.iter().any(|store| store == label)
    }

    /// Returns whether the component may call this address. The check compares names, not IP addresses.
    pub(crate) fn allows(&self, uri: &Uri) -> bool {
        self.allowed.iter().any(|entry| fits(entry, uri))
    }
}

/// Returns whether an entry of `allowed_outbound_hosts` matches this address.
fn fits(entry: &str, uri: &Uri) -> bool {
    let (scheme, rest) = entry.split_once("://").expect("an entry has a scheme");
    let (name, port) = rest.split_once(':').unwrap_or((rest, if scheme == "https" { "443" } else { "80" }));
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let name_fits = match name.strip_prefix("*.") {
        Some(below) => host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.')),
        None => host == name,
    };
    let at = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    uri.scheme_str() == Some(scheme) && name_fits && (port == "*" || port == at.to_string())
}
