//! Token sources: one of them, selected once.
//!
//! Each source makes its request from the settings; some need a [`Proof`] for it that they get first. The
//! answers are so similar that all are parsed in one place: [`token`] for those with a token, and
//! [`token_error`] for the others.

mod app_service_2017;
mod app_service_2019;
mod azure_arc;
mod client_secret;
mod cloud_shell;
mod federated;
mod imds;

mod claims;
mod detect;
mod selector;
mod token;
mod token_error;

pub use selector::Selector;
pub use token::Token;

use super::vault::Audience;
use super::{Answer, Call, CallError, Endpoint};
use crate::error::{Error, Service, TokenRefusal};
use crate::model::{Moment, Redacted};
use federated::{AssertionCall, AssertionSource};

/// The source of access tokens for the vault.
///
/// ```
/// # use keyvault_gateway::azure::token_source::TokenSource;
/// fn describe(source: &TokenSource) -> String { format!("{} {source:?}", source.name()) }
/// ```
///
/// Other modules cannot read its credential, change its address, or make a call:
///
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::token_source::TokenSource;
/// fn secret(source: &TokenSource) {
///     if let TokenSource::AppService2019(source) = source { source.header.expose(); }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Endpoint, token_source::TokenSource};
/// fn redirect(source: &mut TokenSource, elsewhere: Endpoint) {
///     if let TokenSource::AppService2019(source) = source { source.endpoint = elsewhere; }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::token_source::TokenSource;
/// fn secret(source: &TokenSource) {
///     if let TokenSource::AppService2017(source) = source { source.secret.expose(); }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Endpoint, token_source::TokenSource};
/// fn redirect(source: &mut TokenSource, elsewhere: Endpoint) {
///     if let TokenSource::AppService2017(source) = source { source.endpoint = elsewhere; }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::token_source::TokenSource;
/// fn secret(source: &TokenSource) {
///     if let TokenSource::ClientSecret(source) = source { source.client_secret.expose(); }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Endpoint, token_source::TokenSource};
/// fn redirect(source: &mut TokenSource, elsewhere: Endpoint) {
///     if let TokenSource::ClientSecret(source) = source { source.authority = elsewhere; }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Endpoint, token_source::TokenSource};
/// fn redirect(source: &mut TokenSource, elsewhere: Endpoint) {
///     if let TokenSource::CloudShell(source) = source { source.endpoint = elsewhere; }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Endpoint, token_source::TokenSource};
/// fn redirect(source: &mut TokenSource, elsewhere: Endpoint) {
///     if let TokenSource::Imds(source) = source { source.origin = elsewhere; }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Endpoint, token_source::TokenSource};
/// fn redirect(source: &mut TokenSource, elsewhere: Endpoint) {
///     if let TokenSource::Federated(source) = source { source.authority = elsewhere; }
/// }
/// ```
/// ```compile_fail,E0616
/// # use keyvault_gateway::azure::{Endpoint, token_source::TokenSource};
/// fn redirect(source: &mut TokenSource, elsewhere: Endpoint) {
///     if let TokenSource::AzureArc(source) = source { source.endpoint = elsewhere; }
/// }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::azure::{token_source::TokenSource, vault::Vault};
/// fn call(source: &TokenSource, vault: &Vault) { source.call(vault.audience(), ""); }
/// ```
/// ```compile_fail,E0624
/// # use keyvault_gateway::{azure::{Answer, token_source::{Token, TokenSource}}, model::Moment};
/// fn parse(source: &TokenSource, answer: Answer, now: Moment) -> Option<Token> {
///     source.parse_token(Ok(answer), now, 0).ok()
/// }
/// ```
#[derive(Debug)]
pub enum TokenSource {
    /// App Service, Functions and Container Apps, protocol 2019-08-01.
    AppService2019(app_service_2019::AppService2019),
    /// App Service and Functions, protocol 2017-09-01; also Azure Machine Learning.
    AppService2017(app_service_2017::AppService2017),
    /// Cloud Shell, with the user's identity.
    CloudShell(cloud_shell::CloudShell),
    /// Entra ID with a client secret, for use outside Azure.
    ClientSecret(client_secret::ClientSecret),
    /// Entra ID with the token of another issuer: workload identity and others.
    Federated(federated::Federated),
    /// The agent of a server with Azure Arc.
    AzureArc(azure_arc::AzureArc),
    /// The Instance Metadata Service of virtual machines and AKS nodes.
    Imds(imds::Imds),
}

/// What a request for a token needs besides the settings.
#[derive(Debug)]
pub(crate) enum Proof {
    /// Nothing: the settings have the credential, or the place needs none.
    Unneeded,
    /// The content of this file: an assertion, or a key of Azure Arc.
    File(String),
    /// This assertion.
    Assertion(Redacted),
}

/// A call whose answer has the [`Proof`], or names it.
#[derive(Clone, Copy)]
pub(crate) enum ProofCall<'a> {
    Assertion(&'a AssertionCall),
    /// For a token for this audience.
    ArcKey(&'a azure_arc::AzureArc, &'a Audience),
}

impl ProofCall<'_> {
    pub(crate) fn call(self) -> Call {
        match self {
            Self::Assertion(assertion) => assertion.call(),
            Self::ArcKey(agent, audience) => agent.call(audience, ""),
        }
    }
}

