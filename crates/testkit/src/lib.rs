//! Test support for this repository.
//!
//! * [`host`]: a host for the gateway's core, with scripted answers and a virtual clock.
//! * [`entra`]: a signer of access tokens like Entra ID's.
//! * [`oidc`]: a signer of tokens like those of Kubernetes and of other OIDC issuers.
//! * [`leaks`]: a search for leaked private text.
//! * [`packages`]: an installer of packages from npm and PyPI.

#[cfg(feature = "entra")]
pub mod entra;
#[cfg(feature = "host")]
pub mod host;
pub mod leaks;
#[cfg(feature = "entra")]
pub mod oidc;
#[cfg(feature = "packages")]
pub mod packages;
