//! The plain types that all other modules share. They import no module but `error`.

mod secret;
mod time;

pub use secret::{Redacted, Secret, SecretName, SecretRequest, SecretVersion};
pub use time::{Deadline, Moment};
