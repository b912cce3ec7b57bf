//! The list of callers in `GATEWAY_CALLERS`.

use serde::Deserialize;

use super::api_key::KeyHash;
use super::scope::Pattern;
use super::tenant::guid;
use super::{ANONYMOUS, COMPOSED, Caller, Claimed, KEY_HOLDER};
use crate::env::Lookup;
use crate::error::SettingError;
use crate::json::{self, Object};
use crate::sync::token_bucket::TokenBucket;

/// The callers that the setting names; none, if it is not set.
pub(super) fn parse(settings: Lookup<'_>) -> Result<Vec<Caller>, SettingError> {
    let Some(text) = settings.text("GATEWAY_CALLERS")? else { return Ok(Vec::new()) };
    let entries: Vec<Object<Entry>> = json::parse(text.as_bytes())
        .map_err(|_| wrong("must be a JSON list of objects with name, secrets, and what names the caller"))?;
    if entries.len() > MOST_CALLERS {
        return Err(wrong("has too many callers"));
    }
    let mut callers: Vec<Caller> = Vec::new();
    for Object(entry) in entries {
        let caller = entry.read()?;
        if callers.iter().any(|it| it.name == caller.name) {
            return Err(NAME);
        }
        callers.push(caller);
    }
    Ok(callers)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(default)]
    key_sha256: Vec<String>,
    #[serde(default)]
    oid: Vec<String>,
    #[serde(default)]
    appid: Vec<String>,
    #[serde(default)]
    roles: Vec<String>,
    secrets: Vec<String>,
}

impl Entry {
    fn read(self) -> Result<Caller, SettingError> {
        if !is_caller_name(&self.name) {
            return Err(NAME);
        }
        let keys: Option<Vec<_>> = self.key_sha256.iter().map(|it| KeyHash::parse(it)).collect();
        if keys.iter().flatten().any(|it| *it == KeyHash::of("")) {
            return Err(wrong("must not have the hash of an empty key"));
        }
        let ids = |ids: &[String]| ids.iter().map(|it| guid(it)).collect::<Option<Vec<_>>>();
        let (oid, appid) =
            ids(&self.oid).zip(ids(&self.appid)).ok_or(wrong("must have GUIDs in oid and appid"))?;
        if !self.roles.iter().all(|it| is_role(it)) {
            return Err(wrong("must have values of app roles in roles"));
        }
        let is_shown = [&oid, &appid, &self.roles].iter().any(|it| !it.is_empty());
        if self.name == COMPOSED && (is_shown || !self.key_sha256.is_empty()) {
            return Err(wrong("must name the caller composed by nothing but its name"));
        }
        let scope: Option<_> = self.secrets.iter().map(|it| Pattern::parse(it)).collect();
        Ok(Caller {
            name: self.name,
            keys: keys.ok_or(wrong("must have SHA-256 hashes of 64 hexadecimal digits in key_sha256"))?,
            claims: Claimed { oid, appid, roles: self.roles },
            scope: scope.ok_or(wrong("must have names of secrets, or their starts and a '*', in secrets"))?,
            budget: TokenBucket::full(),
        })
    }
}

/// A name that reads well in a log line, and is not, and does not look like, one that we give ourselves.
fn is_caller_name(text: &str) -> bool {
    let is_ours = |name: &&str| text.eq_ignore_ascii_case(name);
    ![KEY_HOLDER, ANONYMOUS].iter().any(is_ours)
        && (text == COMPOSED || !is_ours(&COMPOSED))
        && (1..=64).contains(&text.len())
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
}

/// The value of an app role: up to 120 characters and no space (Microsoft, "Add app roles to your application", "Declare
/// roles for an application").
fn is_role(text: &str) -> bool {
    (1..=120).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_graphic())
}

const fn wrong(should: &'static str) -> SettingError {
    SettingError { name: "GATEWAY_CALLERS", should }
}

const NAME: SettingError =
    wrong("must give each caller a name of its own, of letters, digits, '.', '_' and '-'");

/// More callers than anybody lists by hand; each is compared on every request.
const MOST_CALLERS: usize = 1000;
