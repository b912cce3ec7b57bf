//! The sockets that clients connect to.

use std::env;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdTcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::sleep;

use crate::connection::{Accepted, Addresses, Socket};
use crate::log::Log;
use crate::options::{Address, Limits};

/// A socket that listens.
pub enum Listener {
    Tcp(TcpListener, SocketAddr),
    #[cfg(unix)]
    Unix(UnixListener, UnixPath),
}

/// The path of a Unix socket, which is removed with it if the host has made it.
#[cfg(unix)]
pub struct UnixPath {
    path: PathBuf,
    is_ours: bool,
}

#[cfg(unix)]
impl Drop for UnixPath {
    fn drop(&mut self) {
        if self.is_ours {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens at the addresses of the command line, or else at the sockets that systemd has passed, or else on loopback: at
/// the port of the Functions host, or at 8080.
///
/// # Errors
///
/// Names the address that is taken or wrong.
pub fn listen(addresses: &[Address]) -> Result<Vec<Listener>, String> {
    let passed = if addresses.is_empty() { passed_sockets()? } else { Vec::new() };
    if !passed.is_empty() {
        return Ok(passed);
    }
    if !addresses.is_empty() {
        return addresses.iter().map(bind).collect();
    }
    let port = match env::var(FUNCTIONS_PORT) {
        Ok(port) => port.parse().map_err(|_| format!("{FUNCTIONS_PORT} must be a port"))?,
        Err(_) => DEFAULT_PORT,
    };
    Ok(vec![bind(&Address::Tcp((Ipv4Addr::LOCALHOST, port).into()))?])
}

fn bind(address: &Address) -> Result<Listener, String> {
    match address {
        Address::Tcp(address) => {
            let socket = match address {
                SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
                SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
            };
            let listener = socket.and_then(|socket| {
                #[cfg(unix)]
                socket.set_reuseaddr(true)?;
                socket.bind(*address)?;
                let listener = socket.listen(BACKLOG)?;
                let address = listener.local_addr()?;
                Ok(Listener::Tcp(listener, address))
            });
            listener.map_err(|error| format!("cannot listen at {address}: {error}"))
        }
        #[cfg(unix)]
        Address::Unix(path) => {
            remove_stale(path);
            let listener = UnixListener::bind(path);
            let listener =
                listener.map_err(|error| format!("cannot listen at {}: {error}", path.display()))?;
            Ok(Listener::Unix(listener, UnixPath { path: path.clone(), is_ours: true }))
        }
        #[cfg(not(unix))]
        Address::Unix(path) => {
            Err(format!("cannot listen at {}: this system has no Unix sockets", path.display()))
        }
    }
}

/// Removes the socket of a process that has ended without removing it.
#[cfg(unix)]
fn remove_stale(path: &Path) {
    use std::os::unix::fs::FileTypeExt as _;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        let _ = std::fs::remove_file(path);
    }
}

/// Returns the sockets that systemd has passed (sd_listen_fds(3)).
#[cfg(unix)]
fn passed_sockets() -> Result<Vec<Listener>, String> {
    let mut passed = listenfd::ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        let wrong = |error: std::io::Error| format!("the socket {index} of systemd cannot be used: {error}");
        let listener = if let Ok(Some(socket)) = passed.take_tcp_listener(index) {
            from_std(socket)
        } else if let Ok(Some(socket)) = passed.take_unix_listener(index) {
            let path = socket.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_owned));
            let path = UnixPath { path: path.unwrap_or_default(), is_ours: false };
            socket
                .set_nonblocking(true)
                .and_then(|()| UnixListener::from_std(socket))
                .map(|socket| Listener::Unix(socket, path))
        } else {
            return Err(format!("the socket {index} of systemd is no stream socket that listens"));
        };
        listeners.push(listener.map_err(wrong)?);
    }
    Ok(listeners)
}

#[cfg(unix)]
fn from_std(socket: StdTcpListener) -> std::io::Result<Listener> {
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    TcpListener::from_std(socket).map(|socket| Listener::Tcp(socket, address))
}

#[cfg(not(unix))]
fn passed_sockets() -> Result<Vec<Listener>, String> {
    Ok(Vec::new())
}

impl Listener {
    /// Returns the address as clients write it.
    pub fn url(&self, tls: bool) -> String {
        match self {
            Self::Tcp(_, address) => format!("{}://{address}/", if tls { "https" } else { "http" }),
            #[cfg(unix)]
            Self::Unix(_, path) => format!("unix:{}", path.path.display()),
        }
    }

    async fn accept(&self) -> std::io::Result<(Socket, Option<std::net::IpAddr>)> {
        match self {
            Self::Tcp(listener, _) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Socket::Tcp(socket.into_std()?), Some(peer.ip())))
            }
            #[cfg(unix)]
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
        let mut stops =
            std::pin::pin!(async { drop(is_stopping.wait_for(|is_stopping| *is_stopping).await) });
        let mut next = threads.iter().cycle();
        loop {
            let accepted = async {
                let permit = Arc::clone(&connections).acquire_owned().await;
                (self.accept().await, permit)
            };
            let accepted = tokio::select! {
                biased;
                () = &mut stops => return,
                accepted = accepted => accepted,
            };
            let (socket, peer, permit) = match accepted {
                (Ok((socket, peer)), Ok(permit)) => (socket, peer, permit),
                (Err(error), _) => {
                    log.error(&format!("a connection could not be accepted: {error}"));
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
                (_, Err(_)) => return,
            };
            let max = limits.max_connections_per_address;
            let of_address = match peer.filter(|_| max > 0) {
                Some(peer) => match addresses.admit(peer, max) {
                    // The connection is closed.
                    None => continue,
                    counted => counted,
                },
                None => None,
            };
            if let Some(thread) = next.next() {
                let _ = thread.send(Accepted { socket, permit, of_address });
            }
        }
    }
}

/// The port that the Functions host gives to a custom handler (Microsoft, "Azure Functions custom handlers", section
/// "Application structure").
const FUNCTIONS_PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";

const DEFAULT_PORT: u16 = 8080;

/// The connections that the system holds until they are accepted: as many as Linux allows by default.
const BACKLOG: u32 = 4096;

/// The wait after a connection that could not be accepted, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
