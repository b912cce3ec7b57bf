//! What Spin makes of a manifest: which variables a component has, and which hosts it may reach.
//!
//! As strict as Spin 4.0.2, where that matters to a component: unknown fields, entries of `allowed_outbound_hosts` with a path,
//! variables that nobody has given. Sources: `crates/manifest/src/schema/v2.rs`,
//! `crates/outbound-networking-config/src/allowed_hosts.rs` and `crates/expressions` of Spin.

use std::collections::BTreeMap;
use std::net::IpAddr;

use http::Uri;
use serde::Deserialize;

/// An application with one component, loaded and with its variables resolved.
#[derive(Debug)]
pub(crate) struct Application {
    variables: BTreeMap<String, String>,
    stores: Vec<String>,
    allowed: Vec<Allowed>,
}

/// An entry of `allowed_outbound_hosts`.
#[derive(Debug, PartialEq)]
struct Allowed {
    /// `None`: any.
    scheme: Option<String>,
    host: Host,
    /// From the first to the one before the last; `None`: any.
    ports: Option<(u16, u32)>,
}

#[derive(Debug, PartialEq)]
enum Host {
    Any,
    Below(String),
    Is(String),
    Within(IpAddr, u8),
}

/// The manifest, version 2.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    spin_manifest_version: u8,
    application: Described,
    #[serde(default)]
    variables: BTreeMap<String, Variable>,
    trigger: Triggers,
    component: BTreeMap<String, Component>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Described {
    name: String,
    version: String,
    #[serde(default)]
    #[expect(dead_code, reason = "only its form counts")]
    description: String,
    #[serde(default)]
    #[expect(dead_code, reason = "only its form counts")]
    authors: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    default: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    #[expect(dead_code, reason = "only its form counts")]
    secret: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Triggers {
    http: Vec<Trigger>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trigger {
    route: String,
    component: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Component {
    source: String,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    key_value_stores: Vec<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[expect(dead_code, reason = "only its form counts")]
    build: Option<Build>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only its form counts")]
struct Build {
    command: String,
    #[serde(default)]
    watch: Vec<String>,
}

impl Application {
    /// Loads a manifest. Who runs it gives `values` for its variables; what the manifest does not name reaches nobody.
    pub(crate) fn load(manifest: &str, values: &BTreeMap<String, String>) -> Result<Self, String> {
        let manifest: Manifest = toml::from_str(manifest).map_err(|problem| problem.message().to_owned())?;
        if manifest.spin_manifest_version != 2 {
            return Err("not version 2".to_owned());
        }
        if manifest.application.name.is_empty() || manifest.application.version.is_empty() {
            return Err("the application has no name or no version".to_owned());
        }
        let ([trigger], 1) = (manifest.trigger.http.as_slice(), manifest.component.len()) else {
            return Err("not one trigger and one component".to_owned());
        };
        let component =
            manifest.component.get(&trigger.component).ok_or("a trigger without its component")?;
        if !trigger.route.starts_with('/') || component.source.is_empty() {
            return Err("a route that is none, or a component without a source".to_owned());
        }

        let mut application = BTreeMap::new();
        for (name, variable) in &manifest.variables {
            let lower = name.bytes().all(|it| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'_'));
            if !lower || !name.starts_with(|it: char| it.is_ascii_lowercase()) || name.ends_with('_') {
                return Err(format!("{name} is no name of a variable"));
            }
            let default = match (&variable.default, variable.required) {
                (Some(default), false) => Some(default),
                (None, true) => None,
                _ => return Err(format!("{name} needs a default, or to be required, and not both")),
            };
            let value =
                values.get(name).or(default).ok_or(format!("{name} is required, and nobody gives it"))?;
            application.insert(name.as_str(), value);
        }
        let resolved = |text: &str| -> Result<String, String> {
            let Some(name) = text.strip_prefix("{{").and_then(|it| it.strip_suffix("}}")) else {
                return if text.contains('{') {
                    Err(format!("{text} is no template"))
                } else {
                    Ok(text.to_owned())
                };
            };
            let value = application.get(name.trim()).ok_or(format!("there is no variable {name}"))?;
            Ok((*value).clone())
        };
        let variables = component.variables.iter();
        let variables = variables.map(|(name, text)| Ok((name.clone(), resolved(text)?)));
        let allowed = component.allowed_outbound_hosts.iter().map(|it| Allowed::parse(&resolved(it)?));
        Ok(Self {
            stores: component.key_value_stores.clone(),
            variables: variables.collect::<Result<_, String>>()?,
            allowed: allowed.collect::<Result<_, _>>()?,
        })
    }

    /// A variable of the component.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Whether the component may open this store.
    pub(crate) fn may_open(&self, label: &str) -> bool {
        self.stores.iter().any(|it| it == label)
    }

    /// Whether a request may go there. Names are compared, and not the addresses behind them.
    pub(crate) fn allows(&self, uri: &Uri) -> bool {
        self.allowed.iter().any(|it| it.fits(uri) == Some(true))
    }
}

impl Allowed {
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("{text}: {why}");
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("no scheme"))?;
        let scheme = (scheme != "*").then(|| scheme.to_owned());
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (rest, None),
        };
        let ports = match (port, scheme.as_deref()) {
            (Some("*"), _) => None,
            (Some(port), _) => match port.split_once("..") {
                Some((first, end)) => Some((
                    first.parse().map_err(|_| wrong("no port"))?,
                    end.parse().map_err(|_| wrong("no port"))?,
                )),
                None => {
                    let port: u16 = port.parse().map_err(|_| wrong("no port"))?;
                    Some((port, u32::from(port) + 1))
                }
            },
            (None, Some("http")) => Some((80, 81)),
            (None, Some("https")) => Some((443, 444)),
            (None, Some(_)) => return Err(wrong("a scheme without a port of its own")),
            (None, None) => None,
        };
        Ok(Self {
            scheme,
            host: Host::parse(host).ok_or_else(|| wrong("no host, or more than that"))?,
            ports,
        })
    }

    fn fits(&self, uri: &Uri) -> Option<bool> {
        let (scheme, host) = (uri.scheme_str()?, uri.host()?);
        let port = uri.port_u16().or(match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        })?;
        let ports = self.ports.is_none_or(|it| it.0 <= port && u32::from(port) < it.1);
        Some(ports && self.scheme.as_ref().is_none_or(|it| it == scheme) && self.host.fits(host))
    }
}

