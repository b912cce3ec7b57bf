//! The memory of a process, and how many files one may have open: as Linux tells.

use std::path::PathBuf;

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
