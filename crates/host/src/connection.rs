//! A client's connection: its protocol, its requests and its limits.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::StreamExt as _;
use http::uri::PathAndQuery;
use http::{Request, Response, Version};
use http_body::Body as _;
use http_body_util::{BodyExt as _, BodyStream, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use keyvault_gateway::http::request::{MAX_BODY, authority};
use keyvault_gateway::http::response::Reply;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::io::InspectReader;
use wasmtime_wasi_http::Error;

use crate::instance::{Job, JobBody};
use crate::options::Limits;
use crate::shared::{Queue, Shared};

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

impl Accepted {
    /// Serves the connection to its end. One that fails ends, and nothing else happens.
    pub async fn serve(self, shared: &Shared, queue: &Queue) {
        let Self { socket, permit: _permit, of_address: _of_address } = self;
        let tls = shared.server.borrow().clone();
        match (socket, tls) {
            (Socket::Tcp(socket), tls) => {
                let Ok(stream) = TcpStream::from_std(socket) else { return };
                // The time of a reply matters more than the number of packets.
                let _ = stream.set_nodelay(true);
                let Some(tls) = tls else { return speak(stream, shared, queue).await };
                let handshake = TlsAcceptor::from(tls).accept(stream);
                if let Ok(Ok(stream)) = timeout(shared.limits.handshake_seconds, handshake).await {
                    speak(stream, shared, queue).await;
                }
            }
            (Socket::Unix(socket), _) => {
                if let Ok(stream) = UnixStream::from_std(socket) {
                    speak(stream, shared, queue).await;
                }
            }
        }
    }
}

/// Speaks HTTP with a client, within the limits of time.
async fn speak<S>(stream: S, shared: &Shared, queue: &Queue)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (limits, activity) = (&shared.limits, Arc::new(Activity::new()));
    let mut builder = Builder::new(TokioExecutor::new());
    // `Activity` limits heads, as hyper's timeout begins when it waits for a head and not with the head.
    builder.http1().header_read_timeout(None).max_buf_size(MAX_HEAD);
    builder.http2().timer(TokioTimer::new()).max_header_list_size(MAX_HEAD as u32);
    builder.http2().max_concurrent_streams(MAX_STREAMS).keep_alive_interval(limits.idle_seconds);
    builder.http2().initial_stream_window_size(MAX_SENT_AHEAD).initial_connection_window_size(MAX_SENT_AHEAD);
    let service = service_fn(|request| {
        let activity = Arc::clone(&activity);
        let (queue, requests, room) = (queue.clone(), Arc::clone(&shared.requests), Arc::clone(&shared.room));
        async move {
            let busy = activity.begin(request.version());
            let response = respond(request, &queue, requests).await;
            Ok::<_, Infallible>(hold(response, busy, room))
        }
    });
    let watched = Arc::clone(&activity);
    let stream = InspectReader::new(stream, move |bytes| watched.received(bytes));
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut is_stopping = shared.is_stopping.clone();
    let mut stops = pin!(async { drop(is_stopping.wait_for(|is_stopping| *is_stopping).await) });
    let mut wait = pin!(sleep(CHECK_INTERVAL));
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
                wait.set(sleep(CHECK_INTERVAL));
            }
            () = &mut stops => break,
        }
    }
    // Requests whose heads have been read are answered; the grace of the process is their limit.
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Answers one request: by the instance, or else by the host.
async fn respond(request: Request<Incoming>, queue: &Queue, requests: Arc<Semaphore>) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    let authority = match authority(&head.uri, &head.headers, head.version) {
        Ok(authority) => authority,
        Err(reply) => return of_host(reply),
    };
    // A target in another form, as `*` and that of CONNECT, has no path.
    let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let Ok(permit) = requests.try_acquire_owned() else { return of_host(Reply::unavailable()) };
    let (reply, response) = oneshot::channel();
    let body = begin_body(body).await;
    let job = Job { method: head.method, target, authority, headers: head.headers, body, reply, permit };
    let is_sent = queue.borrow().as_ref().is_some_and(|queue| queue.send(job).is_ok());
    if !is_sent {
        return of_host(Reply::unavailable());
    }
    response.await.unwrap_or_else(|_| of_host(Reply::internal_error()))
}

