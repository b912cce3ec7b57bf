//! What is measured: the gateway, what its host costs without it, and what a user would write instead.

use crate::client::Target;
use crate::rig::{self, LIVING_ON, SECRET};
use dev_host::Server;
use keyvault_emulator::{Served, Source};
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// One that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Contestant {
    /// The smallest component there is, under these flags.
    Floor(World, Instances),
    /// The gateway, under the same.
    Gateway(World, Instances),
    /// An application that is composed with the gateway, under the flags that README.md recommends.
    Composed(World),
    /// A native service with Microsoft's clients, as they are documented: it reads the vault each time.
    Native,
    /// The same with a cache of values, and one read for all who want the same.
    NativeWithCache,
}

/// The world of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum World {
    Proxy,
    Service,
}

/// How long the host keeps an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Instances {
    /// As long as it does without being told.
    Default,
    /// As README.md recommends.
    LivingOn,
    /// For one request.
    Fresh,
}

impl Contestant {
    /// Those whose warm reads are compared.
    pub(super) const ALL: [Self; 10] = [
        Self::Floor(World::Proxy, Instances::LivingOn),
        Self::Gateway(World::Proxy, Instances::LivingOn),
        Self::Floor(World::Service, Instances::LivingOn),
        Self::Gateway(World::Service, Instances::LivingOn),
        Self::Floor(World::Proxy, Instances::Default),
        Self::Gateway(World::Proxy, Instances::Default),
        Self::Floor(World::Service, Instances::Default),
        Self::Gateway(World::Service, Instances::Default),
        Self::Native,
        Self::NativeWithCache,
    ];

    /// Those who keep what they have read, or have a token at least.
    pub(super) const READERS: [Self; 4] = [
        Self::Gateway(World::Proxy, Instances::LivingOn),
        Self::Gateway(World::Service, Instances::LivingOn),
        Self::Native,
        Self::NativeWithCache,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Floor(World::Proxy, Instances::Default) => "floor, proxy, default flags",
            Self::Floor(World::Proxy, Instances::LivingOn) => "floor, proxy",
            Self::Floor(World::Proxy, Instances::Fresh) => "floor, proxy, an instance per request",
            Self::Floor(World::Service, Instances::Default) => "floor, service, default flags",
            Self::Floor(World::Service, Instances::LivingOn) => "floor, service",
            Self::Floor(World::Service, Instances::Fresh) => "floor, service, an instance per request",
            Self::Gateway(World::Proxy, Instances::Default) => "gateway, proxy, default flags",
            Self::Gateway(World::Proxy, Instances::LivingOn) => "gateway, proxy",
            Self::Gateway(World::Proxy, Instances::Fresh) => "gateway, proxy, an instance per request",
            Self::Gateway(World::Service, Instances::Default) => "gateway, service, default flags",
            Self::Gateway(World::Service, Instances::LivingOn) => "gateway, service",
            Self::Gateway(World::Service, Instances::Fresh) => "gateway, service, an instance per request",
            Self::Composed(World::Proxy) => "composed application, proxy",
            Self::Composed(World::Service) => "composed application, service",
            Self::Native => "native service",
            Self::NativeWithCache => "native service with cache",
        }
    }
}

impl Instances {
    /// The options of `wasmtime serve`.
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Default => &[],
            Self::LivingOn => &LIVING_ON,
            Self::Fresh => &["--max-instance-reuse-count", "1", "--max-instance-concurrent-reuse-count", "1"],
        }
    }
}

/// The programs of the contestants.
pub(super) struct Programs {
    pub(super) floors: [PathBuf; 2],
    pub(super) gateways: [PathBuf; 2],
    pub(super) composed: [PathBuf; 2],
    pub(super) native: PathBuf,
    /// Whether hosts tell Linux' profiler the names of a component's functions.
    pub(super) profiled: bool,
}

