//! What an operator sees: log lines, metrics, and the request context that they are made from.

pub mod context;
pub mod log;
pub mod metrics;
