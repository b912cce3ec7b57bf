//! The sockets that clients connect to.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::sleep;

use crate::connection::{Accepted, Addresses, Socket};
use crate::log::Log;

/// A socket that listens.
pub enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// What the listeners have in common.
#[derive(Clone)]
pub struct Acceptor {
    pub connections: Arc<Semaphore>,
    pub addresses: Addresses,
    pub max_of_address: usize,
    pub threads: Vec<mpsc::UnboundedSender<Accepted>>,
    pub is_stopping: watch::Receiver<bool>,
    pub log: Log,
}

/// Listens at the addresses of the command line, or else at the sockets that systemd has passed, or else on
/// loopback: at the port that the Functions host gives, or at 8080. An error names the address that is taken
/// or wrong.
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
        remove_stale(Path::new(path));
        return UnixListener::bind(path).map(Listener::Unix);
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
    UnixListener::from_std(socket).map(Listener::Unix)
}

impl Listener {
    /// Returns the address as clients write it.
    pub fn url(&self, tls: bool) -> io::Result<String> {
        Ok(match self {
            Self::Tcp(listener) if tls => format!("https://{}/", listener.local_addr()?),
            Self::Tcp(listener) => format!("http://{}/", listener.local_addr()?),
            Self::Unix(listener) => {
                let path = listener.local_addr()?.as_pathname().map(Path::to_owned).unwrap_or_default();
                format!("unix:{}", path.display())
            }
        })
    }

    async fn accept(&self) -> io::Result<(Socket, Option<IpAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                Ok((Socket::Tcp(socket.into_std()?), Some(peer.ip())))
            }
            Self::Unix(listener) => Ok((Socket::Unix(listener.accept().await?.0.into_std()?), None)),
        }
    }

    /// Accepts connections and gives them to the threads in turn, until the host stops.
    pub async fn run(self, acceptor: Acceptor) {
        let Acceptor { connections, addresses, max_of_address, threads, mut is_stopping, log } = acceptor;
        let mut stops = pin!(async { drop(is_stopping.wait_for(|is_stopping| *is_stopping).await) });
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
                    let counted = peer.filter(|_| max_of_address > 0);
                    let of_address = counted.map(|peer| addresses.admit(peer, max_of_address));
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

/// The port that the Functions host gives to a custom handler (Microsoft, "Azure Functions custom handlers",
/// section "Application structure").
const FUNCTIONS_PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";

/// The connections that the system holds until they are accepted: as many as Linux allows by default.
const BACKLOG: u32 = 4096;

/// The wait after a connection that could not be accepted, as when no file can be opened.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
