//! Token sources: one of five, selected once, in one file each.
//!
//! Each source makes its request from the settings. The answers are so similar that all are parsed in one
//! place: [`token`] for those with a token, and [`token_error`] for the others.

mod app_service_2017;
mod app_service_2019;
mod client_secret;
mod cloud_shell;
mod imds;

mod detect;
mod selector;
mod token;
mod token_error;

pub use selector::Selector;
pub use token::Token;

use super::vault::Audience;
use super::{Answer, Call, CallError, Endpoint};
use crate::error::{Error, Service};
use crate::model::Moment;

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
/// ```compile_fail,E0624
/// # use keyvault_gateway::azure::{token_source::TokenSource, vault::Vault};
/// fn call(source: &TokenSource, vault: &Vault) { source.call(vault.audience()); }
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
    /// The Instance Metadata Service of virtual machines and AKS nodes.
    Imds(imds::Imds),
}

impl TokenSource {
    /// The name, as in `IDENTITY_SOURCE` and in the log.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AppService2019(_) => "app-service-2019",
            Self::AppService2017(_) => "app-service-2017",
            Self::CloudShell(_) => "cloud-shell",
            Self::ClientSecret(_) => "client-secret",
            Self::Imds(_) => "imds",
        }
    }

    /// The variables that point to other places and are set, but not completely, so that their places were
    /// not detected. The log and `/readyz` name them where the last source, IMDS, has no token.
    pub fn unused(&self) -> &[&'static str] {
        match self {
            Self::Imds(source) => &source.unused,
            Self::AppService2019(_)
            | Self::AppService2017(_)
            | Self::CloudShell(_)
            | Self::ClientSecret(_) => &[],
        }
    }

    /// The address that tokens are requested from, without the query of the request.
    pub const fn endpoint(&self) -> &Endpoint {
        match self {
            Self::AppService2019(source) => &source.endpoint,
            Self::AppService2017(source) => &source.endpoint,
            Self::CloudShell(source) => &source.endpoint,
            Self::ClientSecret(source) => &source.authority,
            Self::Imds(source) => &source.origin,
        }
    }

    /// The request for a token for `audience`.
    pub(crate) fn call(&self, audience: &Audience) -> Call {
        match self {
            Self::AppService2019(source) => source.call(audience),
            Self::AppService2017(source) => source.call(audience),
            Self::CloudShell(source) => source.call(audience),
            Self::ClientSecret(source) => source.call(audience),
            Self::Imds(source) => source.call(audience),
        }
    }

    /// Parses the source's answer, which came at `now`, when the calendar clock said `unix_time`.
    pub(crate) fn parse_token(
        &self,
        answer: Result<Answer, CallError>,
        now: Moment,
        unix_time: u64,
    ) -> Result<Token, Error> {
        let answer = Answer::from_call(Service::TokenSource, answer, unix_time)?;
        match answer.status() {
            200 => Token::parse(&answer, now, unix_time).ok_or(Error::TokenSourceUnusable),
            _ => Err(token_error::error(&answer, self, unix_time)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
