//! The names of all settings, their lookup, and the parsers of simple ones.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::error::SettingError;
use crate::model::Redacted;

/// The names of all settings. A host reads them at once; `docs/reference/settings.md` explains them.
pub const NAMES: [&str; 43] = [
    "KeyVaultUri",
    "KEY_VAULT_URI",
    "KEY_VAULT_RESOURCE",
    "KEY_VAULT_API_VERSION",
    "IDENTITY_SOURCE",
    "AZURE_CLIENT_ID",
    "IDENTITY_OBJECT_ID",
    "IDENTITY_RESOURCE_ID",
    "DEFAULT_IDENTITY_CLIENT_ID",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IDENTITY_SERVER_THUMBPRINT",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "FEDERATION_TENANT_ID",
    "FEDERATION_CLIENT_ID",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    "GCE_METADATA_HOST",
    "GATEWAY_KEY",
    "GATEWAY_CALLERS",
    "GATEWAY_JWT_TENANT",
    "GATEWAY_JWT_AUDIENCE",
    "GATEWAY_OIDC",
    "GATEWAY_ALLOW_ANONYMOUS",
    "GATEWAY_ALLOWED_HOSTS",
    "GATEWAY_TRUST_FORWARDED",
    "GATEWAY_CALLER_CALLS_PER_SECOND",
    "GATEWAY_CACHE_TTL_SECONDS",
    "GATEWAY_STALE_SECONDS",
    "GATEWAY_NEGATIVE_TTL_SECONDS",
    "GATEWAY_CACHE_ENTRIES",
    "GATEWAY_PREFETCH",
    "GATEWAY_STORE",
    "GATEWAY_STORE_KEY",
    "GATEWAY_DEADLINE_SECONDS",
    "GATEWAY_LOG",
];

/// What a host says of a setting: its text, that it is not set, or that it cannot be read.
pub type Setting = Result<Option<String>, Unreadable>;

/// A setting that the host has but cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// The texts of the settings, by name.
#[derive(Clone, Copy)]
pub struct Lookup<'a>(&'a [(&'static str, Setting)]);

impl<'a> Lookup<'a> {
    pub const fn new(settings: &'a [(&'static str, Setting)]) -> Self {
        Self(settings)
    }

    /// The text of the setting `name`. An empty text counts as not set.
    pub(crate) fn text(self, name: &'static str) -> Result<Option<String>, SettingError> {
        debug_assert!(NAMES.contains(&name), "{name} is missing in NAMES");
        match self.0.iter().find(|(known, _)| *known == name) {
            Some((_, Ok(text))) => Ok(text.clone().filter(|text| !text.is_empty())),
            None => Ok(None),
            Some((_, Err(Unreadable))) => {
                Err(SettingError { name, should: "could not be read from the host" })
            }
        }
    }

    /// The text of a setting that is sent in a header, or compared with one: visible ASCII.
    pub(crate) fn header_text(self, name: &'static str) -> Result<Option<Redacted>, SettingError> {
        let Some(text) = self.text(name)?.map(Redacted::new) else { return Ok(None) };
        if text.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Some(text))
        } else {
            Err(SettingError { name, should: "must be visible ASCII without spaces" })
        }
    }

    /// The setting `name` as `true` or `false`, in any case; false if it is not set.
    pub(crate) fn switch(self, name: &'static str) -> Result<bool, SettingError> {
        match self.text(name)?.map(|text| text.to_ascii_lowercase()).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(SettingError { name, should: "must be true or false" }),
        }
    }

    /// The setting `name` as whole seconds.
    pub(crate) fn seconds(
        self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, SettingError> {
        self.number(name, default, range).map(Duration::from_secs)
    }

    /// The setting `name` as a whole number in `range`.
    pub(crate) fn number<N: FromStr + PartialOrd>(
        self,
        name: &'static str,
        default: N,
        range: RangeInclusive<N>,
    ) -> Result<N, SettingError> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = is_digits.then(|| text.parse().ok()).flatten().filter(|number| range.contains(number));
        number.ok_or(SettingError { name, should: "must be a whole number in its range" })
    }
}
