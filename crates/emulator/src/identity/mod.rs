//! The token endpoints: who may ask, which identity is meant, and the answer.

pub(crate) mod app_service;
pub(crate) mod cloud_shell;
pub(crate) mod entra;
pub(crate) mod expiry;
pub(crate) mod imds;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use crate::caller::{self, Life};
use crate::cloud::knows_resource;
use crate::journal::Credential;
use crate::request::Ask;
use crate::settings::{Settings, Source, UserAssigned};
use crate::signing::Published;
use crate::tokens::Tokens;
use crate::{facts, random};

/// What each source must be shown, made anew for each emulator. It has no `Debug`.
pub(crate) struct Keys {
    /// `IDENTITY_HEADER` and its alias `MSI_SECRET`.
    pub(crate) identity: String,
    /// `AZURE_CLIENT_SECRET`.
    pub(crate) client: String,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self { identity: random::credential(), client: random::credential() }
    }
}

/// Answers a token request at `now`, in Unix seconds.
pub(crate) fn answer(
    ask: &Ask,
    source: Source,
    issuer: &Issuer<'_>,
    tokens: &mut Tokens,
    now: i64,
) -> Response<Bytes> {
    if source == Source::ClientSecret {
        return entra::answer(ask, issuer, tokens, now);
    }
    let settings = issuer.settings;
    let granted = read(ask, source, issuer.keys).and_then(|(resource, selector)| {
        let identity = select(settings, source, selector)?;
        let form = issuer.form(&resource).ok_or(Failure::UnknownResource)?;
        Ok((resource, form, identity))
    });
    let (resource, form, identity) = match granted {
        Ok(granted) => granted,
        Err(failure) => return refuse(source, failure),
    };
    let expires = now.saturating_add(settings.lifetime.unwrap_or(MANAGED_LIFETIME));
    let life = Life { now, expires };
    let claims = || caller::claims(&resource, &identity.object_id, &identity.client_id, &[], life);
    let token = issuer.token(form, tokens, &resource, expires, claims);
    let grant = Grant { token, resource, client_id: identity.client_id, now, expires };
    match source {
        Source::AppService2019 => app_service::grant_2019(grant, settings),
        Source::AppService2017 => app_service::grant_2017(grant, settings),
        Source::Imds | Source::CloudShell | Source::ClientSecret => imds::grant(grant, settings),
    }
}

/// Who gives tokens.
pub(crate) struct Issuer<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) settings: &'a Settings,
    pub(crate) published: Published,
}

/// What a token looks like to who reads it.
enum Form {
    /// Like one that is signed; it says nothing, as nobody but a vault may read it.
    Opaque,
    /// As a caller of the application brings it.
    Signed,
}

impl Issuer<'_> {
    /// What tokens for `resource` look like. `None`: there is no such resource.
    fn form(&self, resource: &str) -> Option<Form> {
        if knows_resource(resource) || resource == self.settings.audience {
            return Some(Form::Opaque);
        }
        (self.settings.caller_audience.as_deref() == Some(resource)).then_some(Form::Signed)
    }

    /// A new token for `resource` until `expires`, in Unix seconds. One that is signed has these claims.
    fn token(
        &self,
        form: Form,
        tokens: &mut Tokens,
        resource: &str,
        expires: i64,
        claims: impl FnOnce() -> Value,
    ) -> String {
        match form {
            Form::Opaque => tokens.mint(resource, expires),
            Form::Signed => {
                let key = self.published.current();
                let token = key.token(&key.header(), &claims());
                tokens.remember(token.clone(), resource, expires);
                token
            }
        }
    }
}

/// What a managed identity is given. It has no `Debug`: it holds a token.
struct Grant {
    token: String,
    /// The audience, exactly as it was asked for.
    resource: String,
    client_id: String,
    /// When it was asked, in Unix seconds.
    now: i64,
    /// When the token ends, in Unix seconds.
    expires: i64,
}

/// What a source says instead of a token: the body that is documented for this status, or where none is, the
/// shape that this source's errors have.
pub(crate) fn error(source: Source, status: u16) -> Response<Bytes> {
    match source {
        Source::ClientSecret => entra::error(status),
        _ => refuse(source, Failure::Status(status)),
    }
}

/// What `ask` shows of the credential that `source` wants.
pub(crate) fn credential(ask: &Ask, source: Source, keys: &Keys) -> Credential {
    match source {
        Source::AppService2019 => Credential::of(ask.header("x-identity-header"), &keys.identity),
        Source::AppService2017 => Credential::of(ask.header("secret"), &keys.identity),
        Source::Imds | Source::CloudShell => Credential::of(ask.header("metadata"), "true"),
        Source::ClientSecret => entra::credential(ask, keys),
    }
}

