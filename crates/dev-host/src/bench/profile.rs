//! Where the time of a warm read goes, by Linux' own profiler (`perf record`).

use crate::process::processor_time;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A part of a server's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Kernel,
    Host,
    Border,
    Bindings,
    Memory,
    Hash,
    Json,
    Gateway,
    Rest,
}

impl Part {
    pub(super) const ALL: [Self; 9] = [
        Self::Kernel,
        Self::Host,
        Self::Border,
        Self::Bindings,
        Self::Memory,
        Self::Hash,
        Self::Json,
        Self::Gateway,
        Self::Rest,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Host => "host",
            Self::Border => "in and out of the guest",
            Self::Bindings => "bindings",
            Self::Memory => "allocator",
            Self::Hash => "SHA-256",
            Self::Json => "JSON",
            Self::Gateway => "gateway",
            Self::Rest => "std and the rest",
        }
    }

    /// The part that a function of a file belongs to. Compiled guests are in a file that Linux calls `[JIT]`.
    fn of(file: &str, function: &str) -> Self {
        if file.starts_with("[kernel") || file.starts_with("[vdso") {
            return Self::Kernel;
        }
        if !file.starts_with("[JIT]") && !file.ends_with(".map") {
            return Self::Host;
        }
        let name = format!("{:#}", rustc_demangle::demangle(function));
        // What stands around the guest's own functions, by the names that Wasmtime gives it.
        if ["wasm[", "component-", "wasmtime_", "resource_"].iter().any(|it| name.starts_with(it))
            || name.ends_with("trampoline")
        {
            return Self::Border;
        }
        if ["dlmalloc", "dlfree", "malloc", "free", "realloc", "cabi_realloc"].contains(&name.as_str()) {
            return Self::Memory;
        }
        let name = name.trim_start_matches(['<', '&', '[', '(']);
        match name.split("::").next().unwrap_or_default() {
            "wit_bindgen" | "wasip2" | "wasip3" | "futures_util" | "futures_core" | "wasip3_task_set" => {
                Self::Bindings
            }
            "alloc" | "__rustc" => Self::Memory,
            "sha2" | "digest" | "block_buffer" | "subtle" => Self::Hash,
            "serde_json" | "serde_core" | "serde" => Self::Json,
            "keyvault_gateway" => Self::Gateway,
            _ => Self::Rest,
        }
    }
}

/// The profiler, watching a process.
pub(super) struct Profiler {
    process: Child,
    file: PathBuf,
}

