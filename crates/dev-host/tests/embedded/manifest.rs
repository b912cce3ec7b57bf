//! What Spin makes of a manifest: which variables and stores a component has, and which hosts it may reach.
//!
//! As strict as Spin 4.0.2, where that matters to a component: unknown fields, addresses with a path, variables without a value.
//! Of the forms that Spin knows only those of `spin.toml` are known here; any other is an error. Sources:
//! `crates/manifest/src/schema/v2.rs`, `crates/outbound-networking-config/src/allowed_hosts.rs` of Spin.

use std::collections::BTreeMap;

use http::Uri;
use toml::{Table, Value};

/// An application with one component, loaded and with its variables resolved.
#[derive(Debug)]
pub(crate) struct Application {
    variables: BTreeMap<String, String>,
    stores: Vec<String>,
    allowed: Vec<Allowed>,
}

/// An entry of `allowed_outbound_hosts`: the scheme, the host, whether it stands for what is below it, the port or any.
#[derive(Debug)]
struct Allowed(String, String, bool, Option<u16>);

impl Application {
    /// Loads a manifest whose variables are given `values`; what the manifest does not name reaches no component.
    pub(crate) fn load(manifest: &str, values: &BTreeMap<String, String>) -> Result<Self, String> {
        let manifest: Table = toml::from_str(manifest).map_err(|problem| problem.message().to_owned())?;
        only(&manifest, &["spin_manifest_version", "application", "variables", "trigger", "component"])?;
        only(table(&manifest, "application")?, &["name", "version", "description", "authors"])?;
        let [(name, component)] = table(&manifest, "component")?.iter().collect::<Vec<_>>()[..] else {
            return Err("not one component".to_owned());
        };
        let component = component.as_table().ok_or("a component that is no table")?;
        #[rustfmt::skip]
        only(component, &["source", "allowed_outbound_hosts", "key_value_stores", "variables", "build"])?;
        let triggers = table(&manifest, "trigger")?.get("http").and_then(Value::as_array);
        let [Value::Table(trigger)] = triggers.map(Vec::as_slice).unwrap_or_default() else {
            return Err("not one trigger".to_owned());
        };
        only(trigger, &["route", "component"])?;
        let version = manifest.get("spin_manifest_version").and_then(Value::as_integer);
        if version != Some(2) || trigger.get("component").and_then(Value::as_str) != Some(name) {
            return Err("not version 2, or a trigger without its component".to_owned());
        }
        let mut given = BTreeMap::new();
        for (name, variable) in table(&manifest, "variables")? {
            let variable = variable.as_table().ok_or("a variable that is no table")?;
            only(variable, &["default", "required", "secret"])?;
            let (default, required) = (variable.get("default"), variable.get("required"));
            let lower = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
            if !lower || default.is_some() == (required == Some(&Value::Boolean(true))) {
                return Err(format!(
                    "{name} has no name of a variable, or not one of a default and required"
                ));
            }
            let value = values.get(name).map(String::as_str).or(default.and_then(Value::as_str));
            given.insert(name.as_str(), value.ok_or(format!("{name} is required and has no value"))?);
        }
        let mut variables = BTreeMap::new();
        for (name, template) in table(component, "variables")? {
            let template = template.as_str().unwrap_or_default();
            let variable = template.strip_prefix("{{ ").and_then(|rest| rest.strip_suffix(" }}"));
            let value = variable.and_then(|variable| given.get(variable));
            let value = value.ok_or(format!("{template} stands for no variable"))?;
            variables.insert(name.clone(), (*value).to_owned());
        }
        let texts = |name: &str| -> Vec<String> {
            let values = component.get(name).and_then(Value::as_array).into_iter().flatten();
            values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
        };
        let allowed: Result<_, String> =
            texts("allowed_outbound_hosts").iter().map(|it| Allowed::parse(it)).collect();
        Ok(Self { variables, stores: texts("key_value_stores"), allowed: allowed? })
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
        self.allowed.iter().any(|entry| entry.fits(uri) == Some(true))
    }
}

impl Allowed {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} has no form that is known here");
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let usual = usual_port(scheme).ok_or_else(wrong)?;
        let (host, port) = match rest.split_once(':') {
            Some((host, "*")) => (host, None),
            Some((host, port)) => (host, Some(port.parse().map_err(|_| wrong())?)),
            None => (rest, Some(usual)),
        };
        let (name, below) = host.strip_prefix("*.").map_or((host, false), |name| (name, true));
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        if name.is_empty() || !name.bytes().all(allowed) {
            return Err(wrong());
        }
        Ok(Self(scheme.to_owned(), name.to_ascii_lowercase(), below, port))
    }

    fn fits(&self, uri: &Uri) -> Option<bool> {
        let Self(scheme, name, below, port) = self;
        let (wanted, host) = (uri.scheme_str()?, uri.host()?.to_ascii_lowercase());
        let at = uri.port_u16().or(usual_port(wanted))?;
        let fits = match below {
            true => host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.')),
            false => host == *name,
        };
        Some(scheme == wanted && fits && port.is_none_or(|port| port == at))
    }
}

fn table<'a>(parent: &'a Table, name: &str) -> Result<&'a Table, String> {
    parent.get(name).and_then(Value::as_table).ok_or(format!("there is no table {name}"))
}

fn only(table: &Table, names: &[&str]) -> Result<(), String> {
    let unknown = table.keys().find(|name| !names.contains(&name.as_str()));
    unknown.map_or(Ok(()), |name| Err(format!("the field {name} is unknown")))
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

#[test]
fn hosts_are_allowed_as_spin_allows_them() {
    for (entry, uri, allowed) in [
        ("https://*.vault.azure.net", "https://MY.vault.azure.net:443/secrets", true),
        ("https://*.vault.azure.net", "https://vault.azure.net/", false),
        ("https://*.vault.azure.net", "https://myvault.azure.net/", false),
        ("https://*.vault.azure.net", "http://my.vault.azure.net/", false),
        ("https://*.vault.azure.net", "https://my.vault.azure.net:8443/", false),
        ("https://*.vault.azure.net", "https://my.vault.azure.net.example.com/", false),
        ("http://127.0.0.1:*", "http://127.0.0.1:41741/msi/token", true),
        ("http://127.0.0.1:*", "http://localhost:41741/msi/token", false),
    ] {
        let entry = Allowed::parse(entry).unwrap();
        assert_eq!(entry.fits(&uri.parse().unwrap()), Some(allowed), "{entry:?} {uri}");
    }
    for entry in
        ["", "my.vault.azure.net", "https://a/b", "https://*.*.net", "https://a:b", "ftp://a", "*://*:*"]
    {
        assert!(Allowed::parse(entry).is_err(), "{entry:?}");
    }
}
