//! OIDC issuers whose subjects are callers: clusters of Kubernetes, GitHub, GitLab, Google, SPIFFE.
//!
//! Sources: OpenID Connect Core 1.0, section 3.1.3.7; Kubernetes, "Managing Service Accounts"; SPIFFE,
//! "JWT-SVID".

use std::fmt;
use std::rc::Rc;

use super::claims::{Claims, Identity, Validity};
use super::jwt::{Jwt, Members};
use crate::azure::issuer::JwksSource;
use crate::azure::jwks::SigningKeys;
use crate::env::Lookup;
use crate::error::{AuthFailure, SettingError};
use crate::json::{Json, Object};

/// An issuer, and the audience that its tokens must have.
pub struct OidcIssuer {
    issuer: Rc<str>,
    audience: String,
    source: JwksSource,
}

/// The subjects of one issuer that a caller has.
pub(super) struct Subjects {
    pub(super) issuer: String,
    pub(super) patterns: Vec<SubjectPattern>,
}

/// A pattern of subjects. Subjects are compared with their case.
pub(super) enum SubjectPattern {
    Exactly(String),
    /// Every longer subject that begins with this, which ends in a colon.
    Prefix(String),
}

impl OidcIssuer {
    /// Parses the issuers of `GATEWAY_OIDC`; none if it is not set.
    pub(super) fn parse_all(settings: Lookup<'_>) -> Result<Vec<Self>, SettingError> {
        let Some(text) = settings.text(NAME)? else { return Ok(Vec::new()) };
        let list = Json::parse_body(text.as_bytes());
        let entries = list.as_ref().and_then(Json::as_list).and_then(|list| {
            list.iter().map(|entry| Self::texts_of(entry.as_object()?)).collect::<Option<Vec<_>>>()
        });
        let entries = entries
            .filter(|entries| !entries.is_empty())
            .ok_or(invalid("must be a JSON list of objects with issuer, audience and perhaps jwks_uri"))?;
        if entries.len() > MAX_ISSUERS {
            return Err(invalid("has too many issuers"));
        }
        let mut issuers: Vec<Self> = Vec::new();
        for (issuer, audience, jwks_uri) in entries {
            let parsed = Self::parse(issuer, audience, jwks_uri)?;
            if issuers.iter().any(|known| known.issuer == parsed.issuer) {
                return Err(invalid("must not have the same issuer twice"));
            }
            issuers.push(parsed);
        }
        Ok(issuers)
    }

    /// The issuer, the audience and the `jwks_uri` of an entry without unknown members.
    fn texts_of(object: &Object) -> Option<(&str, &str, Option<&str>)> {
        let is_known = |name| ["issuer", "audience", "jwks_uri"].contains(&name);
        object.members().all(|(name, _)| is_known(name)).then_some(())?;
        let jwks_uri = if object.has("jwks_uri") { Some(object.get("jwks_uri").as_text()?) } else { None };
        Some((object.get("issuer").as_text()?, object.get("audience").as_text()?, jwks_uri))
    }

