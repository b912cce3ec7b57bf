//! Entra ID with the token of another issuer, an *assertion*: workload identity, and others that federate.
//!
//! Sources: Microsoft, "Microsoft identity platform and the OAuth 2.0 client credentials flow", section "Third
//! case: Access token request with a federated credential"; "Configure an application to trust a managed
//! identity"; GitHub, "OpenID Connect reference", section "Methods for requesting the OIDC token"; Google
//! Cloud, "Verify the identity of VM instances", section "Obtain the VM identity token".

use super::{Token, TokenSource};
use crate::azure::vault::Audience;
use crate::azure::{Answer, Call, Endpoint};
use crate::error::{Error, Service};
use crate::model::{Moment, Redacted};

/// An application of Entra ID, or a managed identity, that trusts the assertions of another issuer.
#[derive(Debug)]
pub struct Federated {
    pub(super) authority: Endpoint,
    pub(super) tenant: String,
    pub(super) client_id: String,
    pub(super) assertion: AssertionSource,
}

/// Where the assertion comes from.
#[derive(Debug)]
pub(super) enum AssertionSource {
    /// Workload identity: the platform renews the token in this file.
    File(String),
    /// The answer to a call.
    Call(AssertionCall),
}

/// A service that gives assertions for Entra ID.
#[derive(Debug)]
pub(crate) struct AssertionCall {
    pub(super) issuer: Issuer,
    /// The audience of Entra ID.
    pub(super) audience: Audience,
}

/// The service itself.
#[derive(Debug)]
pub(super) enum Issuer {
    /// A managed identity, whose token signs in to an application, possibly of another tenant.
    ManagedIdentity(Box<TokenSource>),
    /// GitHub Actions: the address and the token are those of a job.
    GithubActions { endpoint: Endpoint, token: Redacted },
    /// The metadata service of Google Cloud, at this origin.
    GoogleCloud(Endpoint),
}

impl AssertionCall {
    pub(super) fn endpoint(&self) -> &Endpoint {
        match &self.issuer {
            Issuer::ManagedIdentity(source) => source.endpoint(),
            Issuer::GithubActions { endpoint, .. } | Issuer::GoogleCloud(endpoint) => endpoint,
        }
    }

    /// The managed identity whose token is the assertion, if it is one.
    pub(super) fn managed(&self) -> Option<&TokenSource> {
        if let Issuer::ManagedIdentity(source) = &self.issuer { Some(source) } else { None }
    }

    /// The request for an assertion.
    pub(super) fn call(&self) -> Call {
        let audience = [("audience", self.audience.as_str())];
        match &self.issuer {
            Issuer::ManagedIdentity(source) => source.call(&self.audience, ""),
            Issuer::GithubActions { endpoint, token } => {
                let credential = Redacted::new(format!("bearer {}", token.expose()));
                Call::get(Service::TokenSource, endpoint.with_query(&audience))
                    .header("authorization", credential)
            }
            Issuer::GoogleCloud(origin) => {
                let endpoint = origin.at(GOOGLE_PATH.to_owned()).with_query(&audience);
                Call::get(Service::TokenSource, endpoint)
                    .header("metadata-flavor", Redacted::new("Google".to_owned()))
            }
        }
    }

    /// Parses the assertion in an answer with status 200.
    pub(super) fn parse(&self, answer: &Answer, now: Moment, unix_time: u64) -> Result<Redacted, Error> {
        let text = match &self.issuer {
            Issuer::ManagedIdentity(_) => {
                let token = Token::parse(answer, now, unix_time);
                token.map(|token| Redacted::new(token.expose().to_owned()))
            }
            Issuer::GithubActions { .. } => answer.json().and_then(|mut body| body.take_text("value")),
            Issuer::GoogleCloud(_) => answer.text().map(|text| Redacted::new(text.trim().to_owned())),
        };
        text.filter(|text| is_assertion(text.expose())).ok_or(Error::TokenSourceUnusable)
    }
}

impl Federated {
    /// The name of the token source.
    pub(super) const fn name(&self) -> &'static str {
        match &self.assertion {
            AssertionSource::File(_) => "workload-identity",
            AssertionSource::Call(call) => match call.issuer {
                Issuer::ManagedIdentity(_) => "managed-identity-federation",
                Issuer::GithubActions { .. } => "github-actions",
                Issuer::GoogleCloud(_) => "google-cloud",
            },
        }
    }

    /// The request for a token, with the assertion.
    pub(super) fn call(&self, audience: &Audience, assertion: &str) -> Call {
        // See `ClientSecret::call`: the text never moves and leaves no copy behind.
        let parts = [&self.client_id, assertion, audience.as_str(), ASSERTION_TYPE];
        let length = parts.iter().map(|part| part.len().saturating_mul(3)).fold(150, usize::saturating_add);
        let form = form_urlencoded::Serializer::new(String::with_capacity(length))
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_id", &self.client_id)
            .append_pair("client_assertion_type", ASSERTION_TYPE)
            .append_pair("client_assertion", assertion)
            .append_pair("scope", &format!("{}/.default", audience.as_str()))
            .finish();
        let endpoint = self.authority.at(format!("/{}/oauth2/v2.0/token", self.tenant));
        Call::post_form(Service::TokenSource, endpoint, form)
    }
}

/// Whether `text` has the characters of a JWT (RFC 7515, section 3.1), and no more of them than a request
/// should have.
pub(super) fn is_assertion(text: &str) -> bool {
    (1..=MAX_ASSERTION).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// A token of a Kubernetes service account has about one KiB.
const MAX_ASSERTION: usize = 16 * 1024;

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const GOOGLE_PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/identity";
