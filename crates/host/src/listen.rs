//! The sockets that clients connect to.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::sleep;

use crate::connection::{Accepted, Addresses, Socket};
use crate::log::Log;
use crate::options::Limits;

/// A socket that listens.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, UnixPath),
}

/// The path of a Unix socket, which the host removes at its end if it has made it.
pub struct UnixPath {
    path: PathBuf,
    is_ours: bool,
}

impl Drop for UnixPath {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Listens at the addresses of the command line, or else at the sockets that systemd has passed, or else on loopback: at
/// the port that the Functions host gives, or at 8080.
///
/// # Errors
///
/// Names the address that is taken or wrong.
pub fn listen(addresses: &[String]) -> Result<Vec<Listener>, String> {
    let bind = |address: &str| bind(address).map_err(|error| format!("cannot listen at {address}: {error}"));
    if !addresses.is_empty() {
        return addresses.iter().map(|address| bind(address)).collect();
    }
    let mut passed = ListenFd::from_env();
    if passed.len() > 0 {
        let wrong = |index, error| format!("cannot listen at socket {index} of systemd: {error}");
        let count = passed.len();
        return (0..count)
            .map(|index| take(&mut passed, index).map_err(|error| wrong(index, error)))
            .collect();
    }
    let port = std::env::var(FUNCTIONS_PORT).unwrap_or_else(|_| "8080".to_owned());
    Ok(vec![bind(&format!("127.0.0.1:{port}"))?])
}

fn bind(address: &str) -> io::Result<Listener> {
    if let Some(path) = address.strip_prefix("unix:") {
        let path = PathBuf::from(path);
        remove_stale(&path);
        return Ok(Listener::Unix(UnixListener::bind(&path)?, UnixPath { path, is_ours: true }));
    }
    let wrong = || {
        io::Error::new(io::ErrorKind::InvalidInput, "this is neither an IP address with a port nor unix:path")
    };
    let address: SocketAddr = address.parse().map_err(|_| wrong())?;
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG).map(Listener::Tcp)
}

/// Removes the socket of a process that has ended without removing it.
fn remove_stale(path: &Path) {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        let _ = fs::remove_file(path);
    }
}

/// Takes a socket that systemd has passed (sd_listen_fds(3)).
fn take(passed: &mut ListenFd, index: usize) -> io::Result<Listener> {
    if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
        socket.set_nonblocking(true)?;
        return TcpListener::from_std(socket).map(Listener::Tcp);
    }
    let Some(socket) = passed.take_unix_listener(index)? else { return Err(io::ErrorKind::NotFound.into()) };
    socket.set_nonblocking(true)?;
    let path = socket.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
    Ok(Listener::Unix(UnixListener::from_std(socket)?, UnixPath { path, is_ours: false }))
}

impl Listener {
    /// Returns the address as clients write it.
    pub fn url(&self, tls: bool) -> String {
        match self {
            Self::Tcp(listener) => {
                let address =
                    listener.local_addr().map_or_else(|_| String::new(), |address| address.to_string());
                format!("{}://{address}/", if tls { "https" } else { "http" })
            }
            Self::Unix(_, path) => format!("unix:{}", path.path.display()),
        }
    }

    async fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Socket::Tcp(socket.into_std()?), Some(peer.ip())))
            }
            Self::Unix(listener, _) => Ok((Socket::Unix(listener.accept().await?.0.into_std()?), None)),
        }
    }

    /// Accepts connections and gives them to the threads in turn, until the host stops.
    pub async fn run(
        self,
        limits: Limits,
        connections: Arc<Semaphore>,
        addresses: Addresses,
        threads: Vec<mpsc::UnboundedSender<Accepted>>,
        mut is_stopping: watch::Receiver<bool>,
        log: Log,
    ) {
        let mut stops = pin!(async { drop(is_stopping.wait_for(|is_stopping| *is_stopping).await) });
        let max = limits.max_connections_per_address;
        let mut threads = threads.iter().cycle();
        loop {
            let accepted = async {
                let permit = Arc::clone(&connections).acquire_owned().await;
                (self.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                biased;
                () = &mut stops => return,
                accepted = accepted => accepted,
            };
            match (accepted, permit, threads.next()) {
                (Ok((socket, peer)), Ok(permit), Some(thread)) => {
                    let of_address = peer.filter(|_| max > 0).map(|peer| addresses.admit(peer, max));
                    // A connection too many is closed.
                    if !matches!(of_address, Some(None)) {
                        let _ = thread.send(Accepted { socket, permit, of_address: of_address.flatten() });
                    }
                }
                (Err(error), ..) => {
                    log.error(&format!("a connection could not be accepted: {error}"));
                    sleep(ACCEPT_PAUSE).await;
                }
                _ => return,
            }
        }
    }
}

/// The port that the Functions host gives to a custom handler (Microsoft, "Azure Functions custom handlers", section
/// "Application structure").
const FUNCTIONS_PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";

/// The connections that the system holds until they are accepted: as many as Linux allows by default.
const BACKLOG: u32 = 4096;

/// The wait after a connection that could not be accepted, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
