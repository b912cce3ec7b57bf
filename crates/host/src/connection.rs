//! A client's connection: its protocol, its requests and its limits.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use keyvault_gateway::http::request::MAX_BODY;
use keyvault_gateway::http::response::Reply;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::io::InspectReader;
use wasmtime_wasi_http::Error;

use crate::instance::{Job, JobBody};
use crate::options::Limits;
use crate::worker::Queue;

/// A new connection. Its socket is not yet known to the runtime of the thread that serves it.
pub struct Accepted {
    pub socket: Socket,
    /// One of the connections that may be open.
    pub permit: OwnedSemaphorePermit,
    /// One of the connections that its address may have.
    pub of_address: Option<Arc<()>>,
}

pub enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// What all connections have in common.
pub struct Clients {
    pub tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    /// Becomes true when no connection should take another request.
    pub is_stopping: watch::Receiver<bool>,
    pub requests: Arc<Semaphore>,
}

impl Clients {
    /// Serves a connection to its end. A connection that fails ends, and nothing else happens.
    pub async fn serve(&self, accepted: Accepted, limits: &Limits, queue: &Arc<Queue>) {
        let Accepted { socket, permit, of_address } = accepted;
        match socket {
            Socket::Tcp(socket) => {
                let Ok(stream) = TcpStream::from_std(socket) else { return };
                // The bound of a request's time matters more than the number of packets.
                let _ = stream.set_nodelay(true);
                let tls = self.tls.borrow().clone();
                match tls {
                    Some(tls) => {
                        let handshake = TlsAcceptor::from(tls).accept(stream);
                        if let Ok(Ok(stream)) = timeout(limits.handshake_seconds, handshake).await {
                            self.speak(stream, limits, queue).await;
                        }
                    }
                    None => self.speak(stream, limits, queue).await,
                }
            }
            Socket::Unix(socket) => {
                if let Ok(stream) = UnixStream::from_std(socket) {
                    self.speak(stream, limits, queue).await;
                }
            }
        }
        drop((permit, of_address));
    }

    async fn speak<S>(&self, stream: S, limits: &Limits, queue: &Arc<Queue>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let activity = Arc::new(Activity::new());
        let mut builder = Builder::new(TokioExecutor::new());
        // The limit for heads is that of `Activity`, as hyper's begins when it waits for a head and not with the head.
        builder.http1().header_read_timeout(None).max_buf_size(MAX_HEAD);
        builder.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEAD as u32);
        builder.http2().max_concurrent_streams(MAX_STREAMS).keep_alive_interval(limits.idle_seconds);
        let service = service_fn(|request| {
            let activity = Arc::clone(&activity);
            let (queue, requests) = (Arc::clone(queue), Arc::clone(&self.requests));
            async move {
                let _busy = activity.begin(request.version());
                Ok::<_, Infallible>(respond(request, &queue, requests).await)
            }
        });
        let watched = Arc::clone(&activity);
        let stream = InspectReader::new(stream, move |bytes| watched.received(bytes));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut is_stopping = self.is_stopping.clone();
        let mut stops = pin!(async { drop(is_stopping.wait_for(|is_stopping| *is_stopping).await) });
        // Often enough for the shorter limit.
        let check = limits.header_seconds.min(limits.idle_seconds).min(MAX_CHECK);
        let mut wait = pin!(sleep(check));
        loop {
            tokio::select! {
                biased;
                _ = &mut connection => return,
                () = &mut wait => {
                    if activity.is_over(limits, Instant::now()) {
                        connection.as_mut().graceful_shutdown();
                        let _ = timeout(GOODBYE_LIMIT, connection.as_mut()).await;
                        return;
                    }
                    wait.set(sleep(check));
                }
                () = &mut stops => break,
            }
        }
        // Requests whose heads have been read are answered; the grace of the process is their limit.
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// Answers one request: by the instance, or else by the host.
async fn respond(
    request: Request<Incoming>,
    queue: &Queue,
    requests: Arc<Semaphore>,
) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let Ok(authority) = authority(&head.uri, &head.headers, head.version) else {
        return of_host(Reply::invalid_host());
    };
    // A target in another form, as `*` and that of CONNECT, has no path.
    let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Ok(permit) = requests.try_acquire_owned() else { return of_host(Reply::unavailable()) };
    let (reply, response) = oneshot::channel();
    let body = begin_body(body).await;
    let job = Job { method: head.method, target, authority, headers: head.headers, body, reply, permit };
    if !queue.send(job) {
        return of_host(Reply::unavailable());
    }
    response.await.unwrap_or_else(|_| of_host(Reply::internal_error()))
}