impl Profiler {
    /// Whether there is one here.
    pub(super) fn is_there() -> bool {
        let version =
            Command::new("perf").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|it| it.success())
    }

    /// Watches a process for some time.
    pub(super) fn watch(pid: u32, time: Duration, directory: &Path) -> Result<Self, String> {
        let file = directory.join("perf.data");
        let process = Command::new("perf")
            .args([
                "record",
                "--quiet",
                "--event",
                "cpu-clock",
                "--freq",
                FREQUENCY,
                "--pid",
                &pid.to_string(),
            ])
            .arg("--output")
            .arg(&file)
            .args(["--", "sleep", &time.as_secs().to_string()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = process.map_err(|problem| format!("perf cannot be run: {problem}"))?;
        Ok(Self { process, file })
    }

    /// The share of each part in what the process did.
    pub(super) fn shares(mut self) -> Result<Vec<(Part, f64)>, String> {
        let ended = self.process.wait();
        if !ended.is_ok_and(|it| it.success()) {
            return Err("perf record has failed; perhaps kernel.perf_event_paranoid forbids it".to_owned());
        }
        let output = Command::new("perf")
            .args(["report", "--stdio", "--quiet", "--no-children", "--sort", "dso,symbol"])
            .args(["--field-separator", "|", "--input"])
            .arg(&self.file)
            .output();
        let output = output.map_err(|problem| format!("perf cannot be run: {problem}"))?;
        read(&String::from_utf8_lossy(&output.stdout)).ok_or_else(|| "perf report says nothing".to_owned())
    }
}

/// The microseconds of processor time that a process takes for one of so many requests, which `load` has it answer.
pub(super) fn for_each(pid: u32, load: impl FnOnce() -> Result<u64, String>) -> Result<f64, String> {
    let unknown = || "Linux does not say how long a process has run".to_owned();
    let before = processor_time(pid).ok_or_else(unknown)?;
    let requests = load()?;
    let time = processor_time(pid).ok_or_else(unknown)?.saturating_sub(before);
    Ok(time.as_secs_f64() * 1e6 / requests.max(1) as f64)
}

/// Reads perf's report: a share in percent, a file, and a function, in each line.
fn read(report: &str) -> Option<Vec<(Part, f64)>> {
    let mut shares = Part::ALL.map(|it| (it, 0.0));
    for line in report.lines().filter(|it| !it.trim().is_empty() && !it.starts_with('#')) {
        let mut columns = line.split('|').map(str::trim);
        let share: f64 = columns.next()?.trim_end_matches('%').parse().ok()?;
        let (file, function) = (columns.next()?, columns.next()?);
        // Before a function stands whether it is the kernel's, as in `[k]`.
        let part = Part::of(file, function.split_once("] ").map_or(function, |it| it.1));
        shares.iter_mut().filter(|it| it.0 == part).for_each(|it| it.1 += share / 100.0);
    }
    shares.iter().any(|it| it.1 > 0.0).then(|| shares.to_vec())
}

/// Samples in a second: enough for parts of a hundredth in two seconds.
const FREQUENCY: &str = "1999";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_belong_to_parts() {
        for (file, function, part) in [
            ("[kernel.kallsyms]", "tcp_sendmsg", Part::Kernel),
            ("[vdso]", "__vdso_clock_gettime", Part::Kernel),
            ("dev-host", "0x0000000000f947c1", Part::Host),
            ("libc.so.6", "malloc", Part::Host),
            ("[JIT] tid 1", "dlmalloc", Part::Memory),
            ("[JIT] tid 1", "wasm[0]::array_to_wasm_trampoline[1348]", Part::Border),
            ("[JIT] tid 1", "component-trampolines[12]-wasm-call-component-resource-drop[11]", Part::Border),
            ("[JIT] tid 1", "resource_drop_trampoline", Part::Border),
            ("[JIT] tid 1", "_ZN4sha26sha25611compress25617h8b60bcddb7c42df1E", Part::Hash),
            ("[JIT] tid 1", "_ZN16keyvault_gateway5reply5Reply3new17h1c28694746cb1c95E", Part::Gateway),
            (
                "[JIT] tid 1",
                "_ZN70_$LT$alloc..vec..Vec$LT$T$C$A$GT$$u20$as$u20$core..ops..drop..Drop$GT$4drop17h09d7c2e938f1b53fE",
                Part::Memory,
            ),
            ("[JIT] tid 1", "_RNvCsfLfy6EI15iL_7___rustc11___rdl_alloc", Part::Memory),
            ("[JIT] tid 1", "_RNvNtCs9pv848UzQwQ_4core3fmt5write", Part::Rest),
            ("perf-12.map", "_ZN11wit_bindgen2rt14run_ctors_once17hb5df441d25c6f6afE", Part::Bindings),
        ] {
            assert_eq!(Part::of(file, function), part, "{file} {function}");
        }
    }

    #[test]
    fn reads_a_report() {
        let report = "    60.00%|[kernel.kallsyms]|[k] schedule\n 30.00%|dev-host|[.] 0x1|- -\n\n 10.00%|[JIT] tid 1|[.] dlfree  |- -\n";
        let shares = read(report).unwrap();
        let shown: Vec<_> = shares.into_iter().filter(|it| it.1 > 0.0).collect();
        assert_eq!(shown, [(Part::Kernel, 0.6), (Part::Host, 0.3), (Part::Memory, 0.1)]);
        assert_eq!((read(""), read("no report")), (None, None));
    }
}
