//! Tokens of managed identities: who may ask, which identity is meant, and what the platform keeps.

use bytes::Bytes;
use http::Response;

use super::{Issuer, Keys, app_service, cloud_shell, imds};
use crate::caller::{self, Life};
use crate::facts;
use crate::journal::Credential;
use crate::request::{Ask, find};
use crate::settings::{Settings, Source, UserAssigned};
use crate::tokens::{Kept, Purpose};

/// A place in which there are managed identities.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Managed {
    AppService(app_service::Version),
    Imds,
    CloudShell,
}

impl Managed {
    /// `None`: whoever has a client secret is no managed identity.
    pub(super) fn at(source: Source) -> Option<Self> {
        match source {
            Source::AppService2019 => Some(Self::AppService(app_service::Version::V2019)),
            Source::AppService2017 => Some(Self::AppService(app_service::Version::V2017)),
            Source::Imds => Some(Self::Imds),
            Source::CloudShell => Some(Self::CloudShell),
            Source::ClientSecret => None,
        }
    }

    /// What `ask` shows of the credential that this place wants.
    pub(super) fn credential(self, ask: &Ask, keys: &Keys) -> Credential {
        match self {
            Self::AppService(version) => app_service::credential(ask, version, keys),
            Self::Imds | Self::CloudShell => Credential::of(ask.header("metadata"), "true"),
        }
    }

    /// Answers a token request at `now`, in Unix seconds.
    pub(super) fn answer(self, ask: &Ask, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
        let settings = &issuer.settings;
        let (identity, purpose) = match self.read(ask, issuer) {
            Ok(asked) => asked,
            Err(refusal) => return *refusal,
        };
        let resource = purpose.resource.clone();
        let kept = kept(issuer, purpose, &identity, now);
        let grant = Grant { kept, resource, client_id: identity.client_id, now };
        match self {
            Self::AppService(version) => app_service::grant(version, grant, settings),
            Self::Imds | Self::CloudShell => imds::grant(grant, settings),
        }
    }

    /// The identity that is meant and what its token is for, from a request that is as this place wants it.
    fn read(self, ask: &Ask, issuer: &Issuer<'_>) -> Result<(Identity, Purpose), Refusal> {
        let fields = match self {
            Self::AppService(version) => app_service::check(ask, version, issuer.keys())?,
            Self::Imds => imds::check(ask)?,
            Self::CloudShell => cloud_shell::check(ask)?,
        };
        let refuse = |failure| Box::new(self.refuse(failure));
        let resource = find(&fields, "resource").ok_or_else(|| refuse(Failure::ResourceMissing))?.to_owned();
        let selector = selector(&fields, self.selectors()).map_err(refuse)?;
        let identity = self.select(&issuer.settings, selector)?;
        let form = issuer.form(&resource).ok_or_else(|| refuse(Failure::UnknownResource))?;
        let purpose = Purpose { client_id: identity.client_id.clone(), resource, form };
        Ok((identity, purpose))
    }

    /// The parameters that select a user-assigned identity.
    ///
    /// Sources: "How to use managed identities for App Service and Azure Functions" (2019; 2017 "only accepted the
    /// `clientid` property"), "How to use managed identities on an Azure VM to acquire an access token" (IMDS).
    fn selectors(self) -> &'static [(&'static str, By)] {
        match self {
            Self::AppService(app_service::Version::V2019) => &[
                ("client_id", By::Client),
                ("principal_id", By::Object),
                ("object_id", By::Object),
                ("mi_res_id", By::Resource),
            ],
            Self::AppService(app_service::Version::V2017) => &[("clientid", By::Client)],
            Self::Imds => {
                &[("client_id", By::Client), ("object_id", By::Object), ("msi_res_id", By::Resource)]
            }
            Self::CloudShell => &[],
        }
    }

    /// The identity that is meant.
    fn select(self, settings: &Settings, selector: Selector<'_>) -> Result<Identity, Refusal> {
        let missing = || Box::new(self.refuse(Failure::IdentityMissing));
        match selector {
            Some((by, value)) => {
                let found = settings.user_assigned.iter().find(|it| by.name(it).eq_ignore_ascii_case(value));
                found.map(Identity::of).ok_or_else(missing)
            }
            None if settings.system_assigned => Ok(Identity::system_assigned()),
            // Only IMDS falls back to a user-assigned identity.
            None if self == Self::Imds => imds::only(&settings.user_assigned).map(Identity::of),
            None => Err(missing()),
        }
    }

    /// An error in the words of this place.
    pub(super) fn refuse(self, failure: Failure) -> Response<Bytes> {
        match self {
            Self::AppService(version) => app_service::refuse(version, failure),
            Self::Imds => imds::refuse(failure),
            Self::CloudShell => cloud_shell::refuse(failure),
        }
    }
}