impl Programs {
    /// Starts a contestant. What it reads is in the emulator, and `cores` are those that it may use, if not all.
    pub(super) fn start(
        &self,
        contestant: Contestant,
        served: &Served,
        ca_file: &std::path::Path,
        cores: Option<&str>,
    ) -> Result<Running, String> {
        let key = rig::random_text()?;
        let (process, address) = match contestant {
            Contestant::Floor(world, instances) => {
                self.host(&self.floors[world as usize], instances, served, &key)
            }
            Contestant::Gateway(world, instances) => {
                self.host(&self.gateways[world as usize], instances, served, &key)
            }
            Contestant::Composed(world) => {
                self.host(&self.composed[world as usize], Instances::LivingOn, served, &key)
            }
            Contestant::Native => self.native(&[], served, ca_file, &key),
            Contestant::NativeWithCache => self.native(&["--cache"], served, ca_file, &key),
        }?;
        let running = Running { contestant, target: Target { address, key }, process };
        if let Some(cores) = cores {
            pin(running.pid(), cores)?;
        }
        Ok(running)
    }

    fn host(
        &self,
        component: &std::path::Path,
        instances: Instances,
        served: &Served,
        key: &str,
    ) -> Result<(Process, std::net::SocketAddr), String> {
        // Only a composed application looks at it.
        let vault = served.http_base();
        let configuration =
            format!("config-var={SECRET}=@Microsoft.KeyVault(SecretUri={vault}/secrets/{SECRET})");
        let launch = rig::launch(component.to_owned())?
            .options(["--allow-precompiled"])
            .options(instances.options())
            .options(["-S", "config", "-S", &configuration])
            .options(if self.profiled { &PROFILED[..] } else { &[] })
            .environment(served.settings(Source::AppService2019))
            .environment([
                ("GATEWAY_KEY", key),
                ("GATEWAY_LOG", "error"),
                ("GATEWAY_CALLER_CALLS_PER_SECOND", "0"),
            ])
            .environment([("GATEWAY_CALLERS", r#"[{"name":"composed","secrets":["*"]}]"#)]);
        let server = launch.start().map_err(|problem| problem.to_string())?;
        let address = server.address();
        Ok((Process::Host(server), address))
    }

    fn native(
        &self,
        options: &[&str],
        served: &Served,
        ca_file: &std::path::Path,
        key: &str,
    ) -> Result<(Process, std::net::SocketAddr), String> {
        let mut command = Command::new(&self.native);
        command.args(options).env_clear().envs(served.settings(Source::AppService2019));
        command
            .env("KEY_VAULT_URI", VAULT)
            .env("HTTPS_PROXY", served.proxy_base())
            .env("NO_PROXY", "127.0.0.1");
        command.env("CA_FILE", ca_file).env("GATEWAY_KEY", key);
        let cannot = |problem: std::io::Error| format!("the native service cannot be started: {problem}");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(cannot)?;
        let mut line = String::new();
        let output = child.stdout.take().ok_or("the native service says nothing")?;
        // Its end of the pipe is closed when it ends, so that this does, too.
        BufReader::new(output).read_line(&mut line).map_err(cannot)?;
        let process = Process::Native(child);
        let address = line.trim().strip_prefix("listening on ").and_then(|it| it.parse().ok());
        Ok((process, address.ok_or("the native service does not say where it listens")?))
    }
}

/// A contestant that takes requests. Dropping it ends its process.
pub(super) struct Running {
    pub(super) contestant: Contestant,
    pub(super) target: Target,
    process: Process,
}

enum Process {
    Host(Server),
    Native(Child),
}

impl Running {
    pub(super) fn pid(&self) -> u32 {
        match &self.process {
            Process::Host(server) => server.pid(),
            Process::Native(child) => child.id(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Self::Native(child) = self {
            // Both fail only where the process is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Lets a process have these cores only, all its threads.
fn pin(pid: u32, cores: &str) -> Result<(), String> {
    let status = Command::new("taskset")
        .args(["-a", "-p", "-c", cores, &pid.to_string()])
        .stdout(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) | Err(_) => Err("taskset (`apt-get install util-linux`) cannot pin a process".to_owned()),
    }
}

/// The names go into a file that `perf` knows to look for.
const PROFILED: [&str; 2] = ["--profile", "perfmap"];

/// How long whoever starts may take until its first answer.
pub(super) const START_LIMIT: Duration = Duration::from_secs(60);

/// The vault that the emulator's proxy stands for.
const VAULT: &str = "https://demo.vault.azure.net";