/// Makes a response of the host itself.
fn of_host(reply: Reply) -> Response<Full<Bytes>> {
    let (status, headers, body) = reply.into_parts();
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.expose())));
    *response.status_mut() = status;
    for (name, value) in headers.as_list() {
        if let (Ok(name), Ok(value)) = (name.parse::<header::HeaderName>(), value.as_slice().try_into()) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// Returns the host that a request is for: that of its target, or of its one `Host` field.
///
/// # Errors
///
/// Fails if there is no host, more than one, or one that is not valid.
fn authority(target: &Uri, headers: &HeaderMap, version: Version) -> Result<Option<Authority>, ()> {
    let mut fields = headers.get_all(header::HOST).iter();
    match (target.authority(), fields.next(), fields.next()) {
        (_, _, Some(_)) => Err(()),
        // The target counts (RFC 9112, section 3.2.2).
        (Some(authority), _, None) => Ok(Some(authority.clone())),
        (None, Some(host), None) => {
            let authority = Authority::try_from(host.as_bytes()).map_err(drop)?;
            if authority.as_str().contains('@') { Err(()) } else { Ok(Some(authority)) }
        }
        (None, None, None) => {
            if version == Version::HTTP_10 {
                Ok(None)
            } else {
                Err(())
            }
        }
    }
}

/// Takes what has arrived of a body with the head: all of a small one, or the beginning of a stream.
async fn begin_body(mut body: Incoming) -> JobBody {
    if body.is_end_stream() {
        return JobBody::Whole(Bytes::new());
    }
    let first = match poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await {
        Poll::Ready(first) => first,
        Poll::Pending => None,
    };
    if let Some(Ok(frame)) = &first
        && let Some(bytes) = frame.data_ref()
        && body.is_end_stream()
        && bytes.len() <= MAX_BODY
    {
        return JobBody::Whole(bytes.clone());
    }
    let frames = futures_util::stream::iter(first).chain(BodyStream::new(body));
    JobBody::Stream(StreamBody::new(frames).map_err(Error::Hyper).boxed_unsync())
}

/// What a client does on its connection.
struct Activity(Mutex<State>);

struct State {
    /// The requests in progress.
    requests: usize,
    /// Whether the client owes the rest of a head. A new connection owes one.
    owes_head: bool,
    /// When the last request ended, or the head that is owed began.
    since: Instant,
    /// Whether the protocol sends frames that belong to no request.
    has_frames: bool,
}

impl Activity {
    fn new() -> Self {
        Self(Mutex::new(State { requests: 0, owes_head: true, since: Instant::now(), has_frames: false }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something was received.
    fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        if !bytes.is_empty() && state.requests == 0 && !state.owes_head && !state.has_frames {
            (state.owes_head, state.since) = (true, Instant::now());
        }
    }

    /// Notes that a head has been read. The request ends when the result is dropped.
    fn begin(self: &Arc<Self>, version: Version) -> Busy {
        let mut state = self.state();
        state.requests = state.requests.saturating_add(1);
        (state.owes_head, state.has_frames) = (false, version == Version::HTTP_2);
        Busy(Arc::clone(self))
    }

    /// Whether the client has been silent, or slow with a head, for too long.
    fn is_over(&self, limits: &Limits, now: Instant) -> bool {
        let state = self.state();
        let limit = if state.owes_head { limits.header_seconds } else { limits.idle_seconds };
        state.requests == 0 && now.saturating_duration_since(state.since) >= limit
    }
}

/// A request in progress.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests = state.requests.saturating_sub(1);
        state.since = Instant::now();
    }
}

/// The connections of each address: as many as there are clones.
#[derive(Clone, Default)]
pub struct Addresses(Arc<Mutex<HashMap<IpAddr, Arc<()>>>>);

impl Addresses {
    /// Counts a connection of `address` until the result is dropped, unless the address has `max` already.
    pub fn admit(&self, address: IpAddr, max: usize) -> Option<Arc<()>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|_, connections| Arc::strong_count(connections) > 1);
        let connections = open.entry(address.to_canonical()).or_default();
        (Arc::strong_count(connections) <= max).then(|| Arc::clone(connections))
    }
}

/// The largest head of a request. The component refuses more than 32 KiB with 431, which needs some room above that.
const MAX_HEAD: usize = 64 * 1024;

/// The requests at a time on one connection of HTTP/2, the number that its specification recommends at least (RFC
/// 9113, section 6.5.2).
const MAX_STREAMS: u32 = 100;

/// How often a connection looks at its limits, at least.
const MAX_CHECK: Duration = Duration::from_secs(10);

/// How long a connection that is over may take to say so.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn silent_and_slow_clients_are_over_and_busy_ones_are_not() {
        let line = ["keyvault-gateway", "--header-seconds", "10", "--idle-seconds", "100"];
        let (limits, activity) = (crate::Options::parse_from(line).limits, Arc::new(Activity::new()));
        let is_over = |seconds| activity.is_over(&limits, Instant::now() + Duration::from_secs(seconds));
        // A new connection owes a head.
        assert_eq!([9, 11].map(is_over), [false, true]);
        let busy = activity.begin(Version::HTTP_11);
        activity.received(b"the body");
        assert!(!is_over(10_000));
        drop(busy);
        assert_eq!([99, 101].map(is_over), [false, true]);
        // The beginning of the next head.
        activity.received(b"G");
        assert_eq!([9, 11].map(is_over), [false, true]);
        // Frames of HTTP/2 begin no head.
        drop(activity.begin(Version::HTTP_2));
        activity.received(b"PING");
        assert_eq!([99, 101].map(is_over), [false, true]);
    }
}