/// The pairs of a query or of a form.
pub(super) type Fields = Vec<(String, String)>;

/// What a place says instead of a token. In a box, as it is much larger than what is there if all is well.
pub(super) type Refusal = Box<Response<Bytes>>;

/// Why there is no token, wherever it is asked for. What only one place minds it says itself.
#[derive(Clone, Copy, Debug)]
pub(super) enum Failure {
    ResourceMissing,
    UnknownResource,
    IdentityMissing,
    /// A fault that only names a status.
    Status(u16),
}

/// What a managed identity is given. It has no `Debug`: it holds a token.
pub(super) struct Grant {
    pub(super) kept: Kept,
    /// The audience, exactly as it was asked for.
    pub(super) resource: String,
    pub(super) client_id: String,
    /// When it was asked, in Unix seconds.
    pub(super) now: i64,
}

/// The token that the platform has for `purpose`, or a new one, which it keeps from now on: "The back-end services for
/// managed identities maintain a cache per resource URI for around 24 hours … it is not possible to force a managed
/// identity's token to be refreshed before its expiry" (Microsoft Learn, "Managed identities for App Service").
fn kept(issuer: &Issuer<'_>, purpose: Purpose, identity: &Identity, now: i64) -> Kept {
    let kept = issuer.emulator.lock().tokens.kept(&purpose, now);
    if let Some(kept) = kept {
        return kept;
    }
    let settings = &issuer.settings;
    let expires = now.saturating_add(settings.lifetime.unwrap_or(LIFETIME));
    let life = Life { issued: now, expires };
    let token = issuer.token(purpose.form, &purpose.resource, life, || {
        caller::claims(&purpose.resource, &identity.object_id, &identity.client_id, &[], life)
    });
    // Who is told to ask again then gets another one then.
    let until = settings.refresh_in.map_or(expires, |it| expires.min(now.saturating_add_unsigned(it)));
    issuer.emulator.lock().tokens.keep(purpose, Kept { token, life, until }, now)
}

/// One of the names that an identity goes by.
#[derive(Clone, Copy)]
enum By {
    Client,
    Object,
    Resource,
}

impl By {
    fn name(self, identity: &UserAssigned) -> &str {
        match self {
            Self::Client => &identity.client_id,
            Self::Object => &identity.object_id,
            Self::Resource => &identity.resource_id,
        }
    }
}

type Selector<'a> = Option<(By, &'a str)>;

/// The one selector among `fields`. Two of them, or another source's, select an identity that is not there:
/// silently taking the system-assigned one instead would hide the mistake.
fn selector<'a>(fields: &'a [(String, String)], known: &[(&str, By)]) -> Result<Selector<'a>, Failure> {
    const ANYWHERE: [&str; 6] =
        ["client_id", "clientid", "principal_id", "object_id", "mi_res_id", "msi_res_id"];
    let mut found = None;
    for (name, value) in fields.iter().filter(|(name, _)| ANYWHERE.contains(&name.as_str())) {
        let Some((_, by)) = known.iter().find(|(it, _)| it == name) else {
            return Err(Failure::IdentityMissing);
        };
        if found.replace((*by, value.as_str())).is_some() {
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

    fn system_assigned() -> Self {
        Self { client_id: facts::APP_ID.to_owned(), object_id: facts::OBJECT_ID.to_owned() }
    }
}

/// Seconds: 24 hours, for as long as the platform keeps a token.
const LIFETIME: i64 = 24 * 60 * 60;
