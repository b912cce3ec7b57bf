//! The configuration: all settings, parsed once into types.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::auth::Callers;
use crate::azure::Endpoint;
use crate::azure::token_source::TokenSource;
use crate::azure::vault::Vault;
use crate::env::{Lookup, NAMES};
use crate::error::{Error, SettingError};
use crate::host::{Host, within};
use crate::http::request::MAX_ITEMS;
use crate::model::{Deadline, Redacted, SecretName};
use crate::seal::Seal;
use crate::sync::token_bucket::{DEFAULT_RATE, MAX_RATE, Rate};
use crate::telemetry::log::Level;

/// The settings of an instance, checked.
#[derive(Debug)]
pub struct Config {
    /// The vault that secrets are read from.
    pub vault: Vault,
    /// The source of access tokens for the vault.
    pub token_source: TokenSource,
    /// The callers, and the secrets that each may read.
    pub callers: Callers,
    /// How many calls to Key Vault each caller may cause.
    pub caller_rate: Rate,
    pub cache: CacheConfig,
    /// The secrets that an instance reads as soon as it has answered its first request.
    pub prefetch: Vec<SecretName>,
    pub store: Option<StoreConfig>,
    /// How long one request may take, including all retries and waits.
    pub deadline: Duration,
    pub log: Level,
}

/// The settings `GATEWAY_CACHE_…`, `GATEWAY_STALE_SECONDS` and `GATEWAY_NEGATIVE_TTL_SECONDS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheConfig {
    /// How long a value is served from the cache; zero switches the cache off.
    pub ttl: Duration,
    /// How long past its TTL a value may be served while Azure fails.
    pub stale: Duration,
    /// How long the cache remembers that a secret does not exist.
    pub negative_ttl: Duration,
    /// The largest number of values in the cache.
    pub entries: usize,
}

/// The settings `GATEWAY_STORE` and `GATEWAY_STORE_KEY`.
#[derive(Debug)]
pub struct StoreConfig {
    /// The label of the key-value store.
    pub label: String,
    /// The keys that seal its entries.
    pub seal: Seal,
}

impl Config {
    /// How long a request with an expired value to fall back on waits for Azure: a quarter of the deadline,
    /// or [`MIN_STALE_WAIT`] if that is longer and leaves half of the deadline.
    pub fn stale_wait(&self) -> Duration {
        let part = |parts| self.deadline.checked_div(parts).unwrap_or(self.deadline);
        part(4).max(MIN_STALE_WAIT.min(part(2)))
    }

    /// The addresses of all that the gateway calls: token source, vault, and the issuers of callers' tokens.
    pub fn destinations(&self) -> Vec<&Endpoint> {
        let fixed = [self.token_source.endpoint(), self.vault.origin()];
        let assertion = self.token_source.assertion_endpoint();
        let issuers = self.callers.issuers().iter().map(|issuer| issuer.source().endpoint());
        fixed.into_iter().chain(assertion).chain(issuers).collect()
    }

    /// What the settings mean, for an operator: the vault, the token source, the callers and the
    /// destinations.
    pub fn description(&self) -> String {
        let mut callers = self.callers.names().collect::<Vec<_>>();
        if self.callers.anonymous().is_some() {
            callers.push("anonymous ones");
        }
        let callers = if callers.is_empty() { "none".to_owned() } else { callers.join(", ") };
        let calls = self.destinations().into_iter().map(Endpoint::origin).collect::<Vec<_>>().join(", ");
        let (vault, source) = (self.vault.uri(), self.token_source.name());
        format!("vault: {vault}\ntoken source: {source}\ncallers: {callers}\ncalls go to: {calls}")
    }

    /// Parses settings for a host without a key-value store. Whether it `has_reader` is as in [`Host`].
    ///
    /// # Errors
    ///
    /// Fails for the first setting that is missing or wrong.
    pub fn without_store(settings: Lookup<'_>, has_reader: bool) -> Result<Self, SettingError> {
        Self::parse(settings, has_reader, |_| None)
    }

