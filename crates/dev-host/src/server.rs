//! A component as a child process, under `wasmtime serve` or under the gateway's own host.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, PipeReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The parameters of a start. It has no `Debug`, because the environment holds credentials.
#[derive(Clone)]
pub struct Launch {
    program: PathBuf,
    component: PathBuf,
    address: SocketAddr,
    options: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    host_environment: Vec<(OsString, OsString)>,
    echo: bool,
    host: Host,
}

/// The host that runs a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Host {
    /// Wasmtime's own `serve` command
    Wasmtime,
    /// The gateway's own host
    Gateway,
    /// The gateway's own host as a program of its own, with the component embedded
    #[value(skip)]
    Embedded,
}

impl Host {
    /// The name of the host that commands choose. The own host is for Linux and macOS.
    pub const DEFAULT: &str = if cfg!(unix) { "gateway" } else { "wasmtime" };
}

impl Launch {
    /// Prepares the start of `component` under `program`, which is the dev-host, or the own host with it embedded.
    pub fn new(program: impl Into<PathBuf>, component: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            component: component.into(),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            options: Vec::new(),
            environment: Vec::new(),
            host_environment: Vec::new(),
            echo: false,
            host: Host::Wasmtime,
        }
    }

    /// Sets the host. The default is `wasmtime serve`.
    #[must_use]
    pub fn host(mut self, host: Host) -> Self {
        self.host = host;
        self
    }

    /// Sets the address to listen on. The default is a free port of the loopback interface.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Adds options of the host.
    #[must_use]
    pub fn options<I: IntoIterator<Item: Into<OsString>>>(mut self, options: I) -> Self {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Adds environment variables of the component.
    #[must_use]
    pub fn environment<I, N, V>(mut self, variables: I) -> Self
    where
        I: IntoIterator<Item = (N, V)>,
        N: Into<OsString>,
        V: Into<OsString>,
    {
        self.environment.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Adds an environment variable of the host that the component does not see.
    #[must_use]
    pub fn host_environment(mut self, name: &str, value: &str) -> Self {
        self.host_environment.push((name.into(), value.into()));
        self
    }

    /// Prints the child's lines to standard error once it is ready, and does not keep them.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Starts the component and waits until it is ready. The error contains the child's output.
    pub fn start(&self) -> Result<Server, String> {
        let spawned = Server::spawn(self.command(), self.address);
        let mut server = spawned.map_err(|error| format!("the host cannot be started: {error}"))?;
        server.wait_until_ready()?;
        // Lines from before this point are kept: they belong to the error.
        server.lines.lock().echo = self.echo;
        Ok(server)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // The child exits with this process: no other process holds the other end of its standard input.
        command.env_clear().env(UNTIL_INPUT_ENDS, "1").stdin(Stdio::piped());
        let variables = self.host_environment.iter().chain(&self.environment);
        command.envs(variables.map(|(name, value)| (name, value)));
        let address = self.address.to_string();
        match self.host {
            Host::Wasmtime => {
                // Without `cli` a component has no environment.
                command.args(["serve", "-S", "cli", "--addr", &address]);
                // Only the name is an argument: every process of the machine can read a command line.
                command.args(self.environment.iter().flat_map(|(name, _)| [OsStr::new("--env"), name]));
                command.args(&self.options).arg(&self.component);
            }
            Host::Gateway | Host::Embedded => {
                if self.host == Host::Gateway {
                    command.args(["gateway", "--component"]).arg(&self.component);
                }
                command.args(["--listen", &address]).args(&self.options);
            }
        }
        command
    }
}

/// If this variable is set the dev-host exits when its standard input closes, and so with its parent process.
pub const UNTIL_INPUT_ENDS: &str = "DEV_HOST_UNTIL_INPUT_ENDS";

/// A component that accepts requests. Dropping it ends its process.
pub struct Server {
    child: Child,
    address: SocketAddr,
    lines: Arc<Lines>,
}

impl Server {
    /// Starts the process of this command, which becomes a server at `address` and need not listen yet. If
    /// the port is 0, the server prints its address when it is ready.
    pub fn spawn(mut command: Command, address: SocketAddr) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        // The command holds writers of the pipe; the pipe ends only after they are closed.
        drop(command);
        let lines = Arc::new(Lines::default());
        let collected = Arc::clone(&lines);
        thread::spawn(move || collected.collect(reader));
        Ok(Self { child, address, lines })
    }

    /// Waits until the server prints its address.
    pub fn wait_until_ready(&mut self) -> Result<(), String> {
        if let Some(address) = self.lines.wait_for(START_LIMIT, parse_address) {
            self.address = address;
            return Ok(());
        }
        if !self.lines.lock().ended {
            return Err(format!("the host was not ready after {START_LIMIT:?}:\n{}", self.log().join("\n")));
        }
        let status = self.child.wait().map_err(|error| error.to_string())?;
        Err(format!("the host exited ({status}):\n{}", self.log().join("\n")))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the URL of `path`, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the lines of both output streams so far, except those that [`Launch::echo`] has printed.
    pub fn log(&self) -> Vec<String> {
        self.lines.lock().lines.clone()
    }

    /// Waits for a matching line, including earlier lines.
    pub fn wait_for_line(&self, limit: Duration, fits: impl Fn(&str) -> bool) -> Option<String> {
        self.lines.wait_for(limit, |line| fits(line).then(|| line.to_owned()))
    }

    /// Ends the process and returns all its lines.
    pub fn stop(&mut self) -> Vec<String> {
        // Both calls fail only if the process has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _: Option<()> = self.lines.wait_for(START_LIMIT, |_| None);
        self.log()
    }

    /// Returns the exit status if the process has exited.
    pub fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both calls fail only if the process has exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The timeout of a start. A compilation takes a second on an idle machine, and tests run in parallel.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Parses the address from the line that both hosts print when they listen.
fn parse_address(line: &str) -> Option<SocketAddr> {
    let (_, address) = line.strip_prefix("Serving HTTP on http")?.split_once("://")?;
    address.strip_suffix('/')?.parse().ok()
}

/// The output of a child process.
#[derive(Default)]
struct Lines {
    printed: Mutex<Output>,
    more: Condvar,
}

#[derive(Default)]
struct Output {
    lines: Vec<String>,
    ended: bool,
    echo: bool,
}

impl Lines {
    fn collect(&self, reader: PipeReader) {
        for bytes in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&bytes).into_owned();
            let mut printed = self.lock();
            if printed.echo {
                eprintln!("{line}");
            } else {
                printed.lines.push(line);
            }
            drop(printed);
            self.more.notify_all();
        }
        self.lock().ended = true;
        self.more.notify_all();
    }

    /// Waits for a line that `pick` accepts, until the limit or the end of the output.
    fn wait_for<T>(&self, limit: Duration, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (mut seen, mut found) = (0, None);
        let waiting = |printed: &mut Output| {
            found = printed.lines[seen..].iter().find_map(|line| pick(line));
            seen = printed.lines.len();
            found.is_none() && !printed.ended
        };
        drop(self.more.wait_timeout_while(self.lock(), limit, waiting));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Output> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
