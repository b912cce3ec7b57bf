//! The gateway's real core in virtual time, with a world that is scripted by a seed.
//!
//! [`run()`] draws a [`Plan`] from a seed and plays it: a [`Fleet`] of instances, the [`World`] that they ask, and the
//! [`Checks`] that look at every event. The same seed is the same run on every machine.

#![expect(missing_docs, reason = "fields and variants say what they are by their names")]

mod checks;
mod executor;
mod fleet;
mod plan;
mod run;
mod world;

pub use checks::{Checks, RECOVERY};
pub use fleet::Fleet;
pub use plan::{Ask, Caller, HostPlan, Plan, ordinary};
pub use run::{Outcome, play, run};
pub use world::World;
