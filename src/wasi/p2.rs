//! WASI 0.2: an instance answers one request at a time, so each wait blocks the instance.

use std::cell::OnceCell;
use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::bindings::clocks::monotonic_clock;
use super::bindings::exports::http::incoming_handler::Guest;
use super::bindings::http::outgoing_handler;
use super::bindings::http::types::{
    IncomingBody, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
};
use super::bindings::io::poll::{Pollable, poll};
use super::bindings::io::streams::{OutputStream, StreamError};
use super::component_api::{Details, NoSecret, Request, Secret, Secrets, pairs, value};
use super::http_types::{
    call_error, content_length, field, head, options, request_fields, response_fields, set_status, set_target,
};
use super::{WRITE_LIMIT, Wasi, nanoseconds};
use crate::azure::{Answer, Call, CallError};
use crate::gateway::Gateway;
use crate::host::{Body, BodyError, Signal};
use crate::http::response::Reply;
use crate::model::Moment;
use crate::read_error::ReadError;
use crate::secrets::Found;

/// The component, whose functions the host calls.
pub(super) struct Component;

super::bindings::http::proxy::export!(Component);

thread_local! {
    static GATEWAY: Gateway<Wasi> = Gateway::new(Wasi);
}

impl Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        // No refresh after the answer: until it ends the instance would answer no other request.
        let reply = GATEWAY.with(|gateway| {
            let head = head(request.method(), request.path_with_query(), request.headers().entries().into());
            let body = RequestBody { length: content_length(&head.headers), request };
            finish(gateway.answer(head, body)).map_or_else(Reply::internal_error, |answered| answered.reply)
        });
        respond(out, reply);
    }
}

impl Secrets for Component {
    fn get(name: String, version: Option<String>) -> Result<String, NoSecret> {
        read(&name, version.as_deref(), false).map(|found| value(&found.secret))
    }

    fn read(name: String, version: Option<String>, refresh: bool) -> Result<Secret, NoSecret> {
        read(&name, version.as_deref(), refresh).map(Secret::from)
    }

    fn get_many(requests: Vec<Request>) -> Vec<Result<Secret, NoSecret>> {
        let requests = pairs(requests);
        let read = GATEWAY.with(|gateway| finish(gateway.read_many(&requests)));
        let read = read.unwrap_or_else(|| requests.iter().map(|_| Err(ReadError::Internal)).collect());
        read.into_iter().map(|read| read.map(Secret::from).map_err(NoSecret::from)).collect()
    }

    fn details(name: String, version: Option<String>) -> Result<Details, NoSecret> {
        read(&name, version.as_deref(), false).map(Details::from)
    }

    fn vault() -> Result<String, NoSecret> {
        let vault = GATEWAY.with(|gateway| finish(gateway.vault()));
        vault.map_or(Err(NoSecret::Internal), |vault| vault.map_err(NoSecret::from))
    }
}

fn read(name: &str, version: Option<&str>, refresh: bool) -> Result<Found, NoSecret> {
    // For the same reason there is no refresh after this either.
    let read = GATEWAY.with(|gateway| finish(gateway.read(name, version, refresh)));
    read.map_or(Err(NoSecret::Internal), |read| read.map_err(NoSecret::from))
}

/// Runs a future that never waits, as no future of this host does.
fn finish<T>(answer: impl Future<Output = T>) -> Option<T> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

/// Sends a call. This blocks, as does each future of this host, when it is polled.
pub(super) async fn send(call: Call, limit: Duration) -> Result<Answer, CallError> {
    let timer = Timer::lasting(limit);
    let content = call.body().expose();
    let request = OutgoingRequest::new(request_fields(&call)?);
    set_target(&request, &call)?;
    let body = if content.is_empty() { None } else { Some(request.body().map_err(|()| CallError::Lost)?) };
    let response = outgoing_handler::handle(request, Some(options(limit))).map_err(call_error)?;
    // Before the request is sent no peer takes the body.
    if let Some(body) = body {
        write(body, content, &timer);
    }
    timer.wait_for(&response.subscribe()).ok_or(CallError::TimedOut)?;
    let response = response.get().and_then(Result::ok).ok_or(CallError::Lost)?.map_err(call_error)?;
    let fields = response.headers();
    let (retry_after, challenge) = (field(&fields, "retry-after"), field(&fields, "www-authenticate"));
    drop(fields);
    let body = response.consume().map_err(|()| CallError::Lost)?;
    let body = read_body(&body, call.answer_limit(), None, &timer)?;
    Ok(Answer::new(response.status(), retry_after, body).with_challenge(challenge))
}

