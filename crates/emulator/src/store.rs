//! The secrets of the vault: versions, attributes, soft delete.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::random;
use crate::refusal::{Refusal, Refused, bad_parameter, deleted_not_found, not_found};

/// All secrets, by their names in lower case. It has no `Debug`: it holds the values.
#[derive(Default)]
pub(crate) struct Store {
    secrets: BTreeMap<String, Secret>,
}

/// One secret. It keeps at least one version.
pub(crate) struct Secret {
    /// The name in its creator's case.
    pub(crate) name: String,
    /// When it was deleted, in Unix seconds. It keeps its versions until it is purged.
    pub(crate) deleted: Option<i64>,
    latest: Version,
    /// Oldest first.
    earlier: Vec<Version>,
}

impl Secret {
    /// The newest version: also a disabled one hides those before it.
    pub(crate) fn latest(&self) -> &Version {
        &self.latest
    }

    /// Every version, oldest first.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.earlier.iter().chain([&self.latest])
    }
}

/// One version of a secret. All times are Unix seconds.
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

/// What a `PATCH` may change and a `PUT` may set besides the value: `SecretUpdateParameters`.
#[derive(Default, Deserialize)]
pub(crate) struct Properties {
    #[serde(rename = "contentType")]
    content_type: Option<String>,
    #[serde(default)]
    attributes: Attributes,
    tags: Option<BTreeMap<String, String>>,
}

/// `SecretAttributes`, those of them that a client may choose.
#[derive(Default, Deserialize)]
struct Attributes {
    enabled: Option<bool>,
    nbf: Option<i64>,
    exp: Option<i64>,
}

impl Properties {
    /// Nothing but the one attribute.
    pub(crate) fn enabled(enabled: bool) -> Self {
        Self { attributes: Attributes { enabled: Some(enabled), ..Attributes::default() }, ..Self::default() }
    }

    /// Holds them to the limits of Microsoft Learn, "About Azure Key Vault secrets".
    fn check(&self) -> Result<(), Refused> {
        if self.content_type.as_ref().is_some_and(|it| it.chars().count() > 255) {
            return Err(bad_parameter("The content type is longer than 255 characters.".to_owned()));
        }
        let Some(tags) = &self.tags else { return Ok(()) };
        let long = |it: &String| it.chars().count() > 512;
        if tags.len() > 15 || tags.iter().any(|(name, value)| long(name) || long(value)) {
            return Err(bad_parameter("There are more than 15 tags, or one is longer than 512.".to_owned()));
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
    /// Adds a version at `now`. The name is a name: [`is_name`].
    pub(crate) fn set(
        &mut self,
        name: &str,
        value: String,
        properties: Properties,
        now: i64,
    ) -> Result<&Secret, Refused> {
        if value.len() > LONGEST_VALUE {
            return Err(bad_parameter(format!("The value is longer than {LONGEST_VALUE} bytes.")));
        }
        properties.check()?;
        let key = name.to_ascii_lowercase();
        if let Some(secret) = self.secrets.get(&key).filter(|it| it.deleted.is_some()) {
            return Err(Refusal::DeletedButRecoverable.about(&secret.name));
        }
        let mut version = Version {
            id: random::version(),
            value,
            content_type: None,
            enabled: true,
            not_before: None,
            expires: None,
            created: now,
            updated: now,
            tags: BTreeMap::new(),
        };
        properties.apply(&mut version);
        match self.secrets.get_mut(&key) {
            Some(secret) => secret.earlier.push(std::mem::replace(&mut secret.latest, version)),
            None => {
                let secret =
                    Secret { name: name.to_owned(), deleted: None, latest: version, earlier: Vec::new() };
                self.secrets.insert(key.clone(), secret);
            }
        }
        Ok(&self.secrets[&key])
    }

    /// The secret, unless it is deleted.
    pub(crate) fn get(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(&name.to_ascii_lowercase()).filter(|it| it.deleted.is_none())
    }

    /// One version of a secret; the newest, if `id` is none.
    pub(crate) fn version(&self, name: &str, id: Option<&str>) -> Result<(&Secret, &Version), Refused> {
        let secret = self.get(name).ok_or_else(|| not_found(name))?;
        let Some(id) = id else { return Ok((secret, secret.latest())) };
        let version = secret.versions().find(|it| it.id.eq_ignore_ascii_case(id));
        Ok((secret, version.ok_or_else(|| not_found(&format!("{name}/{id}")))?))
    }

    /// Changes one version; the newest, if `id` is none.
    pub(crate) fn update(
        &mut self,
        name: &str,
        id: Option<&str>,
        properties: Properties,
        now: i64,
    ) -> Result<(), Refused> {
        properties.check()?;
        let secret = self.active(name)?;
        let version = match id {
            None => &mut secret.latest,
            Some(id) => secret
                .earlier
                .iter_mut()
                .chain([&mut secret.latest])
                .find(|it| it.id.eq_ignore_ascii_case(id))
                .ok_or_else(|| not_found(&format!("{name}/{id}")))?,
        };
        properties.apply(version);
        version.updated = now;
        Ok(())
    }

    /// Deletes a secret, softly.
    pub(crate) fn delete(&mut self, name: &str, now: i64) -> Result<&Secret, Refused> {
        let secret = self.active(name)?;
        secret.deleted = Some(now);
        Ok(secret)
    }

    /// A secret that is deleted and can be recovered.
    pub(crate) fn deleted(&self, name: &str) -> Result<&Secret, Refused> {
        let secret = self.secrets.get(&name.to_ascii_lowercase()).filter(|it| it.deleted.is_some());
        secret.ok_or_else(|| deleted_not_found(name))
    }

    /// Undoes [`Store::delete`].
    pub(crate) fn recover(&mut self, name: &str) -> Result<&Secret, Refused> {
        self.deleted(name)?;
        let secret =
            self.secrets.get_mut(&name.to_ascii_lowercase()).ok_or_else(|| deleted_not_found(name))?;
        secret.deleted = None;
        Ok(secret)
    }

    /// Ends what [`Store::delete`] began.
    pub(crate) fn purge(&mut self, name: &str) -> Result<(), Refused> {
        self.deleted(name)?;
        self.secrets.remove(&name.to_ascii_lowercase());
        Ok(())
    }

    /// Every secret with its name in lower case, by that: those that are deleted, or those that are not.
    pub(crate) fn all(&self, deleted: bool) -> impl Iterator<Item = (&str, &Secret)> {
        let all = self.secrets.iter().filter(move |(_, it)| it.deleted.is_some() == deleted);
        all.map(|(key, it)| (key.as_str(), it))
    }

    fn active(&mut self, name: &str) -> Result<&mut Secret, Refused> {
        let secret = self.secrets.get_mut(&name.to_ascii_lowercase()).filter(|it| it.deleted.is_none());
        secret.ok_or_else(|| not_found(name))
    }
}

/// Whether Key Vault allows this as a secret's name: 1 to 127 letters, digits and hyphens (Microsoft Learn,
/// "About Azure Key Vault keys, secrets and certificates", table "Object identifiers").
pub(crate) fn is_name(text: &str) -> bool {
    let allowed = text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
    (1..=127).contains(&text.len()) && allowed
}

/// Whether this is a version: 32 hexadecimal digits (the same table).
pub(crate) fn is_version(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Bytes: "secret values … up to 25k bytes" (Microsoft Learn, "About Azure Key Vault secrets").
pub(crate) const LONGEST_VALUE: usize = 25 * 1024;
