//! The token endpoints of Entra and of managed identities, and the endpoints that issue client assertions.

pub(crate) mod arc;
mod assertion;
pub(crate) mod entra;
mod expiry;
mod id_tokens;
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
#[derive(Clone)]
pub(crate) struct Credentials {
    /// The value of `IDENTITY_HEADER` and `MSI_SECRET`.
    pub(crate) identity_header: String,
    /// The value of `AZURE_CLIENT_SECRET`.
    pub(crate) client_secret: String,
    /// The value of `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
    pub(crate) github_token: String,
}

pub(crate) fn answer(request: &Request, source: Source, issuer: &Issuer<'_>, now: i64) -> Response<Bytes> {
    match source {
        Source::ClientSecret | Source::WorkloadIdentity => entra::answer(request, issuer, now),
        Source::GithubActions => id_tokens::github(request, issuer, now),
        Source::GoogleCloud => id_tokens::google(request, issuer, now),
        Source::AzureArc => arc::answer(request, issuer, now),
        managed => managed::answer(request, managed, issuer, now),
    }
}

/// Builds an error of a source, with the documented body for this status or one of the same form.
pub(crate) fn error_with_status(source: Source, status: u16) -> Response<Bytes> {
    match source {
        Source::WorkloadIdentity if status == 401 => entra::error_response(&assertion::invalid_signature()),
        Source::ClientSecret | Source::WorkloadIdentity => entra::error_with_status(status, false),
        Source::GithubActions => id_tokens::github_error(status),
        Source::GoogleCloud => id_tokens::google_text(status, "The metadata server has failed."),
        managed => managed::error_response(managed, managed::Failure::Status(status)),
    }
}

/// Compares the credential in `request` with the one that `source` requires.
pub(crate) fn credential(request: &Request, source: Source, issuer: &Issuer<'_>, now: i64) -> Credential {
    let credentials = &issuer.emulator.credentials;
    match source {
        Source::AppService2019 => {
            Credential::compare(request.header("x-identity-header"), &credentials.identity_header)
        }
        Source::AppService2017 => Credential::compare(request.header("secret"), &credentials.identity_header),
        Source::Imds | Source::CloudShell | Source::ManagedIdentityFederation => {
            Credential::compare(request.header("metadata"), "true")
        }
        Source::GithubActions => Credential::compare(request.bearer(), &credentials.github_token),
        Source::GoogleCloud => Credential::compare(request.header("metadata-flavor"), "Google"),
        Source::AzureArc => arc::credential(request, issuer.emulator),
        Source::ClientSecret => {
            let form = request.form().unwrap_or_default();
            Credential::compare(find(&form, "client_secret"), &credentials.client_secret)
        }
        Source::WorkloadIdentity => {
            let form = request.form().unwrap_or_default();
            let client_id = find(&form, "client_id").unwrap_or_default();
            match find(&form, "client_assertion") {
                None => Credential::Absent,
                Some(text) if assertion::check(text, client_id, issuer, now).is_ok() => Credential::Right,
                Some(_) => Credential::Wrong,
            }
        }
    }
}

/// Issues tokens. Copies the settings and the keys, so that slow signing does not hold the lock.
pub(crate) struct Issuer<'a> {
    emulator: &'a Emulator,
    pub(crate) settings: Settings,
    published_keys: PublishedKeys,
    assertion_keys: PublishedKeys,
}

impl<'a> Issuer<'a> {
    pub(crate) fn new(emulator: &'a Emulator) -> Self {
        let state = emulator.lock();
        Self {
            emulator,
            settings: state.settings.clone(),
            published_keys: state.published_keys,
            assertion_keys: state.assertion_keys,
        }
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

    /// Issues a client assertion with these claims.
    pub(crate) fn issue_assertion(&self, claims: &Value) -> String {
        let key = self.assertion_keys.current();
        let assertion = key.token(&key.header(), claims);
        self.emulator.lock().tokens.record_assertion(assertion.clone());
        assertion
    }
}
