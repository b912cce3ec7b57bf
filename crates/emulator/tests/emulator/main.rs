//! Tests of the emulator: strictness, federated sign-in, faults, journal, listeners and signing.

mod azure;
mod case;
mod faults;
mod federation;
mod oidc;
mod served;
mod signing;
