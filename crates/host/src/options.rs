//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// Serves secrets of Azure Key Vault to callers that hold no credential of Azure
///
/// The settings are environment variables, or files of these names in the folder that CREDENTIALS_DIRECTORY
/// names.
///
/// Exit codes: 0 after a stop, 1 if the gateway cannot start or run, 2 for a wrong option or setting.
#[derive(Clone, Debug, clap::Parser)]
#[command(name = "keyvault-gateway", version)]
pub struct Options {
    /// An address to listen on, of IP and port, or unix: and a path; may be repeated [default: the sockets of
    /// systemd, else 127.0.0.1 with the port of FUNCTIONS_CUSTOMHANDLER_PORT, else 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,

    /// A PEM file with the certificate chain for TLS; read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// A PEM file with the private key for TLS; read again on SIGHUP
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// A PEM file with additional certification authorities for calls to Azure; may be repeated
    #[arg(long, value_name = "FILE")]
    pub ca_file: Vec<PathBuf>,

    /// A directory that the component may read, for its token files [default: that of
    /// AZURE_FEDERATED_TOKEN_FILE if the token source needs it, else none]
    #[arg(long, value_name = "DIRECTORY")]
    pub token_directory: Option<PathBuf>,

    /// The number of threads. Each has an instance with a cache of its own
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    pub threads: NonZeroUsize,

    /// Check the settings, print what they mean and exit
    #[arg(long)]
    pub check: bool,

    /// The component, a .wasm file, in place of the embedded one
    #[arg(long, value_name = "FILE")]
    pub component: Option<PathBuf>,

    /// Compile the component for any CPU of this architecture, write the code to this file and exit
    #[cfg(feature = "compile")]
    #[arg(long, value_name = "FILE", requires = "component")]
    pub compile_to: Option<PathBuf>,

    #[command(flatten)]
    pub limits: Limits,
}

/// The limits of clients and of instances.
#[derive(Clone, Debug, clap::Args)]
pub struct Limits {
    /// The time for a TLS handshake, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub handshake_seconds: Duration,

    /// The time for the head of a request, from its first byte; on a new connection from its start
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub header_seconds: Duration,

    /// The time for a client to take a reply
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub reply_seconds: Duration,

    // More than the four minutes after which a load balancer of Azure drops an idle connection by default, so
    // that it is not the server that closes a connection just when a request comes (Microsoft, "Configure TCP
    // reset and idle timeout for Azure Load Balancer").
    /// The time after which a connection without a request is closed
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = seconds)]
    pub idle_seconds: Duration,

    /// The maximum of connections; further ones wait to be accepted
    #[arg(long, value_name = "NUMBER", default_value = "10000")]
    pub max_connections: NonZeroUsize,

    /// The maximum of connections from one address; 0 for no maximum, as behind a proxy all have one
    #[arg(long, value_name = "NUMBER", default_value = "0")]
    pub max_connections_per_address: usize,

    /// The maximum of requests in progress; further ones get 503
    #[arg(long, value_name = "NUMBER", default_value = "1000")]
    pub max_requests: NonZeroUsize,

    /// The time for requests in progress after SIGTERM [default: GATEWAY_DEADLINE_SECONDS and 5 seconds]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub grace_seconds: Option<Duration>,

    /// The memory of an instance in MiB; an instance that comes near it is replaced
    #[arg(long, value_name = "MIB", default_value = "64", value_parser = clap::value_parser!(u32).range(8..=4096))]
    pub max_memory: u32,

    /// The number of requests after which an instance is replaced
    #[arg(long, value_name = "NUMBER", default_value = "10000000", value_parser = clap::value_parser!(u64).range(1..))]
    pub instance_requests: u64,
}

/// Parses a limit of time: up to a day, so that no sum of times overflows.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| "must be whole seconds from 1 to 86400".to_owned())
}