/// Why a managed identity's endpoint gives no token.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Method,
    Form,
    Metadata,
    Forwarded,
    Key,
    ApiVersion,
    ResourceMissing,
    UnknownResource,
    IdentityMissing,
    IdentityAmbiguous,
    /// A fault that only names a status.
    Status(u16),
}

/// One of the names that an identity goes by.
#[derive(Clone, Copy)]
enum By {
    Client,
    Object,
    Resource,
}

type Selector = Option<(By, String)>;

/// The resource asked for and the identity selected, from a request that is as `source` wants it.
fn read(ask: &Ask, source: Source, keys: &Keys) -> Result<(String, Selector), Failure> {
    let fields = match source {
        Source::CloudShell => cloud_shell::check(ask)?,
        Source::Imds => imds::check(ask)?,
        _ => app_service::check(ask, source, keys)?,
    };
    let resource = crate::request::find(&fields, "resource").ok_or(Failure::ResourceMissing)?.to_owned();
    Ok((resource, selector(&fields, selectors(source))?))
}

/// The parameters that select a user-assigned identity, per source.
///
/// Sources: "How to use managed identities for App Service and Azure Functions" (2019; 2017 "only accepted the
/// `clientid` property"), "How to use managed identities on an Azure VM to acquire an access token" (IMDS).
fn selectors(source: Source) -> &'static [(&'static str, By)] {
    match source {
        Source::AppService2019 => &[
            ("client_id", By::Client),
            ("principal_id", By::Object),
            ("object_id", By::Object),
            ("mi_res_id", By::Resource),
        ],
        Source::AppService2017 => &[("clientid", By::Client)],
        Source::Imds => &[("client_id", By::Client), ("object_id", By::Object), ("msi_res_id", By::Resource)],
        Source::CloudShell | Source::ClientSecret => &[],
    }
}

/// The one selector among `fields`. Two of them, or another source's, select an identity that is not there:
/// silently taking the system-assigned one instead would hide the mistake.
fn selector(fields: &[(String, String)], known: &[(&str, By)]) -> Result<Selector, Failure> {
    const ANYWHERE: [&str; 6] =
        ["client_id", "clientid", "principal_id", "object_id", "mi_res_id", "msi_res_id"];
    let mut found = None;
    for (name, value) in fields.iter().filter(|(name, _)| ANYWHERE.contains(&name.as_str())) {
        let Some((_, by)) = known.iter().find(|(it, _)| it == name) else {
            return Err(Failure::IdentityMissing);
        };
        if found.replace((*by, value.clone())).is_some() {
            return Err(Failure::IdentityMissing);
        }
    }
    Ok(found)
}

/// Who a token is for.
struct Identity {
    client_id: String,
    object_id: String,
}

impl Identity {
    fn of(assigned: &UserAssigned) -> Self {
        Self { client_id: assigned.client_id.clone(), object_id: assigned.object_id.clone() }
    }
}

/// The identity that is meant.
fn select(settings: &Settings, source: Source, selector: Selector) -> Result<Identity, Failure> {
    let Some((by, value)) = selector else {
        return match settings.user_assigned.as_slice() {
            _ if settings.system_assigned => {
                Ok(Identity { client_id: facts::APP_ID.to_owned(), object_id: facts::OBJECT_ID.to_owned() })
            }
            // Only IMDS falls back to a user-assigned identity, and only to the only one.
            [only] if source == Source::Imds => Ok(Identity::of(only)),
            [_, _, ..] if source == Source::Imds => Err(Failure::IdentityAmbiguous),
            _ => Err(Failure::IdentityMissing),
        };
    };
    let name = |it: &UserAssigned| match by {
        By::Client => it.client_id.eq_ignore_ascii_case(&value),
        By::Object => it.object_id.eq_ignore_ascii_case(&value),
        By::Resource => it.resource_id.eq_ignore_ascii_case(&value),
    };
    let found = settings.user_assigned.iter().find(|it| name(it));
    found.map(Identity::of).ok_or(Failure::IdentityMissing)
}

fn refuse(source: Source, failure: Failure) -> Response<Bytes> {
    match source {
        Source::AppService2019 => app_service::refuse_2019(failure),
        Source::AppService2017 => app_service::refuse_2017(failure),
        Source::Imds => imds::refuse(failure),
        Source::CloudShell | Source::ClientSecret => cloud_shell::refuse(failure),
    }
}

/// 24 hours: "The back-end services for managed identities maintain a cache per resource URI for around 24
/// hours" (Microsoft Learn, "Managed identities for App Service").
const MANAGED_LIFETIME: i64 = 24 * 60 * 60;
