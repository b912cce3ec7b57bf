//! The secrets of a vault: versions, attributes, soft delete, backups.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::random;
use crate::refusal::{Refusal, VaultError, bad_parameter, deleted_not_found, restore_conflict};

type Result<T> = std::result::Result<T, VaultError>;

/// All secrets by their names in lower case. The type has no `Debug`, because it contains the values.
#[derive(Default)]
pub(crate) struct Store {
    secrets: BTreeMap<String, Secret>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Secret {
    /// The name as first set, with its letter case.
    pub(crate) name: String,
    /// The time of deletion in Unix seconds. The versions remain until the secret is purged.
    #[serde(skip)]
    pub(crate) deleted: Option<i64>,
    /// At least one version, oldest first.
    pub(crate) versions: Vec<Version>,
}

impl Secret {
    /// Returns the newest version, even if it is disabled.
    pub(crate) fn latest(&self) -> &Version {
        self.versions.last().expect("a secret keeps at least one version")
    }
}

/// One version of a secret, with times in Unix seconds.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) value: String,
    pub(crate) content_type: Option<String>,
    pub(crate) enabled: bool,
    pub(crate) not_before: Option<i64>,
    pub(crate) expires: Option<i64>,
    pub(crate) created: i64,
    pub(crate) updated: i64,
    pub(crate) tags: BTreeMap<String, String>,
}

/// The properties that `PUT` and `PATCH` may set besides the value: `SecretUpdateParameters`.
#[derive(Default, Deserialize)]
pub(crate) struct Properties {
    #[serde(rename = "contentType")]
    content_type: Option<String>,
    #[serde(default)]
    attributes: Attributes,
    tags: Option<BTreeMap<String, String>>,
}

/// The members of `SecretAttributes` that a client may set.
#[derive(Default, Deserialize)]
struct Attributes {
    enabled: Option<bool>,
    nbf: Option<i64>,
    exp: Option<i64>,
}

impl Properties {
    pub(crate) fn enabled(enabled: bool) -> Self {
        Self { attributes: Attributes { enabled: Some(enabled), ..Attributes::default() }, ..Self::default() }
    }

    /// Checks the limits of Microsoft Learn, "About Azure Key Vault secrets".
    fn check(&self) -> Result<()> {
        let is_long = |text: &String, most| text.chars().count() > most;
        if self.content_type.as_ref().is_some_and(|text| is_long(text, 255)) {
            return Err(bad_parameter("The content type is longer than 255 characters."));
        }
        let Some(tags) = &self.tags else { return Ok(()) };
        if tags.len() > 15 || tags.iter().any(|(name, value)| is_long(name, 512) || is_long(value, 512)) {
            return Err(bad_parameter("There are more than 15 tags, or one is longer than 512."));
        }
        Ok(())
    }

    fn apply(self, version: &mut Version) {
        version.content_type = self.content_type.or(version.content_type.take());
        version.enabled = self.attributes.enabled.unwrap_or(version.enabled);
        version.not_before = self.attributes.nbf.or(version.not_before);
        version.expires = self.attributes.exp.or(version.expires);
        if let Some(tags) = self.tags {
            version.tags = tags;
        }
    }
}

impl Store {
    pub(crate) fn set(&mut self, name: &str, value: String, new: Properties, now: i64) -> Result<&Secret> {
        if value.len() > MAX_VALUE_BYTES {
            return Err(bad_parameter(format!("The value is longer than {MAX_VALUE_BYTES} bytes.")));
        }
        new.check()?;
        if let Ok(secret) = self.deleted(name) {
            return Err(Refusal::DeletedButRecoverable.error(&secret.name));
        }
        let id = random::version();
        let mut version =
            Version { id, value, enabled: true, created: now, updated: now, ..Version::default() };
        new.apply(&mut version);
        let empty = || Secret { name: name.to_owned(), deleted: None, versions: Vec::new() };
        let secret = self.secrets.entry(name.to_ascii_lowercase()).or_insert_with(empty);
        secret.versions.push(version);
        Ok(secret)
    }

    pub(crate) fn get(&self, name: &str) -> Result<&Secret> {
        self.find(name, false).ok_or_else(|| Refusal::SecretNotFound.error(name))
    }

    /// Returns one version of a secret; without an `id`, the newest.
    pub(crate) fn version(&self, name: &str, id: Option<&str>) -> Result<(&Secret, &Version)> {
        let secret = self.get(name)?;
        let Some(id) = id else { return Ok((secret, secret.latest())) };
        let version = secret.versions.iter().find(|version| version.id.eq_ignore_ascii_case(id));
        Ok((secret, version.ok_or_else(|| Refusal::SecretNotFound.error(&format!("{name}/{id}")))?))
    }