    /// Loads all settings from `host` and parses them.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for the first setting that is missing or wrong, [`Error::DeadlineExceeded`] if the
    /// host takes too long.
    pub async fn load<H: Host>(host: &H, by: Deadline) -> Result<Self, Error> {
        let read =
            within(host, by.left(host.now())?, host.settings(&NAMES)).await.ok_or(Error::DeadlineExceeded)?;
        let texts: Vec<_> = NAMES.into_iter().zip(read).collect();
        // The store is requested again after each await: where there is none, the compiler sees that and
        // leaves out what needs one.
        let seal = |key: &[u8]| host.key_value().and_then(|_| Seal::new(key));
        let config = Self::parse(Lookup::new(&texts), host.has_reader(), seal).map_err(Error::Setting)?;
        // A store that is not there would cost two calls for each read, and no operator would know why.
        if let Some(store) = &config.store
            && let Some(key_value) = host.key_value()
            && within(host, by.left(host.now())?, key_value.may_open(&store.label)).await == Some(false)
        {
            let should = "must be the label of a store that the host lets this component open";
            return Err(Error::Setting(SettingError { name: "GATEWAY_STORE", should }));
        }
        Ok(config)
    }

    fn parse(
        settings: Lookup<'_>,
        has_reader: bool,
        seal: impl Fn(&[u8]) -> Option<Seal>,
    ) -> Result<Self, SettingError> {
        let vault = vault(settings)?;
        let ttl = settings.seconds("GATEWAY_CACHE_TTL_SECONDS", 300, 0..=86_400)?;
        Ok(Self {
            token_source: TokenSource::detect(settings, &vault, has_reader)?,
            callers: Callers::parse(settings, &vault)?,
            caller_rate: Rate::per_second(settings.number(
                "GATEWAY_CALLER_CALLS_PER_SECOND",
                DEFAULT_RATE,
                0..=MAX_RATE,
            )?),
            vault,
            cache: CacheConfig {
                ttl,
                stale: settings.seconds("GATEWAY_STALE_SECONDS", 3600, 0..=604_800)?,
                negative_ttl: settings.seconds("GATEWAY_NEGATIVE_TTL_SECONDS", 10, 0..=3600)?,
                entries: settings.number("GATEWAY_CACHE_ENTRIES", 1000, 1..=100_000)?,
            },
            prefetch: prefetch(settings, ttl)?,
            store: store(settings, seal)?,
            deadline: settings.seconds("GATEWAY_DEADLINE_SECONDS", 10, 1..=230)?,
            log: log_level(settings)?,
        })
    }
}

fn vault(settings: Lookup<'_>) -> Result<Vault, SettingError> {
    let (name, uri) = match (settings.text("KeyVaultUri")?, settings.text("KEY_VAULT_URI")?) {
        (Some(uri), other) if other.as_ref().is_none_or(|other| is_same_uri(other, &uri)) => {
            ("KeyVaultUri", uri)
        }
        (Some(_), _) => {
            return Err(SettingError { name: "KEY_VAULT_URI", should: "must not differ from KeyVaultUri" });
        }
        (None, Some(uri)) => ("KEY_VAULT_URI", uri),
        (None, None) => return Err(SettingError { name: "KeyVaultUri", should: "is not set" }),
    };
    let resource = settings.text("KEY_VAULT_RESOURCE")?;
    let api_version = settings.text("KEY_VAULT_API_VERSION")?;
    Vault::parse(name, &uri, resource.as_deref(), api_version.as_deref())
}

/// Whether both are the same except for a slash at the end.
fn is_same_uri(a: &str, b: &str) -> bool {
    a.strip_suffix('/').unwrap_or(a) == b.strip_suffix('/').unwrap_or(b)
}

fn store(
    settings: Lookup<'_>,
    seal: impl Fn(&[u8]) -> Option<Seal>,
) -> Result<Option<StoreConfig>, SettingError> {
    let label = settings.text("GATEWAY_STORE")?;
    let key = settings.text("GATEWAY_STORE_KEY")?.map(Redacted::new);
    let must_be_set =
        |name| SettingError { name, should: "must be set together with the other setting of the store" };
    match (label, key) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(must_be_set("GATEWAY_STORE_KEY")),
        (None, Some(_)) => Err(must_be_set("GATEWAY_STORE")),
        (Some(label), Some(key)) => {
            let bytes =
                BASE64_STANDARD.decode(key.expose()).ok().filter(|bytes| bytes.len() == STORE_KEY_BYTES);
            let invalid = SettingError { name: "GATEWAY_STORE_KEY", should: "must be 32 bytes in base64" };
            let seal = seal(Redacted::new(bytes.ok_or(invalid)?).expose()).ok_or(SettingError {
                name: "GATEWAY_STORE",
                should: "must not be set, as this build is not for a host that has a store",
            })?;
            Ok(Some(StoreConfig { label, seal }))
        }
    }
}

