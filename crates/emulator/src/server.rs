//! The listeners: plain HTTP, HTTPS, and a proxy that answers for Azure's hosts without outgoing connections.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::cloud::{HostRole, host_role};
use crate::{Body, Cut, Emulator, Source, certificates, faults, response};

/// The addresses of the listeners, on loopback only: every client that connects can use the control routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::Args)]
pub struct Addresses {
    /// Where to listen for plain HTTP; port 0 picks a free port
    #[arg(long, value_name = "ADDRESS", default_value_t = FREE)]
    pub http: SocketAddr,
    /// Where to listen for HTTPS
    #[arg(long, value_name = "ADDRESS", default_value_t = FREE)]
    pub https: SocketAddr,
    /// Where to listen as a proxy for the hosts of Azure
    #[arg(long, value_name = "ADDRESS", default_value_t = FREE)]
    pub proxy: SocketAddr,
}

const FREE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// The running listeners of an emulator. Dropping this closes them and their connections.
pub struct Served {
    pub addresses: Addresses,
    /// The certificate authority, as PEM, that clients must trust for HTTPS and the proxy.
    pub ca_pem: String,
    emulator: Emulator,
    connections: Arc<AtomicUsize>,
    /// Tasks that end when this set is dropped.
    _listeners: JoinSet<()>,
}

impl Served {
    /// Returns the environment for a program that uses plain HTTP: see [`Emulator::settings`].
    pub fn settings(&self, source: Source) -> Vec<(&'static str, String)> {
        self.emulator.settings(source, &self.http_base())
    }

    pub fn http_base(&self) -> String {
        format!("http://{}", self.addresses.http)
    }

    pub fn https_base(&self) -> String {
        format!("https://{}", self.addresses.https)
    }

    /// Returns the number of connections so far, to all listeners.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns the address of the proxy, for `HTTP_PROXY` and `HTTPS_PROXY`.
    pub fn proxy_base(&self) -> String {
        format!("http://{}", self.addresses.proxy)
    }
}

impl Emulator {
    pub async fn serve(&self) -> io::Result<Served> {
        self.serve_at(Addresses { http: FREE, https: FREE, proxy: FREE }).await
    }

    /// Serves on `addresses`. The error names the address that failed.
    pub async fn serve_at(&self, addresses: Addresses) -> io::Result<Served> {
        let (ca_pem, server) = certificates::generate().map_err(io::Error::other)?;
        let http = listen("--http", addresses.http).await?;
        let https = listen("--https", addresses.https).await?;
        let proxy = listen("--proxy", addresses.proxy).await?;
        let addresses =
            Addresses { http: http.local_addr()?, https: https.local_addr()?, proxy: proxy.local_addr()? };
        let mut listeners = JoinSet::new();
        let tls = TlsAcceptor::from(Arc::new(server));
        let connections = Arc::<AtomicUsize>::default();
        let count = || Arc::clone(&connections);

        let emulator = self.clone();
        let serve = move |stream| serve_http(emulator.clone(), stream, Scheme::HTTP);
        listeners.spawn(accept(http, count(), serve));
        let (emulator, acceptor) = (self.clone(), tls.clone());
        let serve = move |stream| serve_tls(emulator.clone(), acceptor.clone(), stream);
        listeners.spawn(accept(https, count(), serve));
        let emulator = self.clone();
        let serve = move |stream| serve_proxy(emulator.clone(), tls.clone(), stream);
        listeners.spawn(accept(proxy, count(), serve));

        Ok(Served { addresses, ca_pem, emulator: self.clone(), connections, _listeners: listeners })
    }
}

/// Binds a listener on loopback; `option` names it in errors.
async fn listen(option: &str, address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let message = format!(
            "{option} {address} is not on loopback: every client that connects can use the control routes"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| {
        io::Error::new(error.kind(), format!("{option} cannot listen on {address}: {error}"))
    })
}

/// Serves one connection. The scheme of its requests is that of the connection.
async fn serve_http<S>(emulator: Emulator, stream: S, scheme: Scheme)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (emulator, scheme) = (emulator.clone(), scheme.clone());
        async move { emulator.answer(with_absolute_uri(request, scheme)).await }
    });
    // An error means that the client disconnected or that a fault cut the connection.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn serve_tls<S>(emulator: Emulator, tls: TlsAcceptor, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The handshake fails if the client does not trust the certificate.
    if let Ok(stream) = tls.accept(stream).await {
        serve_http(emulator, stream, Scheme::HTTPS).await;
    }
}

/// Makes a URI absolute, with the scheme of the connection and, if needed, the `Host` header.
fn with_absolute_uri(mut request: Request<Incoming>, scheme: Scheme) -> Request<Incoming> {
    let host = request.headers().get("host").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(scheme);
    parts.authority = parts.authority.or_else(|| host.parse().ok());
    // Without a valid host the request stays unchanged and gets a 400 or a 421.
    if let Ok(uri) = http::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// Serves one connection to the proxy: forwarded requests, or a `CONNECT` tunnel.
async fn serve_proxy(emulator: Emulator, tls: TlsAcceptor, stream: TcpStream) {
    let tunnel: Tunnel = Arc::default();
    let service = service_fn(|request| answer_proxy(emulator.clone(), request, tunnel.clone()));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    // An error means that the client disconnected or that a fault cut the connection.
    let _ = connection.await;

    let opened = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((upgrade, scheme)) = opened else { return };
    let Ok(stream) = upgrade.await else { return };
    let stream = TokioIo::new(stream);
    if scheme == Scheme::HTTP {
        serve_http(emulator, stream, scheme).await;
    } else {
        serve_tls(emulator, tls, stream).await;
    }
}

/// The tunnel of a connection after `CONNECT`, and the scheme inside the tunnel.
type Tunnel = Arc<Mutex<Option<(OnUpgrade, Scheme)>>>;

async fn answer_proxy(
    emulator: Emulator,
    mut request: Request<Incoming>,
    tunnel: Tunnel,
) -> Result<Response<Body>, Cut> {
    if request.method() != Method::CONNECT {
        return emulator.answer(request).await;
    }
    let port = request.uri().port_u16();
    let scheme = if port == Some(80) { Scheme::HTTP } else { Scheme::HTTPS };
    let is_known = |host| !matches!(host_role(scheme.as_str(), host), HostRole::Unknown);
    if !request.uri().host().is_some_and(is_known) {
        return Ok(response::empty(StatusCode::FORBIDDEN).map(faults::full_body));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, scheme));
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    Ok(Response::new(body))
}

/// Accepts connections until this future is dropped, which closes them.
async fn accept<F>(listener: TcpListener, count: Arc<AtomicUsize>, serve: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    count.fetch_add(1, Ordering::Relaxed);
                    // A failure costs latency only.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(serve(stream));
                }
                // Too many open files: wait until a connection closes.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