    /// Changes one version of a secret; without an `id`, the newest.
    pub(crate) fn update(&mut self, name: &str, id: Option<&str>, new: Properties, now: i64) -> Result<()> {
        new.check()?;
        let secret = self.find_mut(name, false).ok_or_else(|| Refusal::SecretNotFound.error(name))?;
        let mut versions = secret.versions.iter_mut().rev();
        let version = versions.find(|version| id.is_none_or(|id| version.id.eq_ignore_ascii_case(id)));
        let missing = || Refusal::SecretNotFound.error(&format!("{name}/{}", id.unwrap_or_default()));
        let version = version.ok_or_else(missing)?;
        new.apply(version);
        version.updated = now;
        Ok(())
    }

    pub(crate) fn delete(&mut self, name: &str, now: i64) -> Result<&Secret> {
        let secret = self.find_mut(name, false).ok_or_else(|| Refusal::SecretNotFound.error(name))?;
        secret.deleted = Some(now);
        Ok(secret)
    }

    pub(crate) fn deleted(&self, name: &str) -> Result<&Secret> {
        self.find(name, true).ok_or_else(|| deleted_not_found(name))
    }

    pub(crate) fn recover(&mut self, name: &str) -> Result<&Secret> {
        let secret = self.find_mut(name, true).ok_or_else(|| deleted_not_found(name))?;
        secret.deleted = None;
        Ok(secret)
    }

    pub(crate) fn purge(&mut self, name: &str) -> Result<()> {
        self.deleted(name)?;
        self.secrets.remove(&name.to_ascii_lowercase());
        Ok(())
    }

    /// Exports a secret with all its versions as base64url. Unlike Azure's, the backup is not encrypted.
    pub(crate) fn backup(&self, name: &str) -> Result<String> {
        let text = serde_json::to_vec(self.get(name)?).expect("strings, numbers and lists are JSON");
        Ok(BASE64_URL_SAFE_NO_PAD.encode(text))
    }

    /// Imports a [`Store::backup`] into the vault at `base`, unless a secret with its name exists.
    pub(crate) fn restore(&mut self, backup: &str, base: &str) -> Result<&Secret> {
        let text = BASE64_URL_SAFE_NO_PAD.decode(backup).unwrap_or_default();
        let secret = serde_json::from_slice::<Secret>(&text).ok();
        let secret = secret.filter(|secret| is_secret_name(&secret.name) && !secret.versions.is_empty());
        // Azure's text (Azure/azure-sdk-for-js, test "fails to restore a secret with a malformed backup").
        let corrupt = || bad_parameter("Backup blob contains invalid or corrupt version.");
        let secret = secret.ok_or_else(corrupt)?;
        if let Ok(deleted) = self.deleted(&secret.name) {
            return Err(Refusal::DeletedButRecoverable.error(&deleted.name));
        }
        if self.get(&secret.name).is_ok() {
            let id = format!("{base}/secrets/{}/{}", secret.name, secret.latest().id);
            return Err(restore_conflict(&id));
        }
        Ok(self.secrets.entry(secret.name.to_ascii_lowercase()).or_insert(secret))
    }

    /// Returns the deleted or the active secrets, sorted by their names in lower case.
    pub(crate) fn secrets(&self, deleted: bool) -> impl Iterator<Item = (&str, &Secret)> {
        let all = self.secrets.iter().filter(move |(_, secret)| secret.deleted.is_some() == deleted);
        all.map(|(key, secret)| (key.as_str(), secret))
    }

    fn find(&self, name: &str, deleted: bool) -> Option<&Secret> {
        self.secrets.get(&name.to_ascii_lowercase()).filter(|secret| secret.deleted.is_some() == deleted)
    }

    fn find_mut(&mut self, name: &str, deleted: bool) -> Option<&mut Secret> {
        self.secrets.get_mut(&name.to_ascii_lowercase()).filter(|secret| secret.deleted.is_some() == deleted)
    }
}

/// Whether Key Vault allows this secret name: 1 to 127 letters, digits and hyphens (Microsoft Learn,
/// "About Azure Key Vault keys, secrets and certificates", table "Object identifiers").
pub(crate) fn is_secret_name(text: &str) -> bool {
    let allowed = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (1..=127).contains(&text.len()) && allowed
}

/// Whether this is a version id: 32 hexadecimal digits (the same table).
pub(crate) fn is_version_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The maximum length: "secret values … up to 25k bytes" (Microsoft Learn, "About Azure Key Vault secrets").
pub(crate) const MAX_VALUE_BYTES: usize = 25 * 1024;
