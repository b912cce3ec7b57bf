//! The way of one request: read, noted, met by a fault or not, answered.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use crate::cloud::Place;
use crate::faults::{self, Faults};
use crate::identity::{self, Issuer, Keys};
use crate::journal::Journal;
use crate::refusal::Refused;
use crate::request::Ask;
use crate::signing::Published;
use crate::store::Store;
use crate::tokens::{Tokens, Verdict};
use crate::{
    Body, Credential, Cut, Effect, Emulator, Fault, Kind, Refusal, Settings, control, now, reply, vault,
};

impl Emulator {
    /// Answers one request in process. Its scheme and host decide what it can reach: `https://demo.vault.azure.net`
    /// is a vault, `https://login.microsoftonline.com` Entra, `http://169.254.169.254` IMDS; an address on loopback
    /// is all of them.
    ///
    /// A fault in the connection is the same here as on a socket: a future that does not end, a body that
    /// does not, or a [`Cut`].
    pub async fn answer<B>(&self, request: Request<B>) -> Result<Response<Body>, Cut>
    where
        B: http_body::Body<Data = Bytes>,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let body = match Limited::new(body, LARGEST_REQUEST).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => {
                let refused = Refused::new(413, "RequestEntityTooLarge", "The request is too large.");
                return Ok(refused.answer().map(faults::whole));
            }
            Err(_) => return Err(Cut),
        };
        let Some(ask) = Ask::read(parts, body) else {
            return Ok(reply::empty(StatusCode::BAD_REQUEST).map(faults::whole));
        };
        if ask.kind == Kind::Control {
            return Ok(control::answer(self, &ask).map(faults::whole));
        }

        let (number, fault) = self.lock().arrive(&self.keys, &ask);
        if let Some(fault) = &fault {
            fault.before_headers().await?;
        }
        let truth = self.respond(&ask, fault.as_ref());
        let response = match fault {
            Some(fault) => fault.spoil(truth),
            None => truth.map(faults::whole),
        };
        self.lock().journal.answered(number, response.status().as_u16());
        Ok(response)
    }

    /// What Azure would say, or what the fault has it say.
    ///
    /// Only a vault is answered under the lock: everything else may need a key that has to be made first, and no other
    /// request waits for that.
    fn respond(&self, ask: &Ask, fault: Option<&Fault>) -> Response<Bytes> {
        let effect = fault.map(|fault| &fault.effect);
        match (ask.kind, effect) {
            (Kind::Vault, effect) => self.lock().respond(ask, effect),
            (Kind::Token(_), Some(Effect::RefuseToken(refusal))) => refusal.answer(),
            (Kind::Token(source), Some(Effect::Status(status))) => identity::error(source, status.as_u16()),
            (Kind::Token(source), _) => identity::answer(ask, source, &Issuer::of(self), now()),
            (Kind::Discovery | Kind::SigningKeys, Some(Effect::Status(status))) => {
                identity::entra::error(status.as_u16(), true)
            }
            (Kind::Discovery, _) => identity::entra::configuration(ask),
            (Kind::SigningKeys, _) => {
                let published = self.lock().published;
                identity::entra::signing_keys(ask, published)
            }
            (Kind::Control | Kind::Nothing, effect) => reply::empty(match (effect, ask.place) {
                (Some(Effect::Status(status)), _) => *status,
                (_, Place::Stranger) => StatusCode::MISDIRECTED_REQUEST,
                _ => StatusCode::NOT_FOUND,
            }),
        }
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) tokens: Tokens,
    pub(crate) published: Published,
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
    pub(crate) journal: Journal,
}

impl State {
    /// Writes a request into the journal, and finds its number there and the fault that it meets.
    fn arrive(&mut self, keys: &Keys, ask: &Ask) -> (u64, Option<Fault>) {
        let credential = match ask.kind {
            Kind::Token(source) => identity::credential(ask, source, keys),
            _ => {
                let verdict = |token| self.tokens.check(token, vault::audience(ask, &self.settings), now());
                match ask.bearer().map(verdict) {
                    None => Credential::Absent,
                    Some(Verdict::Good) => Credential::Right,
                    Some(_) => Credential::Wrong,
                }
            }
        };
        let fault = self.faults.take(ask);
        let number = self.journal.arrived(ask, credential, fault.as_ref().map(Fault::name));
        (number, fault)
    }

    fn respond(&mut self, ask: &Ask, effect: Option<&Effect>) -> Response<Bytes> {
        match effect {
            Some(Effect::Refuse(refusal)) => self.refuse(ask, *refusal),
            Some(Effect::Status(status)) => match Refusal::of(*status) {
                Some(refusal) => self.refuse(ask, refusal),
                None => vault::dress(ask, reply::empty(*status)),
            },
            _ => vault::answer(ask, &self.settings, &self.tokens, &mut self.store, now()),
        }
    }

    fn refuse(&self, ask: &Ask, refusal: Refusal) -> Response<Bytes> {
        vault::refuse(ask, &self.settings, &refusal.about(ask.secret().unwrap_or_default()))
    }
}

/// Bytes: a backup of some dozens of versions of the greatest length, or of many that are shorter.
const LARGEST_REQUEST: usize = 1024 * 1024;
