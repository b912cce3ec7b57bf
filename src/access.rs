//! Who asks, and what may they have.

use core::fmt;

use http::HeaderMap;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::error::{Error, SettingError};
use crate::json::Object;
use crate::secret::{Redacted, SecretName};
use crate::settings::Lookup;

/// Everybody who may ask.
#[derive(Debug)]
pub struct Callers {
    known: Vec<Caller>,
    anonymous: Option<Caller>,
    trust_forwarded: bool,
    entra: Option<Entra>,
}

/// Somebody who may ask for some secrets.
pub struct Caller {
    name: String,
    keys: Vec<KeyHash>,
    entra: EntraNames,
    scope: Vec<Pattern>,
}

/// The tenant and the audience of the Entra tokens that callers may come with.
#[derive(Debug)]
pub struct Entra {
    /// `GATEWAY_JWT_TENANT`.
    pub tenant: String,
    /// `GATEWAY_JWT_AUDIENCE`.
    pub audience: String,
}

/// What names a caller in an Entra token.
#[derive(Debug, Default)]
pub struct EntraNames {
    /// The object id of the caller's identity.
    pub oid: Vec<String>,
    /// The application id of the caller's identity.
    pub appid: Vec<String>,
    /// Roles of our application that the caller has.
    pub roles: Vec<String>,
}

impl Callers {
    /// Reads the settings that say who may ask.
    pub(crate) fn read(settings: Lookup<'_>) -> Result<Self, SettingError> {
        let mut known = named_callers(settings)?;
        if let Some(key) = settings.field_text("GATEWAY_KEY")? {
            known.push(Caller::for_everything(KEY_HOLDER, vec![KeyHash::of(key.expose())]));
        }
        if has_a_key_twice(&known) {
            return Err(SettingError { name: "GATEWAY_CALLERS", should: "must not have a key twice" });
        }
        let anonymous = settings.switch("GATEWAY_ALLOW_ANONYMOUS")?;
        Ok(Self {
            known,
            anonymous: anonymous.then(|| Caller::for_everything(ANYBODY, Vec::new())),
            trust_forwarded: settings.switch("GATEWAY_TRUST_FORWARDED")?,
            entra: entra(settings)?,
        })
    }

    /// The caller behind a request with these header fields and this query. This comes before everything that costs
    /// anything, and needs the same time for a wrong key as for none.
    pub fn admit(&self, headers: &HeaderMap, query: Option<&str>) -> Result<&Caller, Error> {
        if !self.trust_forwarded && came_through_proxy(headers) {
            return Err(Error::CameThroughProxy);
        }
        let key = presented_key(headers, query);
        let presented = Choice::from(u8::from(key.is_some()));
        let key = KeyHash::of(key.as_ref().map_or("", |it| it.expose()));
        // Every key is compared, none is left out once one fits, and no key is compared like one.
        let mut found = u32::MAX;
        for (index, caller) in (0_u32..).zip(&self.known) {
            for hash in &caller.keys {
                found.conditional_assign(&index, presented & hash.0.ct_eq(&key.0));
            }
        }
        let caller = usize::try_from(found).ok().and_then(|it| self.known.get(it));
        caller.or(self.anonymous.as_ref()).ok_or(Error::NotAuthenticated)
    }

    /// The same, for what is not for everybody even where everybody may ask for secrets.
    pub fn admit_known(&self, headers: &HeaderMap, query: Option<&str>) -> Result<&Caller, Error> {
        self.admit(headers, query)
            .and_then(|it| if it.keys.is_empty() { Err(Error::NotAuthenticated) } else { Ok(it) })
    }

    /// Whom callers may come with a token from, if they may.
    pub const fn entra(&self) -> Option<&Entra> {
        self.entra.as_ref()
    }
}

impl Caller {
    fn for_everything(name: &str, keys: Vec<KeyHash>) -> Self {
        Self {
            name: name.to_owned(),
            keys,
            entra: EntraNames::default(),
            scope: vec![Pattern::Prefix(String::new())],
        }
    }

    /// The caller's name, for the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What names this caller in an Entra token.
    pub const fn entra(&self) -> &EntraNames {
        &self.entra
    }

    /// Lets the caller have the secret, or does not, whether it exists or not.
    pub fn may_read(&self, name: &SecretName) -> Result<(), Error> {
        let allowed = self.scope.iter().any(|it| it.fits(name));
        if allowed { Ok(()) } else { Err(Error::OutOfScope) }
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("name", &self.name).field("scope", &self.scope).finish_non_exhaustive()
    }
}