/// Makes a response of the host itself.
fn of_host(reply: Reply) -> Response<Bytes> {
    reply.into_http().map(Bytes::from)
}

/// Makes a response hold its room until the client has taken it. If all room is taken the client learns that.
fn hold(response: Response<Bytes>, mut busy: Busy, room: Arc<Semaphore>) -> Response<Full<Unsent>> {
    let kibibytes = u32::try_from(response.body().len() / 1024).unwrap_or(u32::MAX);
    let (response, room) = match room.try_acquire_many_owned(kibibytes) {
        Ok(room) => (response, Some(room)),
        Err(_) => (of_host(Reply::unavailable()), None),
    };
    busy.answered();
    response.map(|bytes| Full::new(Unsent { bytes, _held: (busy, room) }))
}

/// The bytes of a reply that the client has not taken yet, with what they hold until then.
struct Unsent {
    bytes: Bytes,
    _held: (Busy, Option<OwnedSemaphorePermit>),
}

impl Buf for Unsent {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

/// Takes what has arrived of a body with the head: all of a small one, or the beginning of a stream.
async fn begin_body(mut body: Incoming) -> JobBody {
    if body.is_end_stream() {
        return JobBody::Whole(Bytes::new());
    }
    let first = poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await;
    let first = if let Poll::Ready(first) = first { first } else { None };
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
    /// The replies that the client has not taken.
    unsent: usize,
    /// Whether the client owes the rest of a head. A new connection owes one.
    owes_head: bool,
    /// When the last reply was ready or taken, or the head that is owed began.
    since: Instant,
    /// Whether the protocol sends frames that belong to no request.
    has_frames: bool,
}

impl Activity {
    fn new() -> Self {
        let (requests, unsent, since) = (0, 0, Instant::now());
        Self(Mutex::new(State { requests, unsent, owes_head: true, since, has_frames: false }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that something was received.
    fn received(&self, bytes: &[u8]) {
        let mut state = self.state();
        let is_idle = state.requests == 0 && state.unsent == 0;
        if !bytes.is_empty() && is_idle && !state.owes_head && !state.has_frames {
            (state.owes_head, state.since) = (true, Instant::now());
        }
    }

    /// Notes that a head has been read. The result lives until the client has taken the reply, or is gone.
    fn begin(self: &Arc<Self>, version: Version) -> Busy {
        let mut state = self.state();
        state.requests = state.requests.saturating_add(1);
        (state.owes_head, state.has_frames) = (false, version == Version::HTTP_2);
        Busy { activity: Arc::clone(self), is_answered: false }
    }

    /// Whether the client has been silent, or slow with a head or a reply, for too long.
    fn is_over(&self, limits: &Limits, now: Instant) -> bool {
        let state = self.state();
        let limit = match (state.owes_head, state.unsent) {
            (true, _) => limits.header_seconds,
            (false, 1..) => limits.reply_seconds,
            (false, 0) => limits.idle_seconds,
        };
        state.requests == 0 && now.saturating_duration_since(state.since) >= limit
    }
}

/// A request in progress, or a reply that the client has not taken.
struct Busy {
    activity: Arc<Activity>,
    is_answered: bool,
}

impl Busy {
    fn answered(&mut self) {
        let mut state = self.activity.state();
        (state.requests, state.unsent) = (state.requests.saturating_sub(1), state.unsent.saturating_add(1));
        (state.since, self.is_answered) = (Instant::now(), true);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut state = self.activity.state();
        let count = if self.is_answered { &mut state.unsent } else { &mut state.requests };
        *count = count.saturating_sub(1);
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

/// The largest head of a request: more than the 32 KiB from which the component itself answers 431.
const MAX_HEAD: usize = 40 * 1024;

/// The requests at a time on one connection of HTTP/2, the number that its specification recommends at least
/// (RFC 9113, section 6.5.2).
const MAX_STREAMS: u32 = 100;

/// The bytes that a client of HTTP/2 may send before they are read: the least that the protocol allows.
const MAX_SENT_AHEAD: u32 = 65_535;

/// The size of all replies that clients have not taken, in KiB. One connection can leave a hundred.
pub const MAX_UNSENT: usize = 32 * 1024;

/// How often a connection looks at its limits.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a connection that is over may take to say so.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);
