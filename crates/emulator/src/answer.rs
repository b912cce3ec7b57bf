//! Answers one request: parse, record, match a fault, respond.

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::cloud::HostRole;
use crate::faults::{self, Faults};
use crate::identity::arc::ArcKeys;
use crate::identity::{self, Issuer};
use crate::journal::Journal;
use crate::oidc::OidcIssuers;
use crate::refusal::VaultError;
use crate::request::Request;
use crate::signing::PublishedKeys;
use crate::store::Store;
use crate::tokens::{TokenStatus, Tokens};
use crate::{
    Body, Credential, Cut, Effect, Emulator, Fault, Kind, Refusal, Settings, assertions, control, now, oidc,
    response, vault,
};

impl Emulator {
    /// Answers one request in process. The scheme and the host select the service, such as
    /// `https://demo.vault.azure.net`. A loopback address serves all.
    ///
    /// Connection faults appear as they do on a socket: a future or a body that does not end, or a [`Cut`].
    pub async fn answer<B>(&self, request: http::Request<B>) -> Result<Response<Body>, Cut>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let error = VaultError::new(413, "RequestEntityTooLarge", "The request is too large.");
                return Ok(error.response().map(faults::full_body));
            }
            Err(_) => return Err(Cut),
        };
        let Some(request) = Request::parse(parts, body) else {
            return Ok(response::empty(StatusCode::BAD_REQUEST).map(faults::full_body));
        };
        if request.kind == Kind::Control {
            return Ok(control::answer(self, &request).map(faults::full_body));
        }

        let credential = self.credential(&request);
        let (number, fault) = self.lock().record(&request, credential);
        if let Some(fault) = &fault {
            fault.before_headers().await?;
        }
        let unchanged = self.respond(&request, fault.as_ref());
        let response = match fault {
            Some(fault) => fault.apply(unchanged),
            None => unchanged.map(faults::full_body),
        };
        self.lock().journal.record_status(number, response.status().as_u16());
        Ok(response)
    }

    /// Checks the credential in a request, for the journal.
    fn credential(&self, request: &Request) -> Credential {
        if let Kind::Token(source) = request.kind {
            return identity::credential(request, source, &Issuer::new(self), now());
        }
        let state = self.lock();
        let status = |token| state.tokens.check(token, vault::audience(request, &state.settings), now());
        match request.bearer().map(status) {
            None => Credential::Absent,
            Some(TokenStatus::Valid) => Credential::Right,
            Some(_) => Credential::Wrong,
        }
    }

    /// Returns Azure's response, or the refusal that the fault selects.
    ///
    /// Only vault requests hold the lock: the others may generate a signing key, which takes long.
    fn respond(&self, request: &Request, fault: Option<&Fault>) -> Response<Bytes> {
        let effect = fault.map(|fault| &fault.effect);
        match (request.kind, effect) {
            (Kind::Vault, effect) => self.lock().respond(request, effect),
            (Kind::Token(_), Some(Effect::RefuseToken(refusal))) => refusal.response(),
            (Kind::Token(source), Some(Effect::Status(status))) => {
                identity::error_with_status(source, status.as_u16())
            }
            (Kind::Token(source), _) => identity::answer(request, source, &Issuer::new(self), now()),
            (Kind::Discovery | Kind::SigningKeys, Some(Effect::Status(status))) => {
                identity::entra::error_with_status(status.as_u16(), true)
            }
            (Kind::Discovery, _) => identity::entra::configuration(request),
            (Kind::SigningKeys, _) => {
                let keys = self.lock().published_keys;
                identity::entra::jwks(request, keys)
            }
            (Kind::AssertionIssuer | Kind::OidcIssuer, Some(Effect::Status(status))) => {
                response::empty(*status)
            }
            (Kind::OidcIssuer, _) => oidc::document(self, request),
            (Kind::AssertionIssuer, _) => {
                let keys = self.lock().assertion_keys;
                assertions::document(request, keys)
            }
            (Kind::Control | Kind::Nothing, effect) => response::empty(match (effect, request.host_role) {
                (Some(Effect::Status(status)), _) => *status,
                (_, HostRole::Unknown) => StatusCode::MISDIRECTED_REQUEST,
                _ => StatusCode::NOT_FOUND,
            }),
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) tokens: Tokens,
    pub(crate) published_keys: PublishedKeys,
    pub(crate) assertion_keys: PublishedKeys,
    pub(crate) oidc_issuers: OidcIssuers,
    pub(crate) arc_keys: ArcKeys,
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
}

impl State {
    /// Records a request in the journal. Returns its number and the fault that matches it.
    fn record(&mut self, request: &Request, credential: Credential) -> (u64, Option<Fault>) {
        let fault = self.faults.take(request);
        let number = self.journal.record_request(
            request,
            credential,
            fault.as_ref().map(|fault| (&fault.effect).into()),
        );
        (number, fault)
    }

    fn respond(&mut self, request: &Request, effect: Option<&Effect>) -> Response<Bytes> {
        match effect {
            Some(Effect::Refuse(refusal)) => self.refuse(request, *refusal),
            Some(Effect::Status(status)) => match Refusal::of(*status) {
                Some(refusal) => self.refuse(request, refusal),
                None => vault::add_headers(request, response::empty(*status)),
            },
            _ => vault::answer(request, &self.settings, &self.tokens, &mut self.store, now()),
        }
    }

    fn refuse(&self, request: &Request, refusal: Refusal) -> Response<Bytes> {
        vault::error_response(request, &self.settings, &refusal.error(request.secret().unwrap_or_default()))
    }
}

/// Fits the backup of a secret with dozens of versions of maximum length, or with many shorter ones.
const MAX_REQUEST_BYTES: usize = 1024 * 1024;
