//! What the concurrent requests of one instance share: one call for all, limits, and one timer.

pub mod deadline_queue;
pub mod pending_bodies;
pub mod single_flight;
pub mod token_bucket;