impl Host {
    fn parse(text: &str) -> Option<Self> {
        if let Some((address, bits)) = text.split_once('/') {
            return Some(Self::Within(address.parse().ok()?, bits.parse().ok()?));
        }
        if text == "*" {
            return Some(Self::Any);
        }
        let (name, below) = text.strip_prefix("*.").map_or((text, false), |it| (it, true));
        let allowed = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'-');
        (!name.is_empty() && name.bytes().all(allowed)).then(|| {
            let name = name.to_ascii_lowercase();
            if below { Self::Below(name) } else { Self::Is(name) }
        })
    }

    fn fits(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Is(name) => *name == host,
            Self::Below(name) => host.strip_suffix(name.as_str()).is_some_and(|it| it.ends_with('.')),
            Self::Within(IpAddr::V4(network), bits) => host.parse().is_ok_and(|it: std::net::Ipv4Addr| {
                let mask = u32::MAX.checked_shl(32 - u32::from(*bits)).unwrap_or(0);
                it.to_bits() & mask == network.to_bits() & mask
            }),
            Self::Within(IpAddr::V6(_), _) => false,
        }
    }
}

#[test]
fn hosts_are_allowed_as_spin_allows_them() {
    for (entry, uri, allowed) in [
        ("https://*.vault.azure.net", "https://my.vault.azure.net/secrets", true),
        ("https://*.vault.azure.net", "https://MY.vault.azure.net:443/", true),
        ("https://*.vault.azure.net", "https://vault.azure.net/", false),
        ("https://*.vault.azure.net", "https://myvault.azure.net/", false),
        ("https://*.vault.azure.net", "http://my.vault.azure.net/", false),
        ("https://*.vault.azure.net", "https://my.vault.azure.net:8443/", false),
        ("https://*.vault.azure.net", "https://my.vault.azure.net.example.com/", false),
        ("http://127.0.0.1:*", "http://127.0.0.1:41741/msi/token", true),
        ("http://127.0.0.1:*", "http://localhost:41741/msi/token", false),
        ("http://localhost:4000..5000", "http://localhost:4999/", true),
        ("http://localhost:4000..5000", "http://localhost:5000/", false),
        ("http://169.254.0.0/16", "http://169.254.169.254/metadata", true),
        ("http://169.254.0.0/16", "http://169.253.169.254/metadata", false),
        ("*://*:*", "http://10.0.0.1:8080/", true),
    ] {
        let entry = Allowed::parse(entry).unwrap();
        assert_eq!(entry.fits(&uri.parse().unwrap()), Some(allowed), "{entry:?} {uri}");
    }
    for entry in
        ["", "my.vault.azure.net", "https://a/b", "https://a?b", "https://*.*.net", "https://a:b", "ftp://a"]
    {
        assert!(Allowed::parse(entry).is_err(), "{entry:?}");
    }
}

#[test]
fn a_manifest_that_spin_refuses_is_refused() {
    let right = "spin_manifest_version = 2\n\
        application = { name = \"a\", version = \"1\" }\n\
        trigger.http = [{ route = \"/...\", component = \"c\" }]\n\
        variables.v = { required = true }\n\
        [component.c]\n\
        source = \"c.wasm\"\n\
        variables = { w = \"{{ v }}\" }\n";
    let given = BTreeMap::from([("v".to_owned(), "text".to_owned()), ("other".to_owned(), "x".to_owned())]);
    let application = Application::load(right, &given).unwrap();
    assert_eq!((application.variable("w"), application.variable("other")), (Some("text"), None));
    assert!(Application::load(right, &BTreeMap::new()).is_err(), "nobody gives a variable that is required");
    for (from, to) in [
        ("version = 2", "version = 1"),
        ("source = \"c.wasm\"", "source = \"c.wasm\"\nsauce = \"x\""),
        ("component = \"c\" }]", "component = \"d\" }]"),
        ("{{ v }}", "{{ x }}"),
        ("{ required = true }", "{ required = true, default = \"\" }"),
        ("{ required = true }", "{ secret = true }"),
        ("variables.v ", "variables.V "),
        ("source = \"c.wasm\"", "source = \"c.wasm\"\nallowed_outbound_hosts = [\"https://a/b\"]"),
        ("source = \"c.wasm\"", "source = \"c.wasm\"\nallowed_outbound_hosts = [\"{{ x }}\"]"),
    ] {
        let wrong = right.replace(from, to);
        assert_ne!(wrong, right);
        assert!(Application::load(&wrong, &given).is_err(), "{wrong}");
    }
}
