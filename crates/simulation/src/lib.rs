//! The gateway's real core in virtual time, against a simulated Azure.
//!
//! [`play`] plays a [`Plan`] that is drawn from a seed: instances of the gateway get requests, Azure fails
//! and recovers, and the checks verify the invariants at every event. The same seed is the same run on every
//! machine.

mod azure;
mod checks;
mod executor;
mod fleet;
mod plan;
mod run;

pub use checks::Counts;
pub use plan::Plan;
pub use run::{Outcome, play, run};
