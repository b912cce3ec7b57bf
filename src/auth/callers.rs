//! The list of callers in `GATEWAY_CALLERS`.

use super::api_key::KeyHash;
use super::oidc::{SubjectPattern, Subjects};
use super::scope::Pattern;
use super::tenant::guid;
use super::{ANONYMOUS, COMPOSED, Caller, IdentityClaims, KEY_HOLDER};
use crate::env::Lookup;
use crate::error::SettingError;
use crate::json::{Json, Object};
use crate::sync::token_bucket::TokenBucket;

/// Parses the callers of the setting; none if it is not set.
pub(super) fn parse(settings: Lookup<'_>) -> Result<Vec<Caller>, SettingError> {
    let Some(text) = settings.text("GATEWAY_CALLERS")? else { return Ok(Vec::new()) };
    let list = Json::parse_body(text.as_bytes());
    let entries = list.as_ref().and_then(Json::as_list).and_then(|list| {
        list.iter().map(|entry| Entry::from_object(entry.as_object()?)).collect::<Option<Vec<_>>>()
    });
    let entries = entries.ok_or(invalid(
        "must be a JSON list of objects with name, secrets, and key_sha256, oid, appid, roles, or iss and sub",
    ))?;
    if entries.len() > MAX_CALLERS {
        return Err(invalid("has too many callers"));
    }
    let mut callers: Vec<Caller> = Vec::new();
    for entry in entries {
        let caller = entry.parse()?;
        if callers.iter().any(|known| known.name == caller.name) {
            return Err(INVALID_NAME);
        }
        callers.push(caller);
    }
    Ok(callers)
}

struct Entry {
    name: String,
    key_sha256: Vec<String>,
    oid: Vec<String>,
    appid: Vec<String>,
    roles: Vec<String>,
    iss: Option<String>,
    sub: Vec<String>,
    secrets: Vec<String>,
}

impl Entry {
    /// The entry, if it has a name and secrets, and no member that is unknown or of another type.
    fn from_object(object: &Object) -> Option<Self> {
        let is_known = |name| MEMBERS.contains(&name);
        let texts = |name| if object.has(name) { object.get(name).texts() } else { Some(Vec::new()) };
        object.members().all(|(name, _)| is_known(name)).then_some(())?;
        Some(Self {
            name: object.get("name").as_text()?.to_owned(),
            key_sha256: texts("key_sha256")?,
            oid: texts("oid")?,
            appid: texts("appid")?,
            roles: texts("roles")?,
            iss: if object.has("iss") { Some(object.get("iss").as_text()?.to_owned()) } else { None },
            sub: texts("sub")?,
            secrets: object.get("secrets").texts()?,
        })
    }

    fn parse(self) -> Result<Caller, SettingError> {
        if !is_caller_name(&self.name) {
            return Err(INVALID_NAME);
        }
        let keys: Option<Vec<_>> = self.key_sha256.iter().map(|hash| KeyHash::parse(hash)).collect();
        if keys.iter().flatten().any(|key| *key == KeyHash::of("")) {
            return Err(invalid("must not have the hash of an empty key"));
        }
        let ids = |ids: &[String]| ids.iter().map(|id| guid(id)).collect::<Option<Vec<_>>>();
        let (oid, appid) =
            ids(&self.oid).zip(ids(&self.appid)).ok_or(invalid("must have GUIDs in oid and appid"))?;
        if !self.roles.iter().all(|role| is_role(role)) {
            return Err(invalid("must have values of app roles in roles"));
        }
        let patterns: Option<Vec<_>> =
            self.sub.iter().map(|subject| SubjectPattern::parse(subject)).collect();
        let patterns =
            patterns.ok_or(invalid("must have subjects, or prefixes of two parts and ':*', in sub"))?;
        let subjects = match (self.iss, patterns.is_empty()) {
            (Some(issuer), false) => Some(Subjects { issuer, patterns }),
            (None, true) => None,
            (Some(_), true) | (None, false) => return Err(invalid("must have iss and sub together")),
        };
        let claims = IdentityClaims { oid, appid, roles: self.roles, subjects };
        if self.name == COMPOSED && (claims.is_any() || !self.key_sha256.is_empty()) {
            return Err(invalid("must not give the caller composed a key, oid, appid, role or subject"));
        }
        let scope: Option<_> = self.secrets.iter().map(|text| Pattern::parse(text)).collect();
        Ok(Caller {
            name: self.name,
            keys: keys.ok_or(invalid("must have SHA-256 hashes of 64 hexadecimal digits in key_sha256"))?,
            claims,
            scope: scope.ok_or(invalid("must have names of secrets, or prefixes and a '*', in secrets"))?,
            budget: TokenBucket::full(),
        })
    }
}

/// Whether `text` can name a caller: it is safe in a log line and is not a reserved name, in any case. Only
/// `composed` itself names the composed component.
fn is_caller_name(text: &str) -> bool {
    let is_reserved = |name: &&str| text.eq_ignore_ascii_case(name);
    ![KEY_HOLDER, ANONYMOUS].iter().any(is_reserved)
        && (text == COMPOSED || !is_reserved(&COMPOSED))
        && (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// Whether `text` is the value of an app role: up to 120 characters and no space (Microsoft, "Add app roles
/// to your application", "Declare roles for an application").
fn is_role(text: &str) -> bool {
    (1..=120).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

const fn invalid(should: &'static str) -> SettingError {
    SettingError { name: "GATEWAY_CALLERS", should }
}

const MEMBERS: [&str; 8] = ["name", "key_sha256", "oid", "appid", "roles", "iss", "sub", "secrets"];

const INVALID_NAME: SettingError =
    invalid("must give each caller a unique name of letters, digits, '.', '_' and '-'");

/// More callers than a person lists by hand. Every request is compared with each of them.
const MAX_CALLERS: usize = 1000;
