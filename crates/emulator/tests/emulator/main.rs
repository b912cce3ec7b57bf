//! Tests of the emulator: strictness, faults, journal, listeners and signing.

mod azure;
mod case;
mod faults;
mod served;
mod signing;
