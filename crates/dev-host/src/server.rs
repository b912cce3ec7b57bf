//! A component under `wasmtime serve`, as a child process.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, PipeReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How to start a component. It shows none of its environment, which holds credentials.
#[derive(Clone)]
pub struct Launch {
    program: PathBuf,
    component: PathBuf,
    address: SocketAddr,
    options: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    own_environment: Vec<(OsString, OsString)>,
    echo: bool,
}

impl Launch {
    /// The component `component` under `program`, which is the dev-host itself.
    pub fn new(program: impl Into<PathBuf>, component: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            component: component.into(),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            options: Vec::new(),
            environment: Vec::new(),
            own_environment: Vec::new(),
            echo: false,
        }
    }

    /// Listens on this address, and not on a free port of the loopback interface.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Adds options of `wasmtime serve`.
    #[must_use]
    pub fn options<I: IntoIterator<Item: Into<OsString>>>(mut self, options: I) -> Self {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Adds to what the component finds in its environment.
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

    /// Adds to the environment of the host, of which the component learns nothing.
    #[must_use]
    pub fn own_environment(mut self, name: &str, value: &str) -> Self {
        self.own_environment.push((name.into(), value.into()));
        self
    }

    /// Prints the child's lines to standard error and keeps none of them, from when it takes requests.
    #[must_use]
    pub fn echo(mut self) -> Self {
        self.echo = true;
        self
    }

    /// Starts the component and waits until it takes requests. The error has what it printed.
    pub fn start(&self) -> Result<Server, String> {
        let spawned = Server::spawn(self.command(), self.address);
        let mut server = spawned.map_err(|problem| format!("the host cannot be started: {problem}"))?;
        server.wait_until_ready()?;
        // What it prints before this is in the error, if there is one.
        server.lines.lock().echo = self.echo;
        Ok(server)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        // It ends with us, however we do: no other process has the other end of its standard input.
        command.env_clear().stdin(Stdio::piped()).args(["serve", "--until-input-ends"]);
        // Without `cli` a component has no environment.
        command.args(["-S", "cli", "--addr", &self.address.to_string()]);
        command.envs(self.own_environment.iter().map(|(name, value)| (name, value)));
        for (name, value) in &self.environment {
            // The name alone: every process of the machine can read a command line.
            command.env(name, value).arg("--env").arg(name);
        }
        command.args(&self.options).arg(&self.component);
        command
    }
}

/// A component that takes requests. Dropping it ends its process.
pub struct Server {
    child: Child,
    address: SocketAddr,
    lines: Arc<Lines>,
}

impl Server {
    /// The process of this command, which becomes `wasmtime serve` at `address` and need not listen yet. A port of 0 is the one
    /// that it says when it is ready.
    pub fn spawn(mut command: Command, address: SocketAddr) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let child = command.stdout(writer.try_clone()?).stderr(writer).spawn()?;
        // It holds the pipe's writers, which must be closed before the pipe can end.
        drop(command);
        let lines = Arc::new(Lines::default());
        let collected = Arc::clone(&lines);
        thread::spawn(move || collected.collect(reader));
        Ok(Self { child, address, lines })
    }

    /// Waits until it says where it listens.
    pub fn wait_until_ready(&mut self) -> Result<(), String> {
        if let Some(address) = self.lines.wait_for(START_LIMIT, ready) {
            self.address = address;
            return Ok(());
        }
        if !self.lines.lock().ended {
            return Err(format!("the host was not ready after {START_LIMIT:?}:\n{}", self.log().join("\n")));
        }
        let status = self.child.wait().map_err(|problem| problem.to_string())?;
        Err(format!("the host ended ({status}):\n{}", self.log().join("\n")))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The URL of `path`, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The lines it has printed so far, on either stream, but for those that [`Launch::echo`] has shown.
    pub fn log(&self) -> Vec<String> {
        self.lines.lock().lines.clone()
    }

    /// Waits for a line that fits, also among those that were printed before.
    pub fn wait_for_line(&self, limit: Duration, fits: impl Fn(&str) -> bool) -> Option<String> {
        self.lines.wait_for(limit, |line| fits(line).then(|| line.to_owned()))
    }

    /// Ends its process, and returns all the lines that it has printed.
    pub fn end(&mut self) -> Vec<String> {
        // Both fail only where the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _: Option<()> = self.lines.wait_for(START_LIMIT, |_| None);
        self.log()
    }

    /// How its process ended, if it has.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only where the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compiling a component takes about a second of a machine that has nothing else to do; tests run side by side.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The address in the line by which Wasmtime says that it listens.
fn ready(line: &str) -> Option<SocketAddr> {
    line.strip_prefix("Serving HTTP on http://")?.strip_suffix('/')?.parse().ok()
}

/// What a child has printed.
#[derive(Default)]
struct Lines {
    printed: Mutex<Printed>,
    more: Condvar,
}

#[derive(Default)]
struct Printed {
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

    /// Waits for a line that `pick` takes, until the limit or the end of the output.
    fn wait_for<T>(&self, limit: Duration, pick: impl Fn(&str) -> Option<T>) -> Option<T> {
        let (mut seen, mut found) = (0, None);
        let waiting = |printed: &mut Printed| {
            found = printed.lines[seen..].iter().find_map(|line| pick(line));
            seen = printed.lines.len();
            found.is_none() && !printed.ended
        };
        drop(self.more.wait_timeout_while(self.lock(), limit, waiting));
        found
    }

    fn lock(&self) -> MutexGuard<'_, Printed> {
        self.printed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