impl TokenSource {
    /// The name, as in `IDENTITY_SOURCE` and in the log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AppService2019(_) => "app-service-2019",
            Self::AppService2017(_) => "app-service-2017",
            Self::CloudShell(_) => "cloud-shell",
            Self::ClientSecret(_) => "client-secret",
            Self::Federated(source) => source.name(),
            Self::AzureArc(_) => "azure-arc",
            Self::Imds(_) => "imds",
        }
    }

    /// The variables that point to other places and are set, but not completely, so that their places were
    /// not detected. The log and `/readyz` name them where the last source, IMDS, has no token.
    pub fn unused(&self) -> &[&'static str] {
        if let Self::Imds(source) = self { &source.unused } else { &[] }
    }

    /// The file with the assertion, a path in the container, if the source has one.
    pub fn token_file(&self) -> Option<&str> {
        match self.assertion() {
            Some(AssertionSource::File(path)) => Some(path),
            _ => None,
        }
    }

    const fn assertion(&self) -> Option<&AssertionSource> {
        if let Self::Federated(source) = self { Some(&source.assertion) } else { None }
    }

    /// The address that tokens are requested from, without the query of the request.
    pub const fn endpoint(&self) -> &Endpoint {
        match self {
            Self::AppService2019(source) => &source.endpoint,
            Self::AppService2017(source) => &source.endpoint,
            Self::CloudShell(source) => &source.endpoint,
            Self::ClientSecret(source) => &source.authority,
            Self::Federated(source) => &source.authority,
            Self::AzureArc(source) => &source.endpoint,
            Self::Imds(source) => &source.origin,
        }
    }

    /// The address that an assertion is requested from, if the source needs one.
    pub fn assertion_endpoint(&self) -> Option<&Endpoint> {
        match self.assertion() {
            Some(AssertionSource::Call(call)) => Some(call.endpoint()),
            _ => None,
        }
    }

    /// The proof that a token needs, or the call that leads to it.
    pub(crate) fn proof<'a>(&'a self, audience: &'a Audience) -> Result<Proof, ProofCall<'a>> {
        match (self, self.assertion()) {
            (_, Some(AssertionSource::File(path))) => Ok(Proof::File(path.clone())),
            (_, Some(AssertionSource::Call(call))) => Err(ProofCall::Assertion(call)),
            (Self::AzureArc(agent), _) => Err(ProofCall::ArcKey(agent, audience)),
            _ => Ok(Proof::Unneeded),
        }
    }

    /// Parses the answer to the call of [`proof`](Self::proof), which came at `now`, when the calendar clock
    /// said `unix_time`.
    pub(crate) fn parse_proof(
        &self,
        answer: Result<Answer, CallError>,
        now: Moment,
        unix_time: u64,
    ) -> Result<Proof, Error> {
        let answer = Answer::from_call(Service::TokenSource, answer, unix_time)?;
        match (self, self.assertion(), answer.status()) {
            (Self::AzureArc(_), _, 401) => azure_arc::AzureArc::parse_file_name(&answer).map(Proof::File),
            (_, Some(AssertionSource::Call(call)), 200) => {
                call.parse(&answer, now, unix_time).map(Proof::Assertion)
            }
            (_, Some(AssertionSource::Call(call)), _) => {
                Err(token_error::error(&answer, call.managed().unwrap_or(self), unix_time))
            }
            _ => Err(token_error::error(&answer, self, unix_time)),
        }
    }

    /// Whether `text`, which a reader took out of a file, may be the proof: an assertion, or a key of Azure
    /// Arc.
    pub(crate) fn takes(&self, text: &str) -> bool {
        match self {
            Self::AzureArc(_) => azure_arc::is_key(text),
            _ => federated::is_assertion(text),
        }
    }

    /// The request for a token for `audience`. The text of a proof comes with it.
    pub(crate) fn call(&self, audience: &Audience, proof: &str) -> Call {
        match self {
            Self::AppService2019(source) => source.call(audience),
            Self::AppService2017(source) => source.call(audience),
            Self::CloudShell(source) => source.call(audience),
            Self::ClientSecret(source) => source.call(audience),
            Self::Federated(source) => source.call(audience, proof),
            Self::AzureArc(source) => source.call(audience, proof),
            Self::Imds(source) => source.call(audience),
        }
    }

    /// Parses the source's answer, which came at `now`, when the calendar clock said `unix_time`. The log
    /// gets what `proof` says of itself if that is what was refused.
    pub(crate) fn parse_token(
        &self,
        answer: Result<Answer, CallError>,
        proof: &str,
        now: Moment,
        unix_time: u64,
    ) -> Result<Token, Error> {
        let answer = Answer::from_call(Service::TokenSource, answer, unix_time)?;
        if answer.status() == 200 {
            return Token::parse(&answer, now, unix_time).ok_or(Error::TokenSourceUnusable);
        }
        let mut error = token_error::error(&answer, self, unix_time);
        if let Error::TokenSourceRefused { reason: TokenRefusal::Trust, claims: found, .. } = &mut error {
            *found = claims::parse(proof).map(Box::new);
        }
        Err(error)
    }
}

#[cfg(test)]
mod federation_tests;
#[cfg(test)]
pub(super) mod tests;