    fn parse(issuer: &str, audience: &str, jwks_uri: Option<&str>) -> Result<Self, SettingError> {
        let source = JwksSource::of_issuer(issuer, jwks_uri).ok_or(invalid(
            "must have https addresses, or http on loopback, in issuer and jwks_uri, and no query in issuer",
        ))?;
        let is_text = !audience.is_empty() && audience.bytes().all(|byte| byte.is_ascii_graphic());
        // A cluster's own audience is its issuer, unless it has another one (kube-apiserver,
        // `--api-audiences`).
        let is_issuer = audience.trim_end_matches('/') == issuer.trim_end_matches('/');
        let is_elsewhere = is_issuer || ELSEWHERE.iter().any(|start| audience.starts_with(start));
        if !is_text || is_elsewhere {
            return Err(invalid(
                "must have audiences of the gateway's own, as others accept tokens for the issuer, a cluster or \
                 Entra ID",
            ));
        }
        Ok(Self { issuer: issuer.into(), audience: audience.to_owned(), source })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn audience(&self) -> &str {
        &self.audience
    }

    pub(super) const fn source(&self) -> &JwksSource {
        &self.source
    }

    /// The claims of `jwt`, which has this issuer, if one of `keys` has signed it and it is valid at
    /// `unix_time`. The signature comes first.
    pub(super) fn claims(
        &self,
        jwt: &Jwt<'_>,
        keys: &SigningKeys,
        unix_time: u64,
    ) -> Result<Claims, AuthFailure> {
        let members = jwt.verify(keys)?;
        if !members.is_only("aud", &self.audience) {
            return Err(AuthFailure::Audience);
        }
        let validity = validity(members).ok_or(AuthFailure::Claims)?;
        validity.check(unix_time)?;
        let subject = members.text("sub").filter(|subject| is_subject(subject)).ok_or(AuthFailure::Claims)?;
        let identity = Identity::Subject { issuer: Rc::clone(&self.issuer), subject: subject.to_owned() };
        Ok(Claims { identity, validity })
    }
}

impl fmt::Debug for OidcIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OidcIssuer(..)")
    }
}

/// When a token is valid. Google and SPIFFE write no `nbf`, so a token without one is valid from its issue.
fn validity(members: &Members) -> Option<Validity> {
    let number = |name| if members.has(name) { members.number(name).map(Some) } else { Some(None) };
    let (not_before, issued) = (number("nbf")?, number("iat")?);
    Some(Validity { not_before: not_before.or(issued).unwrap_or_default(), expires: members.number("exp")? })
}

impl Subjects {
    /// Whether a token of `issuer` for `subject` is one of these.
    pub(super) fn contain(&self, issuer: &str, subject: &str) -> bool {
        self.issuer == issuer && self.patterns.iter().any(|pattern| pattern.matches(subject))
    }
}

impl SubjectPattern {
    /// Parses a subject, or a prefix of two parts or more with `:*` behind it. A prefix of one part would be
    /// every repository of GitHub (`repo:*`), or every service account and more (`system:*`).
    pub(super) fn parse(text: &str) -> Option<Self> {
        let pattern = match text.strip_suffix(":*") {
            Some(prefix)
                if prefix.split(':').count() > 1 && prefix.split(':').all(|part| !part.is_empty()) =>
            {
                Self::Prefix(format!("{prefix}:"))
            }
            Some(_) => return None,
            None => Self::Exactly(text.to_owned()),
        };
        let (Self::Exactly(subject) | Self::Prefix(subject)) = &pattern;
        (is_subject(subject) && !subject.contains('*')).then_some(pattern)
    }

    fn matches(&self, subject: &str) -> bool {
        match self {
            Self::Exactly(exact) => exact == subject,
            Self::Prefix(prefix) => {
                subject.strip_prefix(prefix.as_str()).is_some_and(|rest| !rest.is_empty())
            }
        }
    }
}

/// Whether `text` can be a subject: it is visible ASCII with spaces perhaps, as the names of GitLab's
/// branches and GitHub's environments have them.
fn is_subject(text: &str) -> bool {
    (1..=MAX_SUBJECT).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

const fn invalid(should: &'static str) -> SettingError {
    SettingError { name: NAME, should }
}

const NAME: &str = "GATEWAY_OIDC";

/// The start of audiences for which others accept tokens, so that the gateway could use its callers' tokens
/// there: those of Entra ID's token exchange in each cloud, and the usual name of a cluster's API server.
const ELSEWHERE: [&str; 2] = ["api://AzureADTokenExchange", "https://kubernetes.default.svc"];

/// More issuers than a platform has. The gateway keeps a JWKS of each.
const MAX_ISSUERS: usize = 16;

/// The longest subject, in bytes: a SPIFFE ID (SPIFFE, "The SPIFFE Identity and Verifiable Identity
/// Document", section 2.3). OpenID Connect allows 255.
const MAX_SUBJECT: usize = 2048;