/// The SHA-256 of a key. Keys of any length compare in the same time, and the key itself is not kept.
struct KeyHash([u8; 32]);

impl KeyHash {
    fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }

    fn parse(hex: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let whole = hex.len() == hash.len().saturating_mul(2);
        (whole && base16ct::mixed::decode(hex, &mut hash).is_ok()).then_some(Self(hash))
    }
}

/// Names of secrets, in any case, as Key Vault has them.
#[derive(Debug)]
enum Pattern {
    Exactly(String),
    Prefix(String),
}

impl Pattern {
    /// Accepts a name, or the start of one with a `*` behind it.
    fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('*') {
            Some("") => Some(Self::Prefix(String::new())),
            Some(prefix) => SecretName::parse(prefix).map(|_| Self::Prefix(prefix.to_ascii_lowercase())),
            None => SecretName::parse(text).map(|_| Self::Exactly(text.to_ascii_lowercase())),
        }
    }

    fn fits(&self, name: &SecretName) -> bool {
        match self {
            Self::Exactly(exact) => name.is_same_as(exact),
            Self::Prefix(prefix) => {
                name.as_str().get(..prefix.len()).is_some_and(|it| it.eq_ignore_ascii_case(prefix))
            }
        }
    }
}

fn named_callers(settings: Lookup<'_>) -> Result<Vec<Caller>, SettingError> {
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
    let wrong = |should| SettingError { name: "GATEWAY_CALLERS", should };
    let Some(text) = settings.text("GATEWAY_CALLERS")? else { return Ok(Vec::new()) };
    let entries: Vec<Object<Entry>> = serde_json::from_str(&text)
        .map_err(|_| wrong("must be a JSON list of objects with name, key_sha256 and secrets"))?;
    let mut callers: Vec<Caller> = Vec::new();
    for Object(entry) in entries {
        if !is_caller_name(&entry.name) || callers.iter().any(|it| it.name == entry.name) {
            return Err(wrong(
                "must give each caller a name of its own, of letters, digits, '.', '_' and '-'",
            ));
        }
        let keys: Option<Vec<_>> = entry.key_sha256.iter().map(|it| KeyHash::parse(it)).collect();
        if keys.iter().flatten().any(|it| it.0 == KeyHash::of("").0) {
            return Err(wrong("must not have the hash of an empty key"));
        }
        let scope: Option<_> = entry.secrets.iter().map(|it| Pattern::parse(it)).collect();
        callers.push(Caller {
            name: entry.name,
            keys: keys.ok_or(wrong("must have SHA-256 hashes of 64 hexadecimal digits in key_sha256"))?,
            entra: EntraNames { oid: entry.oid, appid: entry.appid, roles: entry.roles },
            scope: scope.ok_or(wrong("must have names of secrets, or their starts and a '*', in secrets"))?,
        });
    }
    if callers.len() > MOST_CALLERS {
        return Err(wrong("has too many callers"));
    }
    Ok(callers)
}

/// Whether two callers, or one of them twice, have the same key: nobody could say which scope it stands for.
fn has_a_key_twice(callers: &[Caller]) -> bool {
    let mut keys: Vec<_> = callers.iter().flat_map(|it| &it.keys).map(|it| it.0).collect();
    keys.sort_unstable();
    keys.windows(2).any(|it| it.first() == it.last())
}

/// A name that reads well in a log line, and is not one that we give ourselves.
fn is_caller_name(text: &str) -> bool {
    text != KEY_HOLDER
        && text != ANYBODY
        && (1..=64).contains(&text.len())
        && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"._-".contains(&it))
}

fn entra(settings: Lookup<'_>) -> Result<Option<Entra>, SettingError> {
    let both = |name| SettingError { name, should: "must be set, as the other setting of Entra callers is" };
    let (tenant, audience) =
        match (settings.text("GATEWAY_JWT_TENANT")?, settings.text("GATEWAY_JWT_AUDIENCE")?) {
            (None, None) => return Ok(None),
            (Some(tenant), Some(audience)) => (tenant, audience),
            (Some(tenant), None) => {
                check_tenant(&tenant)?;
                return Err(both("GATEWAY_JWT_AUDIENCE"));
            }
            (None, Some(_)) => return Err(both("GATEWAY_JWT_TENANT")),
        };
    check_tenant(&tenant)?;
    Ok(Some(Entra { tenant, audience }))
}

fn check_tenant(tenant: &str) -> Result<(), SettingError> {
    let valid = tenant.len() <= 64 && tenant.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-');
    if valid {
        Ok(())
    } else {
        Err(SettingError { name: "GATEWAY_JWT_TENANT", should: "must be the id of a tenant" })
    }
}