pub(super) async fn sleep(time: Duration) {
    monotonic_clock::subscribe_duration(nanoseconds(time)).block();
}

/// An instance answers one request at a time, so there is never another one to wait for.
pub(super) fn signal() -> (Signal, impl Future<Output = ()>) {
    (Signal::new(()), pending())
}

struct RequestBody {
    request: IncomingRequest,
    length: Option<usize>,
}

impl Body for RequestBody {
    fn authority(&self) -> Option<String> {
        self.request.authority()
    }

    async fn read(self, limit: usize, end: Moment) -> Result<Vec<u8>, BodyError> {
        let body = self.request.consume().map_err(|()| BodyError::Lost)?;
        read_body(&body, limit, self.length, &Timer::until(end))
    }
}

fn respond(out: ResponseOutparam, reply: Reply) {
    let (status, headers, content) = reply.into_parts();
    let content = content.expose();
    let response = OutgoingResponse::new(response_fields(headers, content));
    set_status(&response, status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    if let Ok(body) = body {
        write(body, content, &Timer::lasting(WRITE_LIMIT));
    }
}

/// Writes a whole body. If that fails, the body stays unfinished, which tells the other side that it was cut
/// short.
fn write(body: OutgoingBody, content: &[u8], timer: &Timer) {
    let Ok(stream) = body.write() else { return };
    let written = write_all(&stream, content, timer);
    drop(stream);
    if written.is_some() {
        let _ = OutgoingBody::finish(body, None);
    }
}

fn write_all(stream: &OutputStream, mut content: &[u8], timer: &Timer) -> Option<()> {
    while !content.is_empty() {
        let room = usize::try_from(stream.check_write().ok()?).ok()?;
        if room == 0 {
            timer.wait_for(&stream.subscribe())?;
            continue;
        }
        let (chunk, rest) = content.split_at_checked(room).unwrap_or((content, &[]));
        stream.write(chunk).ok()?;
        content = rest;
    }
    Some(())
}

/// Reads a whole body of at most `limit` bytes. If its `length` is known, this does not wait for its end.
fn read_body(
    body: &IncomingBody,
    limit: usize,
    length: Option<usize>,
    timer: &Timer,
) -> Result<Vec<u8>, BodyError> {
    let stream = body.stream().map_err(|()| BodyError::Lost)?;
    let mut content = Vec::new();
    while length != Some(content.len()) {
        match stream.read(READ_CHUNK) {
            Ok(chunk) if chunk.is_empty() => {
                timer.wait_for(&stream.subscribe()).ok_or(BodyError::TimedOut)?;
            }
            Ok(chunk) if chunk.len() > limit.saturating_sub(content.len()) => {
                return Err(BodyError::TooLarge);
            }
            Ok(chunk) if content.is_empty() => content = chunk,
            Ok(chunk) => content.extend_from_slice(&chunk),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => return Err(BodyError::Lost),
        }
    }
    Ok(content)
}

/// The time limit of several waits. It asks the host for a timer at the first wait, so that what is ready
/// costs none.
struct Timer {
    end: End,
    pollable: OnceCell<Pollable>,
}

/// When a [`Timer`] ends.
enum End {
    At(Moment),
    /// This long after the first wait.
    After(Duration),
}

impl Timer {
    const fn until(end: Moment) -> Self {
        Self { end: End::At(end), pollable: OnceCell::new() }
    }

    const fn lasting(time: Duration) -> Self {
        Self { end: End::After(time), pollable: OnceCell::new() }
    }

    /// Waits for `event`. `None` if the time is over, even if the event has come: a peer that sends a little,
    /// again and again, cannot outrun the clock.
    fn wait_for(&self, event: &Pollable) -> Option<()> {
        let timer = self.pollable.get_or_init(|| match self.end {
            End::At(moment) => monotonic_clock::subscribe_instant(nanoseconds(moment.from_start())),
            End::After(time) => monotonic_clock::subscribe_duration(nanoseconds(time)),
        });
        (!poll(&[event, timer]).contains(&1)).then_some(())
    }
}

/// How many bytes of a body are read at once.
const READ_CHUNK: u64 = 16 * 1024;
