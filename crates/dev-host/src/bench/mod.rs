//! `bench`: the gateway beside what its host costs without it, and beside what a user would write instead, in one run.
//!
//! Everybody runs at the same time and is measured in turn, over and over, so that what disturbs the machine disturbs all
//! of them. What counts is the ratio of medians.

mod contestants;

mod load;

mod composed;

mod reads;

mod profile;

mod figures;

mod report;

mod chart;

use self::contestants::{Contestant, Instances, Programs, Running, START_LIMIT, World};
use self::figures::{Figures, Measure, quantile};
use self::load::Wrk;
use self::profile::Profiler;
use self::reads::milliseconds;
use self::report::{Report, Size};
use crate::process::{Memory, raise_file_limit};
use crate::rig;
use keyvault_emulator::{Effect, Emulator, Fault, Served, Upstream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// The options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// The gateway of WASI 0.2 and the one of 0.3
    #[arg(long, num_args = 2, value_names = ["PROXY", "SERVICE"])]
    gateways: Vec<PathBuf>,

    /// The smallest component of WASI 0.2 and the one of 0.3
    #[arg(long, num_args = 2, value_names = ["PROXY", "SERVICE"])]
    floors: Vec<PathBuf>,

    /// The same four with the names of their functions, gateways first, to tell where the time goes
    #[arg(long, num_args = 4, value_name = "COMPONENT")]
    named: Vec<PathBuf>,

    /// Applications that are composed with these gateways
    #[arg(long, num_args = 2, value_names = ["PROXY", "SERVICE"])]
    composed: Vec<PathBuf>,

    /// The native service
    #[arg(long, value_name = "PROGRAM")]
    native: PathBuf,

    /// Where the report goes
    #[arg(long, value_name = "FOLDER")]
    report: PathBuf,

    /// How often everybody is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,

    /// How long a load lasts, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

impl Bench {
    pub(crate) fn run(self) -> Result<(), String> {
        let begun = Instant::now();
        // The emulator has a connection for each call of a host that makes a new one for each.
        raise_file_limit();
        let directory = tempfile::tempdir().map_err(|problem| format!("no directory: {problem}"))?;
        let wrk = Wrk::find(directory.path())?;
        eprintln!("[1/10] compiling the components");
        let compiled = |components: &[PathBuf], name: &str| -> Result<[PathBuf; 2], String> {
            let folder = directory.path().join(name);
            std::fs::create_dir(&folder).map_err(|problem| format!("no directory: {problem}"))?;
            let [proxy, service] = components else { return Err("two components are needed".to_owned()) };
            Ok([rig::compile(proxy, &folder)?, rig::compile(service, &folder)?])
        };
        let programs = Programs {
            floors: compiled(&self.floors, "floors")?,
            gateways: compiled(&self.gateways, "gateways")?,
            composed: compiled(&self.composed, "composed")?,
            native: self.native.clone(),
            profiled: false,
        };
        let azure = Azure::start(directory.path(), "ca.pem")?;
        let crowded = Azure::start(directory.path(), "crowded-ca.pem")?;
        let mut stand = Stand {
            programs,
            azure,
            crowded,
            wrk,
            figures: Figures::default(),
            rounds: usize::from(self.rounds),
            time: Duration::from_secs(self.seconds),
            names: 0,
        };
        stand.warm_reads()?;
        stand.cores()?;
        stand.cache_sizes()?;
        stand.cold_reads()?;
        stand.fresh_instances()?;
        stand.first_answers(&self.gateways, &self.floors)?;
        stand.bursts()?;
        stand.memory()?;
        stand.without_http()?;
        stand.profile(&self.named, directory.path())?;
        let report = Report {
            figures: &stand.figures,
            sizes: Size::of(&self.gateways, &self.floors)?,
            wrk: &stand.wrk.version,
            rounds: stand.rounds,
            seconds: self.seconds,
            took: begun.elapsed(),
        };
        report.write(&self.report)?;
        println!("{}", report.targets_as_text());
        Ok(())
    }
}

/// The emulator, and where it is.
struct Azure {
    emulator: Emulator,
    served: Served,
    ca_file: PathBuf,
    runtime: Runtime,
}

impl Azure {
    fn start(directory: &Path, ca_file: &str) -> Result<Self, String> {
        let runtime = Runtime::new().map_err(|problem| format!("no runtime for the emulator: {problem}"))?;
        let emulator = Emulator::new();
        let served = runtime.block_on(emulator.serve());
        let served = served.map_err(|problem| format!("the emulator cannot listen: {problem}"))?;
        let ca_file = directory.join(ca_file);
        std::fs::write(&ca_file, &served.ca_pem)
            .map_err(|problem| format!("{}: {problem}", ca_file.display()))?;
        Ok(Self { emulator, served, ca_file, runtime })
    }

    /// Lets the vault take this long for each answer.
    fn slow_down(&self, latency: Duration) {
        self.emulator.clear_faults();
        if !latency.is_zero() {
            self.emulator.fault(Fault::new(Upstream::Vault, Effect::Truth).delay(latency));
        }
    }
}

/// Where contestants are measured.
struct Stand {
    programs: Programs,
    azure: Azure,
    /// For those who ask for a token with each request: an emulator remembers the last ten thousand.
    crowded: Azure,
    wrk: Wrk,
    figures: Figures,
    rounds: usize,
    time: Duration,
    names: usize,
}

impl Stand {
    fn start(&self, contestant: Contestant, cores: Option<&str>) -> Result<Running, String> {
        let azure = match contestant {
            Contestant::Floor(_, Instances::LivingOn)
            | Contestant::Gateway(_, Instances::LivingOn)
            | Contestant::Composed(_)
            | Contestant::Native
            | Contestant::NativeWithCache => &self.azure,
            Contestant::Floor(_, Instances::Default | Instances::Fresh)
            | Contestant::Gateway(_, Instances::Default | Instances::Fresh) => &self.crowded,
        };
        self.programs.start(contestant, &azure.served, &azure.ca_file, cores)
    }

    /// Lets the vault take this long for each answer.
    fn slow_down(&self, latency: Duration) {
        self.azure.slow_down(latency);
        self.crowded.slow_down(latency);
    }

    fn clear_journals(&self) {
        self.azure.emulator.clear_journal();
        self.crowded.emulator.clear_journal();
    }

    fn start_all(&self, contestants: &[Contestant]) -> Result<Vec<Running>, String> {
        contestants.iter().map(|it| self.start(*it, None)).collect()
    }

    /// So many secrets that nobody has read yet, each with a value of this length.
    fn secrets(&mut self, count: usize, length: usize) -> Result<Vec<String>, String> {
        let names: Vec<_> = (self.names..self.names + count).map(|it| format!("secret-{it:06}")).collect();
        self.names += count;
        for name in &names {
            let value = "v".repeat(length);
            for azure in [&self.azure, &self.crowded] {
                azure.emulator.set_secret(name, &value).map_err(|problem| problem.to_string())?;
            }
        }
        Ok(names)
    }

    fn one_by_one(&self, running: &Running, secrets: &[String]) -> Result<Vec<f64>, String> {
        let times = self.azure.runtime.block_on(reads::one_by_one(&running.target, secrets));
        times.map_err(|problem| format!("{}: {problem}", running.contestant.name()))
    }

    fn load(&self, running: &Running, connections: usize, secrets: &[String]) -> Result<load::Load, String> {
        let load = self.wrk.run(&running.target, connections, self.time, secrets);
        self.clear_journals();
        load.map_err(|problem| format!("{}: {problem}", running.contestant.name()))
    }

    fn warm_reads(&mut self) -> Result<(), String> {
        self.slow_down(UPSTREAM);
        let all = self.start_all(&Contestant::ALL)?;
        let secret = self.secrets(1, VALUE)?;
        for running in &all {
            self.load(running, CONNECTIONS[1], &secret)?;
        }
        for round in 0..self.rounds {
            eprintln!("[2/10] warm reads, round {} of {}", round + 1, self.rounds);
            for connections in CONNECTIONS {
                for running in &all {
                    let load = self.load(running, connections, &secret)?;
                    let at = connections.to_string();
                    for (measure, value) in [
                        (Measure::WarmReads, load.rate),
                        (Measure::WarmMedian, load.median),
                        (Measure::WarmP99, load.p99),
                    ] {
                        self.figures.add(measure, &at, running.contestant, value);
                    }
                }
            }
        }
        Ok(())
    }

    fn cores(&mut self) -> Result<(), String> {
        eprintln!("[3/10] warm reads on one core and on two, and of many secrets");
        let secret = self.secrets(1, VALUE)?;
        let mut all = Vec::new();
        for contestant in CORES {
            for (name, cores) in [("1", "0"), ("2", "0-1")] {
                let running = self.start(contestant, Some(cores))?;
                self.load(&running, CONNECTIONS[1], &secret)?;
                all.push((name, running));
            }
        }
        for _ in 0..self.rounds {
            for (name, running) in &all {
                let load = self.load(running, CONNECTIONS[2], &secret)?;
                self.figures.add(Measure::Cores, name, running.contestant, load.rate);
            }
        }
        Ok(())
    }

    fn cache_sizes(&mut self) -> Result<(), String> {
        self.slow_down(Duration::ZERO);
        let all = self.start_all(&KEEPERS)?;
        let many = self.secrets(1000, VALUE)?;
        for running in &all {
            self.one_by_one(running, &many)?;
        }
        for _ in 0..self.rounds {
            for count in [1, 100, 1000] {
                for running in &all {
                    let load = self.load(running, 1, many.get(..count).unwrap_or(&many))?;
                    self.figures.add(Measure::CacheSize, &count.to_string(), running.contestant, load.rate);
                }
            }
        }
        Ok(())
    }

    fn cold_reads(&mut self) -> Result<(), String> {
        let all = self.start_all(&Contestant::READERS)?;
        self.slow_down(Duration::ZERO);
        let first = self.secrets(1, VALUE)?;
        for running in &all {
            self.one_by_one(running, &first)?;
        }
        for round in 0..self.rounds {
            eprintln!("[4/10] cold reads, round {} of {}", round + 1, self.rounds);
            for (latency, count) in LATENCIES {
                self.slow_down(Duration::from_millis(latency));
                let secrets = self.secrets(count, VALUE)?;
                for running in &all {
                    let times = self.one_by_one(running, &secrets)?;
                    let at = format!("{latency} ms upstream");
                    self.figures.add(Measure::ColdMedian, &at, running.contestant, quantile(&times, 0.5));
                    self.figures.add(Measure::ColdP99, &at, running.contestant, quantile(&times, 0.99));
                }
                self.clear_journals();
            }
        }
        Ok(())
    }

    fn fresh_instances(&mut self) -> Result<(), String> {
        eprintln!("[5/10] an instance for each request");
        self.slow_down(Duration::ZERO);
        let all = self.start_all(&[
            Contestant::Floor(World::Proxy, Instances::Fresh),
            Contestant::Gateway(World::Proxy, Instances::Fresh),
            Contestant::Floor(World::Service, Instances::Fresh),
            Contestant::Gateway(World::Service, Instances::Fresh),
        ])?;
        let secrets = self.secrets(100, VALUE)?;
        for _ in 0..self.rounds {
            for running in &all {
                let times = self.one_by_one(running, &secrets)?;
                self.figures.add(Measure::FreshInstance, "median", running.contestant, quantile(&times, 0.5));
            }
            self.clear_journals();
        }
        Ok(())
    }

    /// `gateways` and `floors` are those that have not been compiled ahead.
    fn first_answers(&mut self, gateways: &[PathBuf], floors: &[PathBuf]) -> Result<(), String> {
        let (Ok(gateways), Ok(floors)) = (gateways.to_vec().try_into(), floors.to_vec().try_into()) else {
            return Err("two components are needed".to_owned());
        };
        let (composed, native) = (self.programs.composed.clone(), self.programs.native.clone());
        let whole = Programs { floors, gateways, composed, native, profiled: false };
        let secret = self.secrets(1, VALUE)?;
        for round in 0..self.rounds {
            eprintln!("[6/10] first answers, round {} of {}", round + 1, self.rounds);
            for (at, programs, contestants) in [
                ("compiled ahead", &self.programs, &CORES[..]),
                ("compiled at the start", &whole, &CORES[..4]),
            ] {
                for contestant in contestants {
                    let start = Instant::now();
                    let azure = &self.azure;
                    let running = programs.start(*contestant, &azure.served, &azure.ca_file, None)?;
                    self.one_by_one(&running, &secret)?;
                    let took = start.elapsed();
                    if took > START_LIMIT {
                        return Err(format!("{} took {took:?} to start", contestant.name()));
                    }
                    self.figures.add(Measure::FirstAnswer, at, *contestant, milliseconds(took));
                }
            }
        }
        Ok(())
    }

    fn bursts(&mut self) -> Result<(), String> {
        eprintln!("[7/10] cold bursts");
        self.slow_down(UPSTREAM);
        let all = self.start_all(&Contestant::READERS)?;
        let first = self.secrets(1, VALUE)?;
        for running in &all {
            self.one_by_one(running, &first)?;
        }
        // The first read was one instance's.
        let mut instances = vec![1_usize; all.len()];
        for _ in 0..self.rounds {
            for (running, instances) in all.iter().zip(&mut instances) {
                for count in [1, BURST] {
                    let secrets = self.secrets(count, VALUE)?;
                    let secrets: Vec<_> = secrets.iter().cycle().take(BURST).cloned().collect();
                    self.clear_journals();
                    let times = self.azure.runtime.block_on(reads::together(&running.target, &secrets));
                    let times =
                        times.map_err(|problem| format!("{}: {problem}", running.contestant.name()))?;
                    let calls = self.azure.emulator.vault_calls().len();
                    let at = if count == 1 { "one secret".to_owned() } else { format!("{count} secrets") };
                    self.figures.add(Measure::BurstCalls, &at, running.contestant, calls as f64);
                    // Each instance that is new asks for a token of its own.
                    *instances += self.azure.emulator.token_calls().len();
                    if let (1, Contestant::Gateway(..)) = (count, running.contestant) {
                        let each = calls as f64 / *instances as f64;
                        self.figures.add(Measure::BurstCallsEach, &at, running.contestant, each);
                    }
                    self.figures.add(Measure::BurstP99, &at, running.contestant, quantile(&times, 0.99));
                }
            }
        }
        Ok(())
    }

    fn memory(&mut self) -> Result<(), String> {
        eprintln!("[8/10] memory");
        self.slow_down(Duration::ZERO);
        let secrets = self.secrets(1000, 1024)?;
        for contestant in KEEPERS {
            let running = self.start(contestant, None)?;
            let memory = Memory::of(running.pid());
            self.one_by_one(&running, secrets.get(..1).unwrap_or(&secrets))?;
            let mut note = |at: &str| {
                if let Some(bytes) = memory.now() {
                    self.figures.add(Measure::Memory, at, contestant, bytes as f64 / f64::from(1 << 20));
                }
            };
            note("one secret");
            let times = self.azure.runtime.block_on(reads::one_by_one(&running.target, &secrets));
            times.map_err(|problem| format!("{}: {problem}", contestant.name()))?;
            note("1,000 secrets of 1 KiB");
        }
        Ok(())
    }

    /// Where the time of a warm read goes. `named` are the components with names, gateways first.
    fn profile(&mut self, named: &[PathBuf], directory: &Path) -> Result<(), String> {
        if !Profiler::is_there() {
            eprintln!(
                "[10/10] no picture of where the time goes: `perf` is not there (`apt-get install linux-perf`)"
            );
            return Ok(());
        }
        eprintln!("[10/10] where the time goes");
        let [proxy, service, floor_proxy, floor_service] = named else {
            return Err("four components with names are needed".to_owned());
        };
        let programs = Programs {
            floors: [floor_proxy.clone(), floor_service.clone()],
            gateways: [proxy.clone(), service.clone()],
            composed: self.programs.composed.clone(),
            native: self.programs.native.clone(),
            profiled: true,
        };
        let secret = self.secrets(1, VALUE)?;
        for contestant in CORES.into_iter().take(4) {
            let running = programs.start(contestant, &self.azure.served, &self.azure.ca_file, None)?;
            self.load(&running, CONNECTIONS[1], &secret)?;
            for _ in 0..self.rounds {
                let each = profile::for_each(running.pid(), || {
                    self.load(&running, CONNECTIONS[2], &secret).map(|it| it.count)
                })?;
                let profiler = Profiler::watch(running.pid(), self.time, directory)?;
                self.load(&running, CONNECTIONS[2], &secret)?;
                for (part, share) in profiler.shares()? {
                    self.figures.add(Measure::Processor, part.name(), contestant, share * each);
                }
            }
        }
        Ok(())
    }
}

/// Those with a memory of values.
const KEEPERS: [Contestant; 3] = [
    Contestant::Gateway(World::Proxy, Instances::LivingOn),
    Contestant::Gateway(World::Service, Instances::LivingOn),
    Contestant::NativeWithCache,
];

/// Those of whom one process each is started. The components come first.
const CORES: [Contestant; 5] = [
    Contestant::Floor(World::Proxy, Instances::LivingOn),
    Contestant::Gateway(World::Proxy, Instances::LivingOn),
    Contestant::Floor(World::Service, Instances::LivingOn),
    Contestant::Gateway(World::Service, Instances::LivingOn),
    Contestant::NativeWithCache,
];

/// How many clients read at the same time.
const CONNECTIONS: [usize; 4] = [1, 8, 32, 128];

/// What the vault takes to answer in these measurements. Within a region of Azure it is some milliseconds.
const UPSTREAM: Duration = Duration::from_millis(5);

/// Milliseconds that the vault takes, and how many secrets are read from it.
const LATENCIES: [(u64, usize); 3] = [(0, 200), (5, 100), (50, 20)];

/// So many ask at the same time.
const BURST: usize = 64;

/// The length of a value: as long as a connection string.
const VALUE: usize = 96;
