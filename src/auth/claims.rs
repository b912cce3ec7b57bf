//! The claims of a valid token: whom it identifies, and for how long.

use std::fmt;
use std::rc::Rc;

use crate::error::AuthFailure;

/// The claims of a valid token that the gateway uses.
pub struct Claims {
    pub(super) identity: Identity,
    pub(super) validity: Validity,
}

/// Whom a token identifies.
pub(super) enum Identity {
    /// An application of the tenant of Entra ID.
    Application {
        /// The object id of its identity.
        oid: String,
        /// The id of the application.
        appid: String,
        /// The app roles that it has in the application that represents this gateway.
        roles: Vec<String>,
    },
    /// A subject of an OIDC issuer.
    Subject { issuer: Rc<str>, subject: String },
}

/// When a token is valid, in seconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: u64,
    pub(super) expires: u64,
}

impl Claims {
    /// Checks that the token is still valid at `unix_time`.
    pub fn check(&self, unix_time: u64) -> Result<(), AuthFailure> {
        self.validity.check(unix_time)
    }
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claims(..)")
    }
}

impl Validity {
    /// Checks that `unix_time` is between `nbf` and `exp`, with a tolerance of [`SKEW`].
    pub(super) const fn check(self, unix_time: u64) -> Result<(), AuthFailure> {
        if unix_time < self.not_before.saturating_sub(SKEW) {
            Err(AuthFailure::NotYetValid)
        } else if unix_time >= self.expires.saturating_add(SKEW) {
            Err(AuthFailure::Expired)
        } else {
            Ok(())
        }
    }
}

/// How far the issuer's clock and the host's may differ, in seconds. Microsoft's own libraries allow five
/// minutes. Hosts in Azure have the time from Azure, so a minute is plenty.
const SKEW: u64 = 60;
