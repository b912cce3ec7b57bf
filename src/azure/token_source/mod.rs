//! Where tokens come from: one of five sources, chosen once, one file each.
//!
//! Each source makes its request from what the settings say. The answers are alike enough to be read in one place,
//! [`token`] for those that have a token and [`refusal`] for those that do not.

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
use super::{Answer, Call};
use crate::azure::CallError;
use crate::error::{Error, FailureKind, Service};
use crate::model::Moment;

/// The place that tokens come from.
///
/// ```
/// fn look(source: &keyvault_gateway::azure::token_source::TokenSource) -> String {
///     format!("{} {source:?}", source.name())
/// }
/// ```
///
/// Other modules cannot read its credential, lead it to another address, or ask it:
///
/// ```compile_fail,E0616
/// fn secret(source: &keyvault_gateway::azure::token_source::TokenSource) { if let keyvault_gateway::azure::token_source::TokenSource::AppService2019(it) = source { it.header.expose(); } }
/// ```
/// ```compile_fail,E0616
/// fn lead(source: &mut keyvault_gateway::azure::token_source::TokenSource, to: keyvault_gateway::azure::Endpoint) { if let keyvault_gateway::azure::token_source::TokenSource::AppService2019(it) = source { it.endpoint = to; } }
/// ```
/// ```compile_fail,E0616
/// fn secret(source: &keyvault_gateway::azure::token_source::TokenSource) { if let keyvault_gateway::azure::token_source::TokenSource::AppService2017(it) = source { it.secret.expose(); } }
/// ```
/// ```compile_fail,E0616
/// fn lead(source: &mut keyvault_gateway::azure::token_source::TokenSource, to: keyvault_gateway::azure::Endpoint) { if let keyvault_gateway::azure::token_source::TokenSource::AppService2017(it) = source { it.endpoint = to; } }
/// ```
/// ```compile_fail,E0616
/// fn secret(source: &keyvault_gateway::azure::token_source::TokenSource) { if let keyvault_gateway::azure::token_source::TokenSource::ClientSecret(it) = source { it.client_secret.expose(); } }
/// ```
/// ```compile_fail,E0616
/// fn lead(source: &mut keyvault_gateway::azure::token_source::TokenSource, to: keyvault_gateway::azure::Endpoint) { if let keyvault_gateway::azure::token_source::TokenSource::ClientSecret(it) = source { it.authority = to; } }
/// ```
/// ```compile_fail,E0616
/// fn lead(source: &mut keyvault_gateway::azure::token_source::TokenSource, to: keyvault_gateway::azure::Endpoint) { if let keyvault_gateway::azure::token_source::TokenSource::CloudShell(it) = source { it.endpoint = to; } }
/// ```
/// ```compile_fail,E0616
/// fn lead(source: &mut keyvault_gateway::azure::token_source::TokenSource, to: keyvault_gateway::azure::Endpoint) { if let keyvault_gateway::azure::token_source::TokenSource::Imds(it) = source { it.origin = to; } }
/// ```
/// ```compile_fail,E0624
/// fn ask(source: &keyvault_gateway::azure::token_source::TokenSource, vault: &keyvault_gateway::azure::vault::Vault) { source.call(vault.audience()); }
/// ```
/// ```compile_fail,E0624
/// fn receive(source: &keyvault_gateway::azure::token_source::TokenSource, answer: keyvault_gateway::azure::Answer, now: keyvault_gateway::model::Moment) -> Option<keyvault_gateway::azure::token_source::Token> { source.parse_token(Ok(answer), now, 0).ok() }
/// ```
#[derive(Debug)]
pub enum TokenSource {
    /// App Service, Functions and Container Apps, protocol 2019-08-01.
    AppService2019(app_service_2019::AppService2019),
    /// App Service and Functions, protocol 2017-09-01; Azure Machine Learning speaks it, too.
    AppService2017(app_service_2017::AppService2017),
    /// Cloud Shell.
    CloudShell(cloud_shell::CloudShell),
    /// Entra ID with a client secret, for use outside Azure.
    ClientSecret(client_secret::ClientSecret),
    /// The Instance Metadata Service of virtual machines and AKS nodes.
    Imds(imds::Imds),
}

impl TokenSource {
    /// Its name, as `IDENTITY_SOURCE` has it and the log shows it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AppService2019(_) => "app-service-2019",
            Self::AppService2017(_) => "app-service-2017",
            Self::CloudShell(_) => "cloud-shell",
            Self::ClientSecret(_) => "client-secret",
            Self::Imds(_) => "imds",
        }
    }

    /// The variables of other places that are set, and were not used as they are not all that such a place has. It is what an operator
    /// needs to know where the last source, the metadata service, has no token.
    pub fn unused(&self) -> &[&'static str] {
        match self {
            Self::Imds(source) => &source.unused,
            Self::AppService2019(_)
            | Self::AppService2017(_)
            | Self::CloudShell(_)
            | Self::ClientSecret(_) => &[],
        }
    }

    /// Asks for a token for `audience`.
    pub(crate) fn call(&self, audience: &Audience) -> Call {
        match self {
            Self::AppService2019(source) => source.call(audience),
            Self::AppService2017(source) => source.call(audience),
            Self::CloudShell(source) => source.call(audience),
            Self::ClientSecret(source) => source.call(audience),
            Self::Imds(source) => source.call(audience),
        }
    }

    /// What the source's answer means; it came at `now`, when the calendar clock said `unix_time`.
    pub(crate) fn parse_token(
        &self,
        answer: Result<Answer, CallError>,
        now: Moment,
        unix_time: u64,
    ) -> Result<Token, Error> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(CallError::TimedOut) => return Err(Error::DeadlineExceeded),
            Err(CallError::Lost) => {
                return Err(Error::upstream(Service::TokenSource, FailureKind::Unreachable, None));
            }
            Err(CallError::NotAllowed) => return Err(Error::CallNotAllowed),
            Err(CallError::TooLarge) => return Err(Error::TokenSourceUnusable),
        };
        match answer.status() {
            200 => Token::parse(&answer, now, unix_time).ok_or(Error::TokenSourceUnusable),
            _ => Err(token_error::error(&answer, self, unix_time)),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
