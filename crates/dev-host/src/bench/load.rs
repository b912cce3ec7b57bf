//! Warm reads, as many as there can be: by wrk (<https://github.com/wg/wrk>).

use crate::client::Target;
use crate::rig::PATH;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The load generator.
pub(super) struct Wrk {
    script: PathBuf,
    pub(super) version: String,
}

/// What came of a load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Load {
    /// Answers.
    pub(super) count: u64,
    /// Answers in a second.
    pub(super) rate: f64,
    /// Milliseconds.
    pub(super) median: f64,
    /// Milliseconds.
    pub(super) p99: f64,
}

impl Wrk {
    /// Finds it, and writes what it is to do into `directory`.
    pub(super) fn find(directory: &Path) -> Result<Self, String> {
        let absent =
            "wrk makes the load, and is not there; `apt-get install wrk` or `brew install wrk` brings it";
        let output = Command::new("wrk").arg("-v").output().map_err(|_| absent)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
        let script = directory.join("reads.lua");
        std::fs::write(&script, SCRIPT).map_err(|problem| format!("{}: {problem}", script.display()))?;
        Ok(Self { script, version })
    }

    /// Reads `secrets` in turn, on so many connections.
    pub(super) fn run(
        &self,
        target: &Target,
        connections: usize,
        time: Duration,
        secrets: &[String],
    ) -> Result<Load, String> {
        let mut command = Command::new("wrk");
        command.args(["--threads", "1", "--connections", &connections.to_string()]);
        command
            .args(["--duration", &format!("{}s", time.as_secs()), "--timeout", "30s", "--script"])
            .arg(&self.script);
        command.arg(format!("http://{}{PATH}", target.address));
        // Not in the arguments, which everybody can see.
        command.env("KEY", &target.key).env("SECRETS", secrets.join(" "));
        let output = command.output().map_err(|problem| format!("wrk cannot be run: {problem}"))?;
        Load::read(&String::from_utf8_lossy(&output.stdout))
    }
}

impl Load {
    /// Reads the line that the script prints.
    fn read(text: &str) -> Result<Self, String> {
        let line = text.lines().find(|it| it.starts_with('{')).ok_or("wrk has printed no summary")?;
        let summary: Value = serde_json::from_str(line).map_err(|_| "wrk's summary is no JSON")?;
        if summary["bad"] != 0 {
            return Err(format!("some reads failed: {line}"));
        }
        let number = |name: &str| summary[name].as_f64().ok_or_else(|| format!("wrk does not say {name}"));
        let count = summary["requests"].as_u64().ok_or("wrk does not say requests")?;
        let rate = count as f64 / (number("duration_us")? / 1e6);
        Ok(Self { count, rate, median: number("median_us")? / 1e3, p99: number("p99_us")? / 1e3 })
    }
}

const SCRIPT: &str = include_str!("reads.lua");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_summary() {
        let summary = |bad| {
            format!(
                "Running 2s test @ http://127.0.0.1:1/\n{{\"requests\":3000,\"duration_us\":2000000,\
                 \"median_us\":1500,\"p99_us\":4000,\"bad\":{bad}}}\n"
            )
        };
        assert_eq!(Load::read(&summary(0)), Ok(Load { count: 3000, rate: 1500.0, median: 1.5, p99: 4.0 }));
        assert!(Load::read(&summary(1)).is_err_and(|it| it.starts_with("some reads failed")));
        for text in ["", "{", "{\"bad\":0}"] {
            assert!(Load::read(text).is_err(), "{text}");
        }
    }
}
