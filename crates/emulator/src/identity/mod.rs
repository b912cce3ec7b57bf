//! The token endpoints: Entra's, and those of managed identities.

pub(crate) mod entra;
mod expiry;
mod managed;
pub(crate) mod wording;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use crate::cloud::knows_resource;
use crate::journal::Credential;
use crate::request::{Ask, find};
use crate::settings::{Settings, Source};
use crate::signing::{Life, Published};
use crate::{Emulator, random};

/// What each source must be shown, made anew for each emulator. It has no `Debug`.
pub(crate) struct Keys {
    /// `IDENTITY_HEADER` and its alias `MSI_SECRET`.
    pub(crate) identity: String,
    /// `AZURE_CLIENT_SECRET`.
    pub(crate) client: String,
}

pub(crate) fn answer(ask: &Ask, source: Source, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    match source {
        Source::ClientSecret => entra::answer(ask, issuer, now),
        managed => managed::answer(ask, managed, issuer, now),
    }
}

/// What a source says instead of a token: the body that is documented for this status, or where none is, the
/// shape that this source's errors have.
pub(crate) fn error(source: Source, status: u16) -> Response<Bytes> {
    match source {
        Source::ClientSecret => entra::error(status, false),
        managed => managed::refuse(managed, managed::Failure::Status(status)),
    }
}

/// What `ask` shows of the credential that `source` wants.
pub(crate) fn credential(ask: &Ask, source: Source, keys: &Keys) -> Credential {
    match source {
        Source::AppService2019 => Credential::of(ask.header("x-identity-header"), &keys.identity),
        Source::AppService2017 => Credential::of(ask.header("secret"), &keys.identity),
        Source::Imds | Source::CloudShell => Credential::of(ask.header("metadata"), "true"),
        Source::ClientSecret => {
            let form = ask.form().unwrap_or_default();
            Credential::of(find(&form, "client_secret"), &keys.client)
        }
    }
}

/// What gives tokens. It holds no lock on what changes, as making a key and signing with it take their time.
pub(crate) struct Issuer<'a> {
    emulator: &'a Emulator,
    pub(crate) settings: Settings,
    published: Published,
}

impl<'a> Issuer<'a> {
    /// As the settings and the keys are at this moment.
    pub(crate) fn of(emulator: &'a Emulator) -> Self {
        let state = emulator.lock();
        Self { emulator, settings: state.settings.clone(), published: state.published }
    }

    fn keys(&self) -> &Keys {
        &self.emulator.keys
    }

    /// Whether there is such a resource: a vault, or the application that callers bring tokens for.
    fn knows(&self, resource: &str) -> bool {
        self.is_for_vaults(resource) || self.settings.caller_audience.as_deref() == Some(resource)
    }

    fn is_for_vaults(&self, resource: &str) -> bool {
        knows_resource(resource) || resource == self.settings.audience
    }

    /// A new token for `resource`. One for a vault looks signed and says nothing, as only a vault may read it; one for an
    /// application is signed and has these claims.
    fn token(&self, resource: &str, life: Life, claims: impl FnOnce() -> Value) -> String {
        let token = if self.is_for_vaults(resource) {
            random::token()
        } else {
            let key = self.published.current();
            key.token(&key.header(), &claims())
        };
        self.emulator.lock().tokens.remember(token.clone(), resource, life.expires);
        token
    }
}
