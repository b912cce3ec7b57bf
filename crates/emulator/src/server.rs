//! The listeners: plain HTTP, HTTPS, and a proxy that answers for the hosts of Azure itself and opens no connection.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
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

use crate::certificates::Certificates;
use crate::cloud::{Place, place};
use crate::{Body, Cut, Emulator, Source, faults, reply};

/// Where to listen: on loopback, as every client that can connect has the secrets and the control routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub proxy: SocketAddr,
}

impl Default for Addresses {
    fn default() -> Self {
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self { http: free, https: free, proxy: free }
    }
}

/// An emulator that is served. Dropping it closes the listeners and their connections.
#[derive(Debug)]
pub struct Served {
    pub addresses: Addresses,
    /// The certificate, in PEM, that clients must trust for HTTPS and behind the proxy.
    pub ca_pem: String,
    emulator: Emulator,
    /// Aborted when they are dropped.
    _listeners: JoinSet<()>,
}

impl Served {
    /// The environment that leads a program here by plain HTTP: see [`Emulator::settings`].
    pub fn settings(&self, source: Source) -> Vec<(&'static str, String)> {
        self.emulator.settings(source, &self.http_base())
    }

    pub fn http_base(&self) -> String {
        format!("http://{}", self.addresses.http)
    }

    pub fn https_base(&self) -> String {
        format!("https://{}", self.addresses.https)
    }

    /// The address of the proxy, for `HTTP_PROXY` and `HTTPS_PROXY`. It answers itself for every host of Azure
    /// that is emulated, and opens no connection.
    pub fn proxy_base(&self) -> String {
        format!("http://{}", self.addresses.proxy)
    }
}

impl Emulator {
    pub async fn serve(&self) -> io::Result<Served> {
        self.serve_at(Addresses::default()).await
    }

    /// Serves on these addresses. The error says which of them it is about.
    pub async fn serve_at(&self, addresses: Addresses) -> io::Result<Served> {
        let certificates = Certificates::new()?;
        let http = listen("--http", addresses.http).await?;
        let https = listen("--https", addresses.https).await?;
        let proxy = listen("--proxy", addresses.proxy).await?;
        let addresses =
            Addresses { http: http.local_addr()?, https: https.local_addr()?, proxy: proxy.local_addr()? };
        let mut listeners = JoinSet::new();
        let tls = TlsAcceptor::from(Arc::new(certificates.server));

        let emulator = self.clone();
        listeners.spawn(accept(http, move |it| converse(emulator.clone(), it, Scheme::HTTP)));
        let (emulator, acceptor) = (self.clone(), tls.clone());
        listeners.spawn(accept(https, move |it| converse_tls(emulator.clone(), acceptor.clone(), it)));
        let emulator = self.clone();
        listeners.spawn(accept(proxy, move |it| converse_as_proxy(emulator.clone(), tls.clone(), it)));

        Ok(Served { addresses, ca_pem: certificates.ca_pem, emulator: self.clone(), _listeners: listeners })
    }
}

/// A listener on loopback; `option` is what the program calls it.
async fn listen(option: &str, address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_loopback() {
        let sentence = format!(
            "{option} cannot be {address}, which is not on loopback: every client that can connect has the \
             secrets and the control routes"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, sentence));
    }
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| {
        io::Error::new(error.kind(), format!("{option} cannot listen on {address}: {error}"))
    })
}

/// Answers the requests of one connection. Their scheme is this connection's, whatever they say.
async fn converse<S>(emulator: Emulator, stream: S, scheme: Scheme)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let (emulator, scheme) = (emulator.clone(), scheme.clone());
        async move { emulator.answer(absolute(request, scheme)).await }
    });
    // The error is the client's going away, or a fault that was asked for.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn converse_tls<S>(emulator: Emulator, tls: TlsAcceptor, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // A client that does not trust the certificate ends here.
    if let Ok(stream) = tls.accept(stream).await {
        converse(emulator, stream, Scheme::HTTPS).await;
    }
}

/// Writes the scheme of the connection into the address of a request, and the `Host` if that has only a path.
fn absolute(mut request: Request<Incoming>, scheme: Scheme) -> Request<Incoming> {
    let host = request.headers().get("host").and_then(|it| it.to_str().ok()).unwrap_or_default();
    let mut parts = request.uri().clone().into_parts();
    parts.scheme = Some(scheme);
    parts.authority = parts.authority.or_else(|| host.parse().ok());
    // Without a proper host the request stays as it is, and no host takes it.
    if let Ok(uri) = http::Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    request
}

/// Answers the requests of one connection to the proxy: those that are forwarded and those in a tunnel.
async fn converse_as_proxy(emulator: Emulator, tls: TlsAcceptor, stream: TcpStream) {
    let tunnel: Tunnel = Arc::default();
    let service = service_fn(|request| answer_as_proxy(emulator.clone(), request, tunnel.clone()));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    // The error is the client's going away, or a fault that was asked for.
    let _ = connection.await;

    let opened = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((upgrade, scheme)) = opened else { return };
    let Ok(stream) = upgrade.await else { return };
    let stream = TokioIo::new(stream);
    if scheme == Scheme::HTTP {
        converse(emulator, stream, scheme).await;
    } else {
        converse_tls(emulator, tls, stream).await;
    }
}

/// The tunnel that a connection has become, and what is spoken in it.
type Tunnel = Arc<Mutex<Option<(OnUpgrade, Scheme)>>>;

async fn answer_as_proxy(
    emulator: Emulator,
    mut request: Request<Incoming>,
    tunnel: Tunnel,
) -> Result<Response<Body>, Cut> {
    if request.method() != Method::CONNECT {
        return emulator.answer(request).await;
    }
    let port = request.uri().port_u16();
    let scheme = if port == Some(80) { Scheme::HTTP } else { Scheme::HTTPS };
    let known = |host| !matches!(place(scheme.as_str(), host), Place::Stranger);
    if !request.uri().host().is_some_and(known) {
        return Ok(reply::empty(StatusCode::FORBIDDEN).map(faults::whole));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, scheme));
    let nothing = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    Ok(Response::new(nothing))
}

/// Takes connections until it is dropped, and then drops them.
async fn accept<F>(listener: TcpListener, converse: impl Fn(TcpStream) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    // Only latency depends on it.
                    let _ = stream.set_nodelay(true);
                    connections.spawn(converse(stream));
                }
                // There are too many open files; some of them will be closed.
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
