//! What the tests of this repository share: one of each.
//!
//! * [`host`]: a host for the gateway's core, with scripted answers and a virtual clock.
//! * [`entra`]: a signer of access tokens, as Entra ID signs them.
//! * [`leaks`]: a search for private text in what a test saw.
//! * [`packages`]: an installer of packages from npm and PyPI.

#![expect(missing_docs, reason = "an item without a comment is what its name says")]

#[cfg(feature = "entra")]
pub mod entra;
#[cfg(feature = "host")]
pub mod host;
pub mod leaks;
#[cfg(feature = "packages")]
pub mod packages;
