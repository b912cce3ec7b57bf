//! What is measured: the gateway, what its host costs without it, and what a user would write instead.

use crate::client::Target;
use crate::rig::{self, LIVING_ON};
use dev_host::Server;
use keyvault_emulator::{Served, Source};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// One that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contestant {
    /// The smallest component of WASI 0.2 there is, under the flags that README.md recommends.
    FloorProxy,
    /// The gateway, under the same.
    GatewayProxy,
    /// The same two of WASI 0.3.
    FloorService,
    GatewayService,
    /// A native service with Microsoft's clients, as they are documented: it reads the vault each time.
    Native,
    /// The same with a cache of values and single-flight.
    NativeWithCache,
}

impl Contestant {
    /// Those whose warm reads are compared.
    pub(super) const ALL: [Self; 6] = [
        Self::FloorProxy,
        Self::GatewayProxy,
        Self::FloorService,
        Self::GatewayService,
        Self::Native,
        Self::NativeWithCache,
    ];

    /// Those who keep what they have read, or have a token at least.
    pub(super) const READERS: [Self; 4] =
        [Self::GatewayProxy, Self::GatewayService, Self::Native, Self::NativeWithCache];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::FloorProxy => "floor, proxy",
            Self::GatewayProxy => "gateway, proxy",
            Self::FloorService => "floor, service",
            Self::GatewayService => "gateway, service",
            Self::Native => "native service",
            Self::NativeWithCache => "native service with cache",
        }
    }
}

/// The programs of the contestants.
pub(super) struct Programs {
    pub(super) floors: [PathBuf; 2],
    pub(super) gateways: [PathBuf; 2],
    pub(super) native: PathBuf,
}

impl Programs {
    /// Starts a contestant. What it reads is in the emulator.
    pub(super) fn start(
        &self,
        contestant: Contestant,
        served: &Served,
        ca_file: &Path,
    ) -> Result<Running, String> {
        let key = dev_host::random_text()?;
        let ([floor_proxy, floor_service], [proxy, service]) = (&self.floors, &self.gateways);
        let (process, address) = match contestant {
            Contestant::FloorProxy => host(floor_proxy, served, &key),
            Contestant::GatewayProxy => host(proxy, served, &key),
            Contestant::FloorService => host(floor_service, served, &key),
            Contestant::GatewayService => host(service, served, &key),
            Contestant::Native => self.native(&[], served, ca_file, &key),
            Contestant::NativeWithCache => self.native(&["--cache"], served, ca_file, &key),
        }?;
        Ok(Running { contestant, target: Target { address, key }, _process: process })
    }

    fn native(
        &self,
        options: &[&str],
        served: &Served,
        ca_file: &Path,
        key: &str,
    ) -> Result<(Process, SocketAddr), String> {
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
        let address = line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        Ok((process, address.ok_or("the native service does not say where it listens")?))
    }
}

/// The component under `wasmtime serve`.
fn host(component: &Path, served: &Served, key: &str) -> Result<(Process, SocketAddr), String> {
    let launch = rig::launch(component.to_owned())?
        .options(["--allow-precompiled"])
        .options(LIVING_ON)
        .environment(served.settings(Source::AppService2019))
        .environment([
            ("GATEWAY_KEY", key),
            ("GATEWAY_LOG", "error"),
            ("GATEWAY_CALLER_CALLS_PER_SECOND", "0"),
        ]);
    let server = launch.start()?;
    let address = server.address();
    Ok((Process::Host { _server: server }, address))
}

/// A contestant that takes requests. Dropping it ends its process.
pub(super) struct Running {
    pub(super) contestant: Contestant,
    pub(super) target: Target,
    _process: Process,
}

enum Process {
    Host { _server: Server },
    Native(Child),
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

/// The vault that the emulator's proxy stands for.
const VAULT: &str = "https://demo.vault.azure.net";
