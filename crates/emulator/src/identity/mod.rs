//! The token endpoints of Entra and of managed identities.

pub(crate) mod entra;
mod expiry;
mod managed;
pub(crate) mod token_refusal;

use bytes::Bytes;
use http::Response;
use serde_json::Value;

use crate::cloud::knows_resource;
use crate::journal::Credential;
use crate::request::{Request, find};
use crate::settings::{Settings, Source};
use crate::signing::{Lifetime, PublishedKeys};
use crate::{Emulator, random};

/// The credentials that the token sources require, new for each emulator. The type has no `Debug`.
pub(crate) struct Credentials {
    /// The value of `IDENTITY_HEADER` and `MSI_SECRET`.
    pub(crate) identity_header: String,
    /// The value of `AZURE_CLIENT_SECRET`.
    pub(crate) client_secret: String,
}

pub(crate) fn answer(request: &Request, source: Source, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    match source {
        Source::ClientSecret => entra::answer(request, issuer, now),
        managed => managed::answer(request, managed, issuer, now),
    }
}

/// Builds an error of a source, with the documented body for this status or one of the same form.
pub(crate) fn error_with_status(source: Source, status: u16) -> Response<Bytes> {
    match source {
        Source::ClientSecret => entra::error_with_status(status, false),
        managed => managed::error_response(managed, managed::Failure::Status(status)),
    }
}

/// Compares the credential in `request` with the one that `source` requires.
pub(crate) fn credential(request: &Request, source: Source, credentials: &Credentials) -> Credential {
    match source {
        Source::AppService2019 => {
            Credential::compare(request.header("x-identity-header"), &credentials.identity_header)
        }
        Source::AppService2017 => Credential::compare(request.header("secret"), &credentials.identity_header),
        Source::Imds | Source::CloudShell => Credential::compare(request.header("metadata"), "true"),
        Source::ClientSecret => {
            let form = request.form().unwrap_or_default();
            Credential::compare(find(&form, "client_secret"), &credentials.client_secret)
        }
    }
}

/// Issues tokens. Copies the settings and the keys, so that slow signing does not hold the lock.
pub(crate) struct Issuer<'a> {
    emulator: &'a Emulator,
    pub(crate) settings: Settings,
    published_keys: PublishedKeys,
}

impl<'a> Issuer<'a> {
    pub(crate) fn new(emulator: &'a Emulator) -> Self {
        let state = emulator.lock();
        Self { emulator, settings: state.settings.clone(), published_keys: state.published_keys }
    }

    /// Whether tokens are issued for `resource`: a vault, or the application of `caller_audience`.
    fn knows(&self, resource: &str) -> bool {
        self.is_vault_resource(resource) || self.settings.caller_audience.as_deref() == Some(resource)
    }

    fn is_vault_resource(&self, resource: &str) -> bool {
        knows_resource(resource) || resource == self.settings.audience
    }

    /// Issues a token for `resource`: opaque text for a vault, or a signed JWT with `claims` for an
    /// application.
    fn issue(&self, resource: &str, lifetime: Lifetime, claims: impl FnOnce() -> Value) -> String {
        let token = if self.is_vault_resource(resource) {
            random::opaque_token()
        } else {
            let key = self.published_keys.current();
            key.token(&key.header(), &claims())
        };
        self.emulator.lock().tokens.record(token.clone(), resource, lifetime.expires);
        token
    }
}
