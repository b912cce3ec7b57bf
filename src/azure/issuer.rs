//! Where the issuers of callers' tokens publish their JWKS: the tenant of Entra ID, and OIDC issuers.
//!
//! A call to an issuer carries nothing of a caller, and no credential.
//!
//! Sources: Microsoft, "Access tokens in the Microsoft identity platform", section "Validate tokens"; OpenID
//! Connect Discovery 1.0, section 4.

use std::fmt;

use super::vault::Vault;
use super::{Answer, Call, CallError, Endpoint, cloud};
use crate::env::Lookup;
use crate::error::{Error, Service, SettingError};

/// Where an issuer publishes its JWKS.
#[derive(Debug)]
pub enum JwksSource {
    /// At an address that the settings determine.
    At(JwksEndpoint),
    /// At the address that its configuration names.
    Discovered(Discovery),
}

/// The address of a JWKS.
#[derive(Clone)]
pub struct JwksEndpoint(Endpoint);

/// The configuration of an OIDC issuer.
pub struct Discovery {
    issuer: String,
    configuration: Endpoint,
}

impl JwksSource {
    /// The source of `tenant`, in the cloud of `vault`, and the issuers of the tenant's tokens, in version 1
    /// and in version 2 of tokens.
    pub(crate) fn of_tenant(
        settings: Lookup<'_>,
        vault: &Vault,
        tenant: &str,
    ) -> Result<(Self, [String; 2]), SettingError> {
        let cloud = vault.cloud();
        let endpoint = cloud.authority(settings)?.at(format!("/{tenant}/discovery/v2.0/keys"));
        let issuers =
            [format!("{}/{tenant}/", cloud.issuer_v1), format!("{}/{tenant}/v2.0", cloud.issuer_v2)];
        Ok((Self::At(JwksEndpoint(endpoint)), issuers))
    }

    /// The source of the OIDC issuer `issuer`: `jwks_uri`, or the configuration at the issuer's own address.
    /// Plain http is allowed only for a loopback address, as the keys that verify callers' tokens come from
    /// there.
    pub(crate) fn of_issuer(issuer: &str, jwks_uri: Option<&str>) -> Option<Self> {
        let is_safe = |endpoint: &Endpoint| endpoint.is_tls() || endpoint.is_loopback();
        let address = Endpoint::parse(issuer).filter(is_safe)?;
        if issuer.contains('?') {
            return None;
        }
        match jwks_uri {
            Some(uri) => Endpoint::parse(uri).filter(is_safe).map(JwksEndpoint).map(Self::At),
            None => {
                // The slash at the end of an issuer, which AKS writes, is not doubled (section 4.1).
                let path = address.path_and_query().trim_end_matches('/');
                let configuration = address.at(format!("{path}/.well-known/openid-configuration"));
                Some(Self::Discovered(Discovery { issuer: issuer.to_owned(), configuration }))
            }
        }
    }

    /// The address that is called first. The other one, if there is another, has the same origin.
    pub const fn endpoint(&self) -> &Endpoint {
        match self {
            Self::At(JwksEndpoint(endpoint))
            | Self::Discovered(Discovery { configuration: endpoint, .. }) => endpoint,
        }
    }
}

/// Whether `issuer` is at a host of Entra ID, in any cloud.
pub(crate) fn is_entra(issuer: &str) -> bool {
    Endpoint::parse(issuer).is_some_and(|endpoint| cloud::has_issuer_at(endpoint.host()))
}

impl JwksEndpoint {
    /// The request for the JWKS.
    pub(crate) fn call(&self) -> Call {
        Call::get(Service::Jwks, self.0.clone())
    }
}

impl fmt::Debug for JwksEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwksEndpoint(..)")
    }
}

impl Discovery {
    /// The request for the configuration.
    pub(crate) fn call(&self) -> Call {
        Call::get(Service::Jwks, self.configuration.clone())
    }

    /// Parses the configuration. It must be that of the issuer itself (section 4.3), and its `jwks_uri` must
    /// be at the issuer's origin: only the settings choose another host.
    pub(crate) fn parse(
        &self,
        answer: Result<Answer, CallError>,
        unix_time: u64,
    ) -> Result<JwksEndpoint, Error> {
        let answer = Answer::from_call(Service::Jwks, answer, unix_time)?;
        let document = Some(&answer).filter(|answer| answer.status() == 200).and_then(Answer::json);
        let document = document.ok_or(Error::IssuerUnusable)?;
        let is_own = document.get("issuer").as_text() == Some(&self.issuer);
        let endpoint = document.get("jwks_uri").as_text().and_then(Endpoint::parse);
        let endpoint = endpoint.filter(|endpoint| is_own && endpoint.has_origin_of(&self.configuration));
        // Only the path counts, so that the call has the very authority that a host allows.
        let own = endpoint.map(|endpoint| self.configuration.at(endpoint.path_and_query().to_owned()));
        own.map(JwksEndpoint).ok_or(Error::IssuerUnusable)
    }
}

impl fmt::Debug for Discovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Discovery(..)")
    }
}
