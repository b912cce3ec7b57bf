//! A proxy that answers for the hosts of Azure itself and opens no connection.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::cloud::{Place, place};
use crate::server;
use crate::{Body, Cut, Emulator, faults, reply};

/// Answers the requests of one connection to the proxy: those that are forwarded and those in a tunnel.
pub(crate) async fn converse(emulator: Emulator, tls: TlsAcceptor, stream: TcpStream) {
    let tunnel: Tunnel = Arc::default();
    let service = service_fn(|request| answer(emulator.clone(), request, tunnel.clone()));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
    // The error is the client's going away, or a fault that was asked for.
    let _ = connection.await;

    let opened = tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some((upgrade, scheme)) = opened else { return };
    let Ok(stream) = upgrade.await else { return };
    let stream = TokioIo::new(stream);
    if scheme == Scheme::HTTP {
        server::converse(emulator, stream, scheme).await;
    } else {
        server::converse_tls(emulator, tls, stream).await;
    }
}

/// The tunnel that a connection has become, and what is spoken in it.
type Tunnel = Arc<Mutex<Option<(OnUpgrade, Scheme)>>>;

async fn answer(
    emulator: Emulator,
    mut request: Request<Incoming>,
    tunnel: Tunnel,
) -> Result<Response<Body>, Cut> {
    if request.method() != Method::CONNECT {
        return emulator.answer(request).await;
    }
    let port = request.uri().port_u16();
    let scheme = if port == Some(80) { Scheme::HTTP } else { Scheme::HTTPS };
    let hosts = emulator.lock().settings.hosts.clone();
    let known = |host| !matches!(place(scheme.as_str(), host, &hosts), Place::Stranger);
    if !request.uri().host().is_some_and(known) {
        return Ok(reply::empty(StatusCode::FORBIDDEN).map(faults::whole));
    }
    let upgrade = hyper::upgrade::on(&mut request);
    *tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, scheme));
    let nothing = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    Ok(Response::new(nothing))
}