/// Whether the request carries a field that a proxy adds. A request that somebody was made to send for somebody else is
/// how server-side request forgery looks from here.
fn came_through_proxy(headers: &HeaderMap) -> bool {
    headers.keys().any(|it| {
        let name = it.as_str();
        matches!(name, "forwarded" | "via" | "x-real-ip") || name.starts_with("x-forwarded-")
    })
}

/// The key of a request: the header field, or else `code` in the query, as Azure Functions have it. Two of a kind are as
/// good as none, since nobody could say which one counts.
///
/// Source: Microsoft, "Work with access keys in Azure Functions".
fn presented_key(headers: &HeaderMap, query: Option<&str>) -> Option<Redacted> {
    let mut fields = headers.get_all("x-functions-key").iter();
    let key = match (fields.next(), fields.next()) {
        (Some(key), None) => key.to_str().ok()?.to_owned(),
        (Some(_), Some(_)) => return None,
        (None, _) => {
            let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
            let mut codes = pairs.filter(|(name, _)| name.eq_ignore_ascii_case("code"));
            match (codes.next(), codes.next()) {
                (Some((_, code)), None) => code.into_owned(),
                _ => return None,
            }
        }
    };
    Some(Redacted::new(key)).filter(|it| !it.expose().is_empty())
}

/// The name of whoever has `GATEWAY_KEY`.
const KEY_HOLDER: &str = "key";

/// The name of whoever comes without a key, where that is allowed.
const ANYBODY: &str = "anonymous";

