//! The measured programs: the gateway, its host alone (the floor), and native services.

use crate::client::Target;
use crate::stack::{self, INSTANCE_REUSE};
use dev_host::{Host, Launch, Server};
use keyvault_emulator::{Served, Source};
use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A program that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Contestant {
    /// The smallest component of WASI 0.2, with the options that README.md recommends.
    FloorProxy,
    /// The gateway of WASI 0.2, with the same options.
    GatewayProxy,
    /// The smallest component of WASI 0.3.
    FloorService,
    GatewayService,
    /// The same component on the gateway's own host, with its default limits.
    OwnHost,
    /// A native service with Microsoft's clients as documented: it reads the vault for each request.
    Native,
    /// The native service with a value cache and single-flight.
    NativeWithCache,
}

impl Contestant {
    /// All contestants, which take part in warm reads, and their names, in the order of the variants.
    pub(super) const ALL: [(Self, &'static str); 7] = [
        (Self::FloorProxy, "floor, proxy"),
        (Self::GatewayProxy, "gateway, proxy"),
        (Self::FloorService, "floor, service"),
        (Self::GatewayService, "gateway, service"),
        (Self::OwnHost, "gateway, own host"),
        (Self::Native, "native service"),
        (Self::NativeWithCache, "native service with cache"),
    ];

    /// The contestants of cold reads: those that read the vault and keep their token.
    pub(super) const READERS: [Self; 5] =
        [Self::GatewayProxy, Self::GatewayService, Self::OwnHost, Self::Native, Self::NativeWithCache];

    pub(super) const fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// The programs of the contestants.
pub(super) struct Programs {
    /// The components of the first four contestants, compiled to machine code.
    pub(super) components: Vec<PathBuf>,
    /// The own host with the component embedded.
    pub(super) own_host: PathBuf,
    pub(super) native: PathBuf,
    /// The emulator that they read from, and the file with its certificate.
    pub(super) served: Served,
    pub(super) ca_file: PathBuf,
}

impl Programs {
    pub(super) fn start(&self, contestant: Contestant) -> Result<Running, String> {
        let key = dev_host::random_key()?;
        let server = match contestant {
            Contestant::OwnHost => {
                let launch = own_host(&self.own_host, &self.served, &self.ca_file, &key);
                launch.environment(QUIET).start()
            }
            Contestant::Native => self.start_native(&[], &key),
            Contestant::NativeWithCache => self.start_native(&["--cache"], &key),
            component => host(&self.components[component as usize], &self.served, &key),
        }?;
        Ok(Running { contestant, target: Target { address: server.address(), key }, server })
    }

    /// Starts the native service, which prints its address in the form of `wasmtime serve`.
    fn start_native(&self, options: &[&str], key: &str) -> Result<Server, String> {
        let (served, mut command) = (&self.served, Command::new(&self.native));
        command.args(options).stdin(Stdio::null()).env_clear().envs(served.settings(Source::AppService2019));
        command.env("KEY_VAULT_URI", VAULT).env("GATEWAY_KEY", key).env("CA_FILE", &self.ca_file);
        command.env("HTTPS_PROXY", served.proxy_base()).env("NO_PROXY", "127.0.0.1");
        let server = Server::spawn(command, (Ipv4Addr::LOCALHOST, 0).into());
        let mut server = server.map_err(|error| format!("the native service cannot be started: {error}"))?;
        server.wait_until_ready()?;
        Ok(server)
    }
}

/// Starts a component under `wasmtime serve`.
fn host(component: &Path, served: &Served, key: &str) -> Result<Server, String> {
    let launch = stack::launch(component.to_owned())?.options(["--allow-precompiled"]);
    let launch = launch.options(INSTANCE_REUSE);
    let launch = launch.environment(served.settings(Source::AppService2019)).environment(QUIET);
    launch.environment([("GATEWAY_KEY", key)]).start()
}

/// Prepares the start of the own host, which reaches the vault by TLS through the proxy, as native services do.
pub(super) fn own_host(program: &Path, served: &Served, ca_file: &Path, key: &str) -> Launch {
    let launch =
        Launch::new(program, "").host(Host::Embedded).options([OsStr::new("--ca-file"), ca_file.as_os_str()]);
    launch.environment(served.settings(Source::AppService2019)).environment([
        ("GATEWAY_KEY", key),
        ("KeyVaultUri", VAULT),
        ("HTTPS_PROXY", &served.proxy_base()),
    ])
}

/// The settings of the gateway under load.
pub(super) const QUIET: [(&str, &str); 2] =
    [("GATEWAY_LOG", "error"), ("GATEWAY_CALLER_CALLS_PER_SECOND", "0")];

/// A running contestant. Dropping it ends its process.
pub(super) struct Running {
    pub(super) contestant: Contestant,
    pub(super) target: Target,
    pub(super) server: Server,
}

/// The vault whose requests the emulator's proxy answers.
const VAULT: &str = "https://demo.vault.azure.net";
