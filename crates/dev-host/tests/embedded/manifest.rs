//! What Spin makes of a manifest: which variables and stores a component has, and which hosts it may reach.
//!
//! As Spin 4.0.2 does it, for the forms that `spin.toml` has. Sources: `crates/manifest/src/schema/v2.rs`,
//! `crates/outbound-networking-config/src/allowed_hosts.rs` of Spin.

use std::collections::BTreeMap;

use http::Uri;
use serde::Deserialize;

/// An application with one component, loaded and with its variables resolved.
#[derive(Debug)]
pub(crate) struct Application {
    variables: BTreeMap<String, String>,
    stores: Vec<String>,
    allowed: Vec<String>,
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
}

impl Application {
    /// Loads a manifest whose variables are given `values`; what the manifest does not name reaches no component.
    pub(crate) fn load(manifest: &str, values: &BTreeMap<String, String>) -> Result<Self, String> {
        let mut manifest: Manifest = toml::from_str(manifest).map_err(|problem| problem.to_string())?;
        let component = manifest.component.pop_first().filter(|_| manifest.component.is_empty());
        let component = component.ok_or("not one component")?.1;
        let mut given = BTreeMap::new();
        for (name, variable) in manifest.variables {
            let value = values.get(&name).cloned().or(variable.default);
            let value = value.ok_or(format!("{name} is required and has no value"))?;
            given.insert(format!("{{{{ {name} }}}}"), value);
        }
        let resolved = |(name, template)| {
            let value = given.get(&template).ok_or(format!("{template} stands for no variable"))?;
            Ok((name, value.clone()))
        };
        let variables = component.variables.into_iter().map(resolved).collect::<Result<_, String>>()?;
        Ok(Self { variables, stores: component.key_value_stores, allowed: component.allowed_outbound_hosts })
    }

    /// A variable of the component.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Whether the component may open this store.
    pub(crate) fn may_open(&self, label: &str) -> bool {
        self.stores.iter().any(|store| store == label)
    }

    /// Whether a request may go there. Names are compared, and not the addresses behind them.
    pub(crate) fn allows(&self, uri: &Uri) -> bool {
        self.allowed.iter().any(|entry| fits(entry, uri))
    }
}

/// Whether an entry of `allowed_outbound_hosts` allows this address.
fn fits(entry: &str, uri: &Uri) -> bool {
    let (scheme, rest) = entry.split_once("://").expect("a scheme");
    let (name, port) = rest.split_once(':').unwrap_or((rest, if scheme == "https" { "443" } else { "80" }));
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    let name_fits = match name.strip_prefix("*.") {
        Some(below) => host.strip_suffix(below).is_some_and(|rest| rest.ends_with('.')),
        None => host == name,
    };
    let at = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    uri.scheme_str() == Some(scheme) && name_fits && (port == "*" || port == at.to_string())
}