/// More callers than anybody lists by hand; each is compared on every request.
const MOST_CALLERS: usize = 1000;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::host::Unreadable;

    #[test]
    fn keys() {
        let one_key = callers(&[("GATEWAY_KEY", "right")]);
        for (headers, query, caller) in [
            (vec![("x-functions-key", "right")], None, Some("key")),
            (vec![], Some("code=right"), Some("key")),
            (vec![], Some("x=1&Code=right"), Some("key")),
            (vec![], Some("code=%72ight"), Some("key")),
            (vec![("x-functions-key", "right")], Some("code=wrong"), Some("key")),
            (vec![("x-functions-key", "wrong")], Some("code=right"), None),
            (vec![("x-functions-key", "right"), ("x-functions-key", "right")], None, None),
            (vec![], Some("code=right&code=right"), None),
            (vec![("x-functions-key", "")], None, None),
            (vec![("x-functions-key", "righ")], None, None),
            (vec![("x-functions-key", "right ")], None, None),
            (vec![("x-functions-key", "Right")], None, None),
            (vec![("authorization", "Bearer right")], None, None),
            (vec![], Some("code="), None),
            (vec![], None, None),
        ] {
            let admitted = one_key.admit(&fields(&headers), query).map(Caller::name);
            assert_eq!(admitted, caller.ok_or(Error::NotAuthenticated), "{headers:?} {query:?}");
        }
    }

    #[test]
    fn without_a_key_nobody_gets_in_but_where_everybody_may() {
        let headers = fields(&[("x-functions-key", "")]);
        assert_eq!(callers(&[]).admit(&headers, None).unwrap_err(), Error::NotAuthenticated);
        let open = callers(&[("GATEWAY_ALLOW_ANONYMOUS", "true")]);
        assert_eq!(open.admit(&headers, None).unwrap().name(), "anonymous");
        assert_eq!(open.admit_known(&headers, None).unwrap_err(), Error::NotAuthenticated);
        let both = callers(&[("GATEWAY_ALLOW_ANONYMOUS", "TRUE"), ("GATEWAY_KEY", "right")]);
        let headers = fields(&[("x-functions-key", "right")]);
        assert_eq!(both.admit_known(&headers, None).unwrap().name(), "key");
    }

    #[test]
    fn a_key_stands_for_one_scope() {
        let list = format!(r#"[{{"name":"a","key_sha256":["{}"],"secrets":["a"]}}]"#, hex_of("right"));
        let settings = [("GATEWAY_KEY", "right"), ("GATEWAY_CALLERS", list.as_str())];
        assert_eq!(read(&settings).unwrap_err().name, "GATEWAY_CALLERS");
    }

    #[test]
    fn a_key_that_no_header_field_can_have_is_wrong() {
        for key in ["right\n", "schlüssel", "two words"] {
            assert_eq!(read(&[("GATEWAY_KEY", key)]).unwrap_err().name, "GATEWAY_KEY", "{key:?}");
        }
    }

    #[test]
    fn named_callers_have_keys_and_scopes() {
        // The SHA-256 of "one", "two" and "three", as sha256sum prints them.
        let list = r#"[
            {"name": "billing", "secrets": ["billing-*", "Shared"], "key_sha256": [
                "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed",
                "3FC4CCFE745870E2C0D99F71F30FF0656C8DEDD41CC1D7D3D376B0DBE685E2F3"]},
            {"name": "ops", "secrets": ["*"], "key_sha256": [
                "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f"]},
            {"name": "nobody", "secrets": []}
        ]"#;
        let callers = callers(&[("GATEWAY_CALLERS", list)]);
        for (key, name, secret, allowed) in [
            ("one", "billing", "billing-db", true),
            ("two", "billing", "BILLING-DB", true),
            ("one", "billing", "shared", true),
            ("one", "billing", "shared-not", false),
            ("one", "billing", "billin", false),
            ("one", "billing", "other", false),
            ("three", "ops", "other", true),
        ] {
            let caller = callers.admit(&fields(&[("x-functions-key", key)]), None).unwrap();
            assert_eq!(caller.name(), name);
            let read = caller.may_read(&SecretName::parse(secret).unwrap());
            assert_eq!(read.is_ok(), allowed, "{key} {secret}");
        }
        let stranger = callers.admit(&fields(&[("x-functions-key", "four")]), None);
        assert_eq!(stranger.unwrap_err(), Error::NotAuthenticated);
    }

    #[test]
    fn proxied_requests_need_trust() {
        let (closed, open) = (callers(KEY), callers(&[KEY[0], ("GATEWAY_TRUST_FORWARDED", "true")]));
        for name in
            ["forwarded", "via", "x-real-ip", "x-forwarded-for", "x-forwarded-host", "x-forwarded-anything"]
        {
            let headers = fields(&[("x-functions-key", "right"), (name, "")]);
            assert_eq!(closed.admit(&headers, None).unwrap_err(), Error::CameThroughProxy, "{name}");
            assert!(open.admit(&headers, None).is_ok(), "{name}");
        }
        let headers = fields(&[("x-functions-key", "right"), ("x-forwardedfor", ""), ("x-original-url", "")]);
        assert!(closed.admit(&headers, None).is_ok());
    }

    #[test]
    fn wrong_lists_are_configuration_errors() {
        let hash = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
        let two =
            format!(r#"[{{"name":"a","key_sha256":["{hash}"],"secrets":[]}},{{"name":"a","secrets":[]}}]"#);
        let empty_key = format!(r#"[{{"name":"a","key_sha256":["{}"],"secrets":[]}}]"#, hex_of(""));
        let same_key = format!(r#"[{{"name":"a","key_sha256":["{hash}","{hash}"],"secrets":[]}}]"#);
        let long = format!(r#"[{{"name":"a","key_sha256":["{hash}0"],"secrets":[]}}]"#);
        for list in [
            "",
            "{}",
            "[{}]",
            "marker",
            r#"[{"name":"a"}]"#,
            r#"[{"name":"","secrets":[]}]"#,
            r#"[{"name":"key","secrets":[]}]"#,
            r#"[{"name":"anonymous","secrets":[]}]"#,
            r#"[{"name":"a b","secrets":[]}]"#,
            r#"[{"name":"a","secrets":["b_c"]}]"#,
            r#"[{"name":"a","secrets":["*b"]}]"#,
            r#"[{"name":"a","secrets":["b**"]}]"#,
            r#"[{"name":"a","secrets":[],"key_sha256":["abc"]}]"#,
            r#"[["a",[],[],[],[],["*"]]]"#,
            r#"[{"name":"a","secrets":[],"key":"marker"}]"#,
            &two,
            &long,
            &empty_key,
            &same_key,
        ] {
            let read = read(&[("GATEWAY_CALLERS", list)]);
            assert_eq!(
                read.err().map(|it| it.name),
                (!list.is_empty()).then_some("GATEWAY_CALLERS"),
                "{list}"
            );
        }
    }

    fn callers(settings: &[(&'static str, &str)]) -> Callers {
        read(settings).unwrap()
    }

    fn read(settings: &[(&'static str, &str)]) -> Result<Callers, SettingError> {
        let read = |name: &'static str| {
            Ok::<_, Unreadable>(settings.iter().find(|it| it.0 == name).map(|it| it.1.to_owned()))
        };
        Callers::read(Lookup::new(&read))
    }

    fn hex_of(key: &str) -> String {
        KeyHash::of(key).0.iter().map(|it| format!("{it:02x}")).collect()
    }

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    const KEY: &[(&str, &str)] = &[("GATEWAY_KEY", "right")];
}
