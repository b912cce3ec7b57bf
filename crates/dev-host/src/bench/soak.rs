//! `soak`: sends many requests to the own host while values expire and Azure fails, and measures its memory.

use super::contestants::{QUIET, own_host};
use crate::attack::clients;
use crate::client::Target;
use crate::process::{forget_peak, memory, peak_memory, raise_file_limit};
use keyvault_emulator::{Effect, Emulator, Fault, Refusal, Upstream};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The options of `soak`.
#[derive(clap::Args)]
pub(crate) struct Soak {
    /// The own host with the component embedded
    #[arg(long, value_name = "PROGRAM")]
    own_host: PathBuf,

    /// The number of requests
    #[arg(long, default_value_t = 1_000_000)]
    requests: usize,

    /// The number of concurrent connections, which are opened anew for each line of the report
    #[arg(long, default_value_t = 345)]
    connections: usize,

    /// Let Azure answer each call, and values live as long as by default
    #[arg(long)]
    healthy: bool,
}

impl Soak {
    pub(crate) fn run(self) -> Result<(), String> {
        raise_file_limit();
        let runtime = Runtime::new().map_err(|error| format!("cannot start a runtime: {error}"))?;
        let emulator = Emulator::new();
        for number in 0..SECRETS {
            emulator
                .set_secret(&format!("secret-{number}"), &"v".repeat(96))
                .map_err(|error| error.to_string())?;
        }
        for fault in [
            Fault::new(Upstream::Vault, Effect::HangBeforeHeaders).every(199),
            Fault::new(Upstream::Vault, Effect::CutWithinBody).every(29),
            Fault::new(Upstream::Vault, Effect::CutBeforeHeaders).every(17),
            Fault::refuse(Refusal::Throttled).every(37),
            Fault::new(Upstream::Vault, Effect::Truth).delay(Duration::from_millis(5)),
        ] {
            if !self.healthy {
                emulator.fault(fault);
            }
        }
        let served = runtime.block_on(emulator.serve());
        let served = served.map_err(|error| format!("the emulator cannot listen: {error}"))?;
        let ca_file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        std::fs::write(&ca_file, &served.ca_pem).map_err(|error| error.to_string())?;
        let key = dev_host::random_key()?;
        let launch = own_host(&self.own_host, &served, ca_file.path(), &key).environment(QUIET);
        let launch = if self.healthy { launch } else { launch.environment(SETTINGS) };
        let server = launch.start()?;
        let target = Target { address: server.address(), key };
        let (start, mut sent, mut sizes) = (Instant::now(), 0, Vec::new());
        println!("| requests | s | resident memory, MiB | its peak | responses |\n|---|---|---|---|---|");
        while sent < self.requests {
            forget_peak(server.pid());
            let load = clients::keep_alive(target.clone(), self.connections, BLOCK, 1, request);
            let responses = runtime.block_on(load).map_err(|error| error.to_string())?;
            emulator.clear_journal();
            sent += responses.times.len();
            settle(&server.url("/healthz"))?;
            let [size, peak] = [memory, peak_memory]
                .map(|of| of(server.pid()).map_or(f64::NAN, |bytes| bytes as f64 / f64::from(1 << 20)));
            sizes.push(size);
            let (seconds, counts) = (start.elapsed().as_secs(), responses.counts);
            println!("| {sent} | {seconds} | {size:.1} | {peak:.1} | {counts:?} |");
        }
        let replaced: Vec<_> = server.log().into_iter().filter(|line| line.contains("replaced")).collect();
        // The caches are full after the first quarter.
        let (early, last) = (sizes[sizes.len() / 4], sizes[sizes.len() - 1]);
        if last > early + MAX_GROWTH || last > MAX_MEMORY || !replaced.is_empty() {
            return Err(format!("memory went from {early:.1} to {last:.1} MiB; {replaced:?}"));
        }
        Ok(())
    }
}

/// Most requests read a known secret, some one that does not exist, and some have a wrong key.
fn request(target: &Target, index: usize) -> String {
    match index % 20 {
        0 => target.request(&format!("absent-{}", index % 1000), &target.key, ""),
        1 => target.request("secret-0", "a-wrong-key", ""),
        _ => target.request(&format!("secret-{}", index % SECRETS), &target.key, ""),
    }
}

const SECRETS: usize = 500;

/// Values expire each second, and the failures of a call end its request soon.
const SETTINGS: [(&str, &str); 3] = [
    ("GATEWAY_CACHE_TTL_SECONDS", "1"),
    ("GATEWAY_NEGATIVE_TTL_SECONDS", "1"),
    ("GATEWAY_DEADLINE_SECONDS", "2"),
];

/// The requests of one line of the report.
const BLOCK: usize = 50_000;

/// Probes the host for two seconds, in which connections end, and the allocator returns what is free: it does so
/// when there is something to do.
fn settle(url: &str) -> Result<(), String> {
    let agent = dev_host::agent(Duration::from_secs(10));
    for _ in 0..20 {
        agent.get(url).call().map_err(|error| format!("the host does not answer a probe: {error}"))?;
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The most memory at the end, in MiB, and the most growth since the first quarter.
const MAX_MEMORY: f64 = 35.0;
const MAX_GROWTH: f64 = 2.0;
