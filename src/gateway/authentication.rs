//! Identifies the caller of a request, by its API key or by its token.

use super::Gateway;
use crate::auth::jwt::Jwt;
use crate::auth::{Credentials, Principal};
use crate::config::Config;
use crate::error::{AuthFailure, Error};
use crate::host::Host;
use crate::http::request::Head;
use crate::jwks::Verified;
use crate::telemetry::context::RequestContext;

/// Who the caller is, as far as that takes no call.
pub(super) enum Identity<'a, 'h> {
    Known(Principal<'a>),
    /// The token has not been verified before.
    Unverified(Jwt<'h>),
}

impl<H: Host> Gateway<H> {
    /// Identifies the caller, before anything that costs anything. A caller with a valid credential is never
    /// affected by the failures of others.
    pub(super) async fn authenticate<'a>(
        &self,
        config: &'a Config,
        head: &Head,
        context: &RequestContext<'_>,
    ) -> Result<Principal<'a>, Error> {
        let jwt = match self.identify(config, head)? {
            Identity::Known(principal) => return Ok(principal),
            Identity::Unverified(jwt) => jwt,
        };
        let verified = self.verifier.verify(&self.client(config, context), &jwt).await;
        match (verified, config.callers.anonymous()) {
            (Ok(verified), _) => self.admit(config, with_token(config, verified)),
            (Err(_), Some(anonymous)) => Ok(anonymous),
            (Err(error), None) => Err(error),
        }
    }

    /// Identifies the caller as far as that takes no call.
    pub(super) fn identify<'a: 'h, 'h>(
        &self,
        config: &'a Config,
        head: &'h Head,
    ) -> Result<Identity<'a, 'h>, Error> {
        let callers = &config.callers;
        let principal = match callers.credentials(&head.headers, head.query())? {
            Credentials::ApiKey(key) => callers.with_key(key.as_ref()).ok_or(AuthFailure::ApiKey),
            Credentials::Token(token) => match self.verifier.verified(&self.host, token) {
                Some(verified) => with_token(config, verified),
                None => match Jwt::parse(token) {
                    Some(jwt) => return Ok(Identity::Unverified(jwt)),
                    None => Err(AuthFailure::NotAToken),
                },
            },
        };
        self.admit(config, principal).map(Identity::Known)
    }

    /// Lets a request without a valid credential be anonymous, if the settings allow that.
    fn admit<'a>(
        &self,
        config: &'a Config,
        principal: Result<Principal<'a>, AuthFailure>,
    ) -> Result<Principal<'a>, Error> {
        principal.or_else(|reason| {
            let anonymous = config.callers.anonymous();
            anonymous.ok_or_else(|| self.auth_failures.record(reason, self.host.now()))
        })
    }
}

/// The callers that a verified token identifies.
fn with_token(config: &Config, verified: Verified) -> Result<Principal<'_>, AuthFailure> {
    config.callers.with_claims(&*verified?).ok_or(AuthFailure::NoCaller)
}
