//! The plain types that all other modules share. They import no other module.

mod calendar;
mod secret;
mod time;

pub use calendar::DateTime;
pub use secret::{CacheKey, Details, Redacted, Secret, SecretName, SecretRequest, SecretVersion};
pub use time::{Deadline, DeadlineExceeded, MIN_CALL_TIME, Moment};
