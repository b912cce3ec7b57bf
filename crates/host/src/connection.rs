//! A client's connection: its protocol, its requests and its limits.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::{Authority, PathAndQuery};
use http::{HeaderMap, Request, Response, Uri, Version, header};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use keyvault_gateway::http::request::MAX_BODY;
use keyvault_gateway::http::response::Reply;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
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
    pub of_address: Option<OfAddress>,
}

pub enum Socket {
    Tcp(std::net::TcpStream),
    #[cfg(unix)]
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
            #[cfg(unix)]
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
        builder.http1().timer(TokioTimer::new()).max_buf_size(MAX_HEAD);
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
        let stream = Watched { stream, activity: Arc::clone(&activity) };
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut is_stopping = self.is_stopping.clone();
        let mut stops = pin!(async { drop(is_stopping.wait_for(|is_stopping| *is_stopping).await) });
        let mut wait = pin!(sleep(activity.check_after(limits)));
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
                    wait.set(sleep(activity.check_after(limits)));
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
    let body = match RequestBody::begin(body).await {
        RequestBody { first: Some(Ok(whole)), rest: None } => JobBody::Whole(whole),
        body => JobBody::Stream(body.boxed_unsync()),
    };
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

/// The body of a request: what is there already, and what may follow.
struct RequestBody {
    first: Option<Result<Bytes, hyper::Error>>,
    rest: Option<Incoming>,
}

impl RequestBody {
    /// Takes what has arrived with the head. A small body that is complete has no rest.
    async fn begin(mut body: Incoming) -> Self {
        if body.is_end_stream() {
            return Self { first: Some(Ok(Bytes::new())), rest: None };
        }
        let first = poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await;
        let first = match first {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok().map(Ok),
            Poll::Ready(Some(Err(error))) => Some(Err(error)),
            Poll::Ready(None) => return Self { first: Some(Ok(Bytes::new())), rest: None },
            Poll::Pending => None,
        };
        let is_whole = body.is_end_stream()
            && first.as_ref().is_some_and(|first| first.as_ref().is_ok_and(|bytes| bytes.len() <= MAX_BODY));
        Self { first, rest: (!is_whole).then_some(body) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first.map(Frame::data).map_err(Error::Hyper)));
        }
        match &mut self.rest {
            Some(rest) => Pin::new(rest).poll_frame(context).map_err(Error::Hyper),
            None => Poll::Ready(None),
        }
    }
}

/// What happens on a connection, in milliseconds since its start.
struct Activity {
    start: Instant,
    requests: AtomicU32,
    /// When the last request ended.
    idle_since: AtomicU64,
    /// When the first byte of the next head came; [`NO_HEAD`] if none has.
    head_since: AtomicU64,
    /// Whether the protocol sends frames that belong to no request.
    has_frames: std::sync::atomic::AtomicBool,
}

