//! Gets a token from its source, in one call or two.

use std::time::Duration;

use super::Client;
use super::retry_budget::RetryBudget;
use crate::azure::token_source::{Proof, Token};
use crate::error::{Code, Error, Failure, TokenFileError, TokenRefusal};
use crate::host::Host;
use crate::model::Redacted;

impl<H: Host> Client<'_, H> {
    /// Fetches a token: first the proof, if the source needs one, and then the token.
    ///
    /// Two refusals of a proof are tried again, with a new proof. A federated credential spreads slowly, and
    /// Entra ID sometimes does not find one that has been in place for weeks. And a proof that has expired
    /// may have been renewed just then.
    pub(super) async fn sign_in(&self, budget: RetryBudget) -> Result<Token, Failure> {
        let source = &self.config.token_source;
        let (mut tries, mut refused): (u32, Option<(Redacted, Failure)>) = (0, None);
        loop {
            let proof = self.proof(budget).await?;
            if let Some((expired, failure)) = refused.take()
                && expired.expose() == proof.expose()
            {
                return Err(failure);
            }
            let call = || source.call(self.config.vault.audience(), proof.expose());
            let parse =
                |answer| source.parse_token(answer, proof.expose(), self.host.now(), self.host.unix_time());
            let failure = match self.call(&call, self.token_source(), parse, &mut |_| false, budget).await {
                Ok((token, _)) => return Ok(token),
                Err(failure) => failure,
            };
            match &failure.error {
                Error::TokenSourceRefused { reason: TokenRefusal::Trust, code: Some(code), .. }
                    if tries < MAX_TRUST_RETRIES && SPREADING.contains(&code.as_str()) =>
                {
                    let delay = Duration::from_secs(1 << tries);
                    let patient = RetryBudget { retries: budget.signs_in_again, ..budget };
                    // The refusal, of which other requests may learn, says more than that there was no time.
                    // It may be spurious, so those with more time than this one do not share it.
                    if self.back_off(delay, patient, failure.error.clone()).await.is_err() {
                        return Err(Failure { is_local: !budget.is_whole(), ..failure });
                    }
                }
                Error::TokenSourceRefused { code, .. }
                    if tries == 0 && code.as_ref().map(Code::as_str) == Some(EXPIRED) =>
                {
                    refused = Some((proof, failure));
                }
                _ => return Err(failure),
            }
            tries = tries.saturating_add(1);
        }
    }

    /// The text of the source's proof, which is empty if it needs none.
    async fn proof(&self, budget: RetryBudget) -> Result<Redacted, Failure> {
        let (source, audience) = (&self.config.token_source, self.config.vault.audience());
        let proof = match source.proof(audience) {
            Ok(proof) => proof,
            Err(first) => {
                let parse = |answer| source.parse_proof(answer, self.host.now(), self.host.unix_time());
                self.call(&|| first.call(), self.token_source(), parse, &mut |_| false, budget).await?.0
            }
        };
        match proof {
            Proof::Unneeded => Ok(Redacted::new(String::new())),
            Proof::Assertion(text) => Ok(text),
            Proof::File(path) => {
                let text = self.host.read_token_file(&path).map_err(Error::TokenFile)?;
                // It goes into a form or a header, so the reader's word is not enough.
                if source.takes(text.expose()) {
                    Ok(text)
                } else {
                    Err(Error::TokenFile(TokenFileError::NotAToken).into())
                }
            }
        }
    }
}

/// The codes for a federated credential that may not have spread yet (Microsoft, "Important considerations
/// and restrictions for federated identity credentials"; the last one also where it has been in place for a
/// month: kedacore/keda issue 8152).
const SPREADING: [&str; 3] = ["AADSTS70021", "AADSTS700211", "AADSTS700213"];

/// The code for an assertion outside the time in which it is valid.
const EXPIRED: &str = "AADSTS700024";

/// Waits of one, two and four seconds, if the deadline leaves them.
const MAX_TRUST_RETRIES: u32 = 3;