/// What to read ahead of requests: nothing where nothing is cached.
fn prefetch(settings: Lookup<'_>, ttl: Duration) -> Result<Vec<SecretName>, SettingError> {
    let name = "GATEWAY_PREFETCH";
    let text = settings.text(name)?.unwrap_or_default();
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(SecretName::parse);
    let names: Option<Vec<_>> = names.collect();
    let should = "must be up to 50 names of secrets, with commas between them";
    let names = names.filter(|names| names.len() <= MAX_ITEMS).ok_or(SettingError { name, should })?;
    Ok(if ttl.is_zero() { Vec::new() } else { names })
}

fn log_level(settings: Lookup<'_>) -> Result<Level, SettingError> {
    match settings.text("GATEWAY_LOG")?.as_deref() {
        None | Some("info") => Ok(Level::Info),
        Some("error") => Ok(Level::Error),
        Some("debug") => Ok(Level::Debug),
        Some(_) => Err(SettingError { name: "GATEWAY_LOG", should: "must be error, info or debug" }),
    }
}

const STORE_KEY_BYTES: usize = 32;

/// Long enough for a token and a secret over new connections.
const MIN_STALE_WAIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Unreadable;

    #[test]
    fn settings_have_defaults() {
        let config = parse(&[VAULT]).unwrap();
        let seconds = Duration::from_secs;
        let cache =
            CacheConfig { ttl: seconds(300), stale: seconds(3600), negative_ttl: seconds(10), entries: 1000 };
        assert_eq!((config.cache, config.deadline, config.log), (cache, seconds(10), Level::Info));
        assert!(config.store.is_none());
        assert_eq!(config.token_source.name(), "imds");
        assert_eq!(config.vault.audience().as_str(), "https://vault.azure.net");
    }

    #[test]
    fn all_settings_are_parsed() {
        let config = parse(&[
            ("KEY_VAULT_URI", "https://my-vault.vault.azure.cn/"),
            ("GATEWAY_CACHE_TTL_SECONDS", "0"),
            ("GATEWAY_STALE_SECONDS", "60"),
            ("GATEWAY_NEGATIVE_TTL_SECONDS", "0"),
            ("GATEWAY_CACHE_ENTRIES", "1"),
            ("GATEWAY_DEADLINE_SECONDS", "230"),
            ("GATEWAY_LOG", "debug"),
            ("GATEWAY_STORE", "default"),
            ("GATEWAY_STORE_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ])
        .unwrap();
        let seconds = Duration::from_secs;
        let cache = CacheConfig { ttl: seconds(0), stale: seconds(60), negative_ttl: seconds(0), entries: 1 };
        assert_eq!((config.cache, config.deadline, config.log), (cache, seconds(230), Level::Debug));
        let store = config.store.unwrap();
        let key: Vec<u8> = (0..32).collect();
        assert_eq!(
            (store.label.as_str(), store.seal.prefix()),
            ("default", Seal::new(&key).unwrap().prefix())
        );
        assert_eq!(config.vault.audience().as_str(), "https://vault.azure.cn");
    }

    #[test]
    fn an_invalid_setting_is_named() {
        for (name, values) in [
            (
                "GATEWAY_CACHE_TTL_SECONDS",
                vec!["-1", "1.5", "x", "+1", " 1", "86401", "99999999999999999999"],
            ),
            ("GATEWAY_STALE_SECONDS", vec!["never", "604801"]),
            ("GATEWAY_NEGATIVE_TTL_SECONDS", vec!["3601"]),
            ("GATEWAY_CACHE_ENTRIES", vec!["0", "100001", "many"]),
            ("GATEWAY_DEADLINE_SECONDS", vec!["0", "231", "10s"]),
            ("GATEWAY_LOG", vec!["trace", "INFO"]),
            ("GATEWAY_ALLOW_ANONYMOUS", vec!["yes", "1"]),
            ("GATEWAY_TRUST_FORWARDED", vec!["on"]),
            ("GATEWAY_ALLOWED_HOSTS", vec!["a:80", "https://a", "*"]),
            ("GATEWAY_CALLER_CALLS_PER_SECOND", vec!["-1", "1001", "many"]),
            ("GATEWAY_STORE", vec!["default-without-key"]),
            ("GATEWAY_JWT_TENANT", vec!["a b"]),
            ("KEY_VAULT_RESOURCE", vec!["https://vault.azure.net/"]),
            ("KEY_VAULT_API_VERSION", vec!["7 4"]),
            ("KEY_VAULT_URI", vec!["https://another.vault.azure.net", "x"]),
            ("IDENTITY_SOURCE", vec!["IMDS"]),
            ("GATEWAY_PREFETCH", vec!["a b", "a_b", "a,,/"]),
        ] {
            for value in values {
                let error = parse(&[VAULT, (name, value)]).unwrap_err();
                let other = match name {
                    "GATEWAY_STORE" => "GATEWAY_STORE_KEY",
                    _ => name,
                };
                assert_eq!(error.name, other, "{value}");
                assert!(!error.should.contains(value), "{value}");
            }
        }
        assert_eq!(parse(&[]).unwrap_err(), SettingError { name: "KeyVaultUri", should: "is not set" });
        assert_eq!(parse(&[("KeyVaultUri", "")]).unwrap_err().name, "KeyVaultUri");
        for key in ["AAEC", "not base64", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"] {
            let error =
                parse(&[VAULT, ("GATEWAY_STORE", "default"), ("GATEWAY_STORE_KEY", key)]).unwrap_err();
            assert_eq!(error.name, "GATEWAY_STORE_KEY");
        }
    }

    #[test]
    fn both_vault_settings_may_have_the_same_address() {
        for (other, same) in [
            ("https://my-vault.vault.azure.net", true),
            ("https://my-vault.vault.azure.net/", true),
            ("https://my-vault.vault.azure.net//", false),
            ("https://your-vault.vault.azure.net/", false),
        ] {
            let config = parse(&[VAULT, ("KEY_VAULT_URI", other)]);
            assert_eq!(
                config.map_err(|error| error.name).err(),
                (!same).then_some("KEY_VAULT_URI"),
                "{other}"
            );
        }
    }

    #[test]
    fn the_stale_wait_is_a_part_of_the_deadline() {
        for (deadline, milliseconds) in [("1", 500), ("2", 1000), ("3", 1000), ("10", 2500), ("230", 57_500)]
        {
            let config = parse(&[VAULT, ("GATEWAY_DEADLINE_SECONDS", deadline)]).unwrap();
            assert_eq!(config.stale_wait(), Duration::from_millis(milliseconds), "{deadline}");
        }
    }

    #[test]
    fn a_description_has_no_secret() {
        let config = parse(&[
            VAULT,
            ("MSI_ENDPOINT", "http://127.0.0.1:41741/MSI/token/"),
            ("MSI_SECRET", "marker"),
            ("GATEWAY_KEY", "marker"),
            ("GATEWAY_ALLOW_ANONYMOUS", "true"),
            (
                "GATEWAY_CALLERS",
                r#"[{"name":"billing","appid":["6c37f1ab-6e1a-4a0f-8f5c-4a4d2a8fb2b1"],"secrets":["*"]}]"#,
            ),
            ("GATEWAY_JWT_TENANT", "72f988bf-86f1-41af-91ab-2d7cd011db47"),
            ("GATEWAY_JWT_AUDIENCE", "api://gateway"),
        ]);
        assert_eq!(
            config.unwrap().description(),
            "vault: https://my-vault.vault.azure.net\ntoken source: app-service-2017\ncallers: billing, key, anonymous ones\n\
             calls go to: http://127.0.0.1:41741, https://my-vault.vault.azure.net, https://login.microsoftonline.com"
        );
        assert!(parse(&[VAULT]).unwrap().description().contains("callers: none\n"));
    }

    #[test]
    fn an_unreadable_setting_is_named() {
        assert_eq!(
            parse(&[VAULT, ("GATEWAY_LOG", UNREADABLE)]).unwrap_err(),
            SettingError { name: "GATEWAY_LOG", should: "could not be read from the host" }
        );
    }

    #[test]
    fn debug_output_has_no_credential() {
        let config = parse(&[
            VAULT,
            ("GATEWAY_KEY", "marker"),
            ("MSI_ENDPOINT", "http://localhost"),
            ("MSI_SECRET", "marker"),
            ("GATEWAY_STORE", "default"),
            ("GATEWAY_STORE_KEY", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ])
        .unwrap();
        let debug = format!("{config:?}");
        assert!(!debug.contains("marker") && !debug.contains("1, 2, 3"), "{debug}");
    }

    fn parse(settings: &[(&'static str, &'static str)]) -> Result<Config, SettingError> {
        let setting =
            |text: &str| if text == UNREADABLE { Err(Unreadable) } else { Ok(Some(text.to_owned())) };
        let settings: Vec<_> = settings.iter().map(|(name, text)| (*name, setting(text))).collect();
        Config::parse(Lookup::new(&settings), false, Seal::new)
    }

    const VAULT: (&str, &str) = ("KeyVaultUri", "https://my-vault.vault.azure.net");
    const UNREADABLE: &str = "unreadable";
}
