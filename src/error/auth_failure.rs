//! Why a request is not authenticated. Only the log tells.

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthFailure {
    /// The request has no API key, or an unknown one.
    ApiKey,
    /// The token is not a JWT as its issuers sign them.
    NotAToken,
    /// No setting names the token's issuer.
    Issuer,
    /// The token's issuer does not publish its key.
    Key,
    /// The key did not make the token's signature.
    Signature,
    /// A claim is missing, or has another type.
    Claims,
    /// The token is for another audience, or for several.
    Audience,
    /// The token of Entra ID is of another tenant.
    Tenant,
    /// The token has expired.
    Expired,
    /// The token is not valid yet.
    NotYetValid,
    /// The token of Entra ID is for a user.
    NotAppOnly,
    /// The token is valid, and identifies no caller.
    NoCaller,
}

impl AuthFailure {
    /// The reason in words for the log.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::ApiKey => "the caller's key or token is missing or wrong",
            Self::NotAToken => "the caller's token is not a JWT signed with RS256 or ES256",
            Self::Issuer => "the caller's token is of an issuer that no setting names",
            Self::Key => "the caller's token has a key that its issuer does not publish",
            Self::Signature => "the caller's token has a wrong signature",
            Self::Claims => "the caller's token lacks a claim, or has one of another type",
            Self::Audience => "the caller's token is for another audience, or for several",
            Self::Tenant => "the caller's token is of another tenant",
            Self::Expired => "the caller's token has expired",
            Self::NotYetValid => "the caller's token is not valid yet",
            Self::NotAppOnly => "the caller's token is not one of an application for itself",
            Self::NoCaller => "the caller's token is valid, and no entry of GATEWAY_CALLERS matches it",
        }
    }
}
