//! What programs and tests have in common that start a host: a client, a wait, a key.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// A client that takes every status, and no proxy: the machine's has no business between two programs of it.
pub fn agent(limit: Duration) -> ureq::Agent {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    agent.timeout_global(Some(limit)).build().new_agent()
}

/// Tries until there is something, with a short pause between. Panics after [`WAIT_LIMIT`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < WAIT_LIMIT, "there is never {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Letters and digits that cannot be guessed.
pub fn random_text() -> Result<String, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|problem| format!("no random numbers: {problem}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Longer than anything takes that is waited for, and short enough that a hang is seen as one.
pub const WAIT_LIMIT: Duration = Duration::from_secs(60);
