//! The memory of a process, its time, and how many files one may have open: as Linux tells.

use std::path::PathBuf;
use std::time::Duration;

/// The memory of one process.
pub(crate) struct Memory {
    directory: PathBuf,
}

impl Memory {
    pub(crate) fn of(process: u32) -> Self {
        Self { directory: PathBuf::from("/proc").join(process.to_string()) }
    }

    /// The bytes that it has at the moment, if that can be known here.
    pub(crate) fn now(&self) -> Option<u64> {
        self.field("VmRSS:")
    }

    /// The most that it has had since [`Memory::forget_peak`].
    pub(crate) fn peak(&self) -> Option<u64> {
        self.field("VmHWM:")
    }

    /// Lets the peak begin at what there is now (proc(5), `clear_refs`). Where that is not allowed it is the peak of the
    /// whole time, which is never less.
    pub(crate) fn forget_peak(&self) {
        let _ = std::fs::write(self.directory.join("clear_refs"), "5");
    }

    fn field(&self, name: &str) -> Option<u64> {
        let status = std::fs::read_to_string(self.directory.join("status")).ok()?;
        let line = status.lines().find_map(|it| it.strip_prefix(name))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    }
}

/// The time for which a process has had a processor, with all its threads, if that can be known here.
pub(crate) fn processor_time(process: u32) -> Option<Duration> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses and may have anything in it. After it, as the twelfth and the thirteenth, come the
    // times in the user's code and in the kernel's (proc(5)).
    let mut fields = text.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis((ticks()? + ticks()?) * MILLISECONDS_IN_A_TICK))
}

/// Lets this process, and those that it starts, have as many files open as they may, and says how many that is.
#[cfg(unix)]
pub(crate) fn raise_file_limit() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = getrlimit(Resource::Nofile).current;
    now.map_or(usize::MAX, |it| usize::try_from(it).unwrap_or(usize::MAX))
}

/// As many as it takes: elsewhere there is no such limit.
#[cfg(not(unix))]
pub(crate) fn raise_file_limit() -> usize {
    usize::MAX
}

/// Linux tells programs of a hundred ticks in a second, whatever its own are (`USER_HZ`, time(7)).
const MILLISECONDS_IN_A_TICK: u64 = 10;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_had_some_time() {
        let start = std::time::Instant::now();
        let before = processor_time(std::process::id()).unwrap();
        while processor_time(std::process::id()).unwrap() < before + Duration::from_millis(30) {
            assert!(start.elapsed() < Duration::from_secs(60), "it has not");
        }
    }
}