impl Activity {
    /// A new connection owes a head.
    fn new() -> Self {
        Self {
            start: Instant::now(),
            requests: AtomicU32::new(0),
            idle_since: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            has_frames: false.into(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    /// Notes that a head has been read. The request ends when the result is dropped.
    fn begin(self: &Arc<Self>, version: Version) -> Busy {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(NO_HEAD, Ordering::Relaxed);
        if version == Version::HTTP_2 {
            self.has_frames.store(true, Ordering::Relaxed);
        }
        Busy(Arc::clone(self))
    }

    fn received(&self) {
        if self.head_since.load(Ordering::Relaxed) == NO_HEAD
            && self.requests.load(Ordering::Relaxed) == 0
            && !self.has_frames.load(Ordering::Relaxed)
        {
            self.head_since.store(self.now(), Ordering::Relaxed);
        }
    }

    /// Whether the client has been silent, or slow with a head, for too long.
    fn is_over(&self, limits: &Limits, now: Instant) -> bool {
        let now = now.duration_since(self.start);
        let since =
            |moment: &AtomicU64| now.saturating_sub(Duration::from_millis(moment.load(Ordering::Relaxed)));
        let owes_head = self.head_since.load(Ordering::Relaxed) != NO_HEAD;
        self.requests.load(Ordering::Relaxed) == 0
            && (since(&self.idle_since) >= limits.idle_seconds
                || owes_head && since(&self.head_since) >= limits.header_seconds)
    }

    /// When to look next: often enough for the shorter limit.
    fn check_after(&self, limits: &Limits) -> Duration {
        limits.header_seconds.min(limits.idle_seconds).min(MAX_CHECK)
    }
}

/// A request in progress.
struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.idle_since.store(self.0.now(), Ordering::Relaxed);
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that notes when something is received.
struct Watched<S> {
    stream: S,
    activity: Arc<Activity>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.activity.received();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The connections of each address.
#[derive(Clone, Default)]
pub struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

impl Addresses {
    /// Counts a connection of `address`, unless that has `max` already.
    pub fn admit(&self, address: IpAddr, max: usize) -> Option<OfAddress> {
        let address = address.to_canonical();
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count >= max {
            return None;
        }
        *count = count.saturating_add(1);
        Some(OfAddress { address, all: self.clone() })
    }
}

/// A connection of an address, counted until this is dropped.
pub struct OfAddress {
    address: IpAddr,
    all: Addresses,
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut open = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// No byte of a head has come.
const NO_HEAD: u64 = u64::MAX;

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
    fn a_request_has_one_valid_host() {
        for (target, hosts, version, expected) in [
            ("/", &["a:80"][..], Version::HTTP_11, Ok(Some("a:80"))),
            ("http://b/x", &["a"], Version::HTTP_11, Ok(Some("b"))),
            ("https://b/x", &[], Version::HTTP_2, Ok(Some("b"))),
            ("/", &[], Version::HTTP_10, Ok(None)),
            ("/", &[], Version::HTTP_11, Err(())),
            ("/", &[""], Version::HTTP_11, Err(())),
            ("/", &["a b"], Version::HTTP_11, Err(())),
            ("/", &["user@a"], Version::HTTP_11, Err(())),
            ("/", &["a", "a"], Version::HTTP_11, Err(())),
            ("http://b/x", &["a", "a"], Version::HTTP_11, Err(())),
        ] {
            let mut headers = HeaderMap::new();
            hosts.iter().for_each(|host| {
                headers.append(header::HOST, host.parse().unwrap());
            });
            let found = authority(&target.parse().unwrap(), &headers, version);
            let found = found.as_ref().map(|found| found.as_ref().map(Authority::as_str)).map_err(|()| ());
            assert_eq!(found, expected, "{target} {hosts:?}");
        }
    }

    #[test]
    fn silent_and_slow_clients_are_over_and_busy_ones_are_not() {
        let line = ["keyvault-gateway", "--header-seconds", "10", "--idle-seconds", "100"];
        let limits = crate::Options::parse_from(line).limits;
        let activity = Arc::new(Activity::new());
        let at = |seconds| activity.start + Duration::from_secs(seconds);
        // A new connection owes a head.
        assert_eq!([9, 10].map(|second| activity.is_over(&limits, at(second))), [false, true]);
        let busy = activity.begin(Version::HTTP_11);
        activity.received();
        assert!(!activity.is_over(&limits, at(10_000)));
        drop(busy);
        assert_eq!([99, 101].map(|second| activity.is_over(&limits, at(second))), [false, true]);
        // The first byte of the next head.
        activity.received();
        assert_eq!([9, 11].map(|second| activity.is_over(&limits, at(second))), [false, true]);
        // Frames of HTTP/2 are not the start of a head.
        drop(activity.begin(Version::HTTP_2));
        activity.received();
        assert_eq!([11, 101].map(|second| activity.is_over(&limits, at(second))), [false, true]);
    }

    #[test]
    fn connections_of_an_address_are_counted() {
        let addresses = Addresses::default();
        let [one, same, other] =
            ["10.0.0.1", "::ffff:10.0.0.1", "10.0.0.2"].map(|text| text.parse().unwrap());
        let first = addresses.admit(one, 1);
        assert!(first.is_some() && addresses.admit(same, 1).is_none() && addresses.admit(other, 1).is_some());
        drop(first);
        assert!(addresses.admit(same, 1).is_some());
        assert!(addresses.0.lock().unwrap().is_empty());
    }
}
