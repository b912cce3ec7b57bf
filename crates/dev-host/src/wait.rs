//! An HTTP client, a wait and a random key for programs and tests that start a host.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// Returns a client that accepts every status and uses no proxy: both programs are on this machine.
pub fn agent(limit: Duration) -> ureq::Agent {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
    agent.timeout_global(Some(limit)).build().new_agent()
}

/// Polls `find` until it returns a value. Panics after [`WAIT_LIMIT`].
#[track_caller]
pub fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < WAIT_LIMIT, "timed out waiting for {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Returns 128 random bits as hexadecimal digits.
pub fn random_key() -> Result<String, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The timeout of every wait: longer than any correct wait, and short enough to report a hang.
pub const WAIT_LIMIT: Duration = Duration::from_secs(60);
