//! WASI 0.2: one request at a time in an instance, so every wait is a wait of the whole instance.

use std::cell::OnceCell;
use std::future::{Future, pending};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::{Method, StatusCode};
use wasip2::clocks::monotonic_clock;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingRequest, Method as WasiMethod, OutgoingBody, OutgoingRequest,
    OutgoingResponse, RequestOptions, ResponseOutparam, Scheme,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{OutputStream, StreamError};
use wasip2::random::random::get_random_u64;

use super::component_api::{NoSecret, Secret, Secrets, value};
use super::{WRITE_LIMIT, host_timeout, length, nanoseconds, with_length};
use crate::azure::CallError;
use crate::azure::{Answer, Call};
use crate::env::Setting;
use crate::gateway::Gateway;
use crate::host::{Body, BodyError, Host, KeyValue, Signal};
use crate::http::headers::Headers;
use crate::http::request::Head;
use crate::http::response::Reply;
use crate::model::Moment;
use crate::secrets::Found;

/// What the host calls.
pub(super) struct Component;

wasip2::http::proxy::export!(Component);

thread_local! {
    static GATEWAY: Gateway<Wasi> = Gateway::new(Wasi);
}

impl Guest for Component {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        // Nothing is renewed after the answer: the instance would be closed to everybody in the meantime.
        let reply = GATEWAY.with(|gateway| {
            let head = head(&request);
            let body = RequestBody { length: length(&head.headers), request };
            finish(gateway.answer(head, body)).map_or_else(Reply::internal_error, |it| it.reply)
        });
        respond(out, reply);
    }
}

impl Secrets for Component {
    fn get(name: String, version: Option<String>) -> Result<String, NoSecret> {
        read(&name, version.as_deref(), false).map(|it| value(&it.secret))
    }

    fn read(name: String, version: Option<String>, refresh: bool) -> Result<Secret, NoSecret> {
        read(&name, version.as_deref(), refresh).map(Secret::from)
    }

    fn vault() -> Result<String, NoSecret> {
        let vault = GATEWAY.with(|gateway| finish(gateway.vault()));
        vault.map_or(Err(NoSecret::Internal), |vault| vault.map_err(NoSecret::from))
    }
}

fn read(name: &str, version: Option<&str>, refresh: bool) -> Result<Found, NoSecret> {
    // For the same reason nothing is renewed after this either.
    let read = GATEWAY.with(|gateway| finish(gateway.read(name, version, refresh)));
    read.map_or(Err(NoSecret::Internal), |it| it.map_err(NoSecret::from))
}

/// Runs a future whose every step is finished when it returns, as all of this host are.
fn finish<T>(answer: impl Future<Output = T>) -> Option<T> {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => Some(answer),
        Poll::Pending => None,
    }
}

struct Wasi;

impl Host for Wasi {
    async fn settings(&self, names: &[&'static str]) -> Vec<Setting> {
        names.iter().map(|name| super::setting(name)).collect()
    }

    fn now(&self) -> Moment {
        Moment::after_start(Duration::from_nanos(monotonic_clock::now()))
    }

    fn unix_time(&self) -> u64 {
        super::unix_time()
    }

    fn random(&self) -> u64 {
        get_random_u64()
    }

    fn log(&self, line: &str) {
        super::log(line);
    }

    fn key_value(&self) -> Option<&dyn KeyValue> {
        super::key_value()
    }

    async fn send(&self, call: Call, limit: Duration) -> Result<Answer, CallError> {
        let timer = Timer::lasting(limit);
        let (request, content) = request(&call)?;
        let response = outgoing_handler::handle(request, Some(options(limit))).map_err(no_answer)?;
        // Only now is there somebody who takes the content.
        if let Some(content) = content {
            write(content, call.body().expose(), &timer);
        }
        timer.wait_for(&response.subscribe()).ok_or(CallError::TimedOut)?;
        let response = response.get().and_then(Result::ok).ok_or(CallError::Lost)?.map_err(no_answer)?;
        let headers = response.headers();
        let field =
            |name: &str| headers.get(name).into_iter().next().and_then(|it| String::from_utf8(it).ok());
        let (retry_after, challenge) = (field("retry-after"), field("www-authenticate"));
        drop(headers);
        let body = response.consume().map_err(|()| CallError::Lost)?;
        let body = read_body(&body, call.answer_limit(), None, &timer).map_err(|it| match it {
            BodyError::Lost => CallError::Lost,
            BodyError::TimedOut => CallError::TimedOut,
            BodyError::TooLarge => CallError::TooLarge,
        })?;
        Ok(Answer::new(response.status(), retry_after, body).with_challenge(challenge))
    }

    async fn sleep(&self, time: Duration) {
        monotonic_clock::subscribe_duration(nanoseconds(time)).block();
    }

    /// An instance serves one request at a time, so there is never another one to wait for.
    fn signal(&self) -> (Signal, impl Future<Output = ()>) {
        (Signal::new(()), pending())
    }
}

struct RequestBody {
    request: IncomingRequest,
    length: Option<usize>,
}

impl Body for RequestBody {
    fn authority(&self) -> Option<String> {
        self.request.authority()
    }

    async fn read(self, most: usize, end: Moment) -> Result<Vec<u8>, BodyError> {
        let body = self.request.consume().map_err(|()| BodyError::Lost)?;
        read_body(&body, most, self.length, &Timer::until(end))
    }
}

fn head(request: &IncomingRequest) -> Head {
    Head {
        method: method(request.method()),
        target: request.path_with_query().unwrap_or_default(),
        headers: request.headers().entries().into(),
    }
}

fn method(method: WasiMethod) -> Method {
    match method {
        WasiMethod::Get => Method::GET,
        WasiMethod::Head => Method::HEAD,
        WasiMethod::Post => Method::POST,
        WasiMethod::Put => Method::PUT,
        WasiMethod::Delete => Method::DELETE,
        WasiMethod::Connect => Method::CONNECT,
        WasiMethod::Options => Method::OPTIONS,
        WasiMethod::Trace => Method::TRACE,
        WasiMethod::Patch => Method::PATCH,
        // What is no method at all is answered like one that nobody knows.
        WasiMethod::Other(name) => Method::from_bytes(name.as_bytes()).unwrap_or(Method::CONNECT),
    }
}

fn respond(out: ResponseOutparam, reply: Reply) {
    let (status, fields, content) = reply.into_parts();
    let content = content.expose();
    let response = OutgoingResponse::new(take(&with_length(fields, content)));
    // What a response begins with is 200.
    if status != StatusCode::OK {
        let _ = response.set_status_code(status.as_u16());
    }
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    if let Ok(body) = body {
        write(body, content, &Timer::lasting(WRITE_LIMIT));
    }
}

/// Header fields, all at once; or one by one, without those that the host does not take.
fn take(fields: &Headers) -> Fields {
    Fields::from_list(fields.as_list()).unwrap_or_else(|_| {
        let taken = Fields::new();
        for (name, value) in fields.as_list() {
            let _ = taken.append(name, value);
        }
        taken
    })
}

fn request(call: &Call) -> Result<(OutgoingRequest, Option<OutgoingBody>), CallError> {
    let fields = Fields::new();
    for (name, value) in call.headers() {
        fields.append(name, value.expose().as_bytes()).map_err(|_| CallError::Lost)?;
    }
    let content = call.body().expose();
    if !content.is_empty() {
        let length = content.len().to_string();
        fields.append("content-length", length.as_bytes()).map_err(|_| CallError::Lost)?;
    }
    let request = OutgoingRequest::new(fields);
    let endpoint = call.endpoint();
    let scheme = if endpoint.is_tls() { Scheme::Https } else { Scheme::Http };
    let method = if *call.method() == Method::POST { WasiMethod::Post } else { WasiMethod::Get };
    let set = request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(endpoint.authority())))
        .and_then(|()| request.set_path_with_query(Some(endpoint.path_and_query())));
    set.map_err(|()| CallError::Lost)?;
    let body = if content.is_empty() { None } else { Some(request.body().map_err(|()| CallError::Lost)?) };
    Ok((request, body))
}

/// A host that does not know one of the timeouts says so; the race against our own clock is there for that.
fn options(limit: Duration) -> RequestOptions {
    let timeout = Some(host_timeout(limit));
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(timeout);
    let _ = options.set_first_byte_timeout(timeout);
    let _ = options.set_between_bytes_timeout(timeout);
    options
}

fn no_answer(code: ErrorCode) -> CallError {
    match code {
        ErrorCode::HttpRequestDenied => CallError::NotAllowed,
        _ => CallError::Lost,
    }
}

/// Writes a whole body. One that is not finished tells the other side that it was cut short.
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

/// Reads a whole body, which has `length` bytes if that is known: then its end need not be waited for.
fn read_body(
    body: &IncomingBody,
    most: usize,
    length: Option<usize>,
    timer: &Timer,
) -> Result<Vec<u8>, BodyError> {
    let stream = body.stream().map_err(|()| BodyError::Lost)?;
    let mut content = Vec::new();
    while length != Some(content.len()) {
        match stream.read(MOST_TO_READ) {
            Ok(chunk) if chunk.is_empty() => {
                timer.wait_for(&stream.subscribe()).ok_or(BodyError::TimedOut)?;
            }
            Ok(chunk) if chunk.len() > most.saturating_sub(content.len()) => return Err(BodyError::TooLarge),
            Ok(chunk) if content.is_empty() => content = chunk,
            Ok(chunk) => content.extend_from_slice(&chunk),
            Err(StreamError::Closed) => break,
            Err(StreamError::LastOperationFailed(_)) => return Err(BodyError::Lost),
        }
    }
    Ok(content)
}

/// The end of a time. What is ready is not waited for, and then nobody asks the host for the time or for a timer.
struct Timer {
    end: End,
    pollable: OnceCell<Pollable>,
}

enum End {
    /// Then.
    At(Moment),
    /// So long after the first wait.
    After(Duration),
}

impl Timer {
    const fn until(end: Moment) -> Self {
        Self { end: End::At(end), pollable: OnceCell::new() }
    }

    const fn lasting(time: Duration) -> Self {
        Self { end: End::After(time), pollable: OnceCell::new() }
    }

    /// Waits until `event` has come, unless the time is over: a peer that has a little ready, again and again, cannot outrun
    /// the clock.
    fn wait_for(&self, event: &Pollable) -> Option<()> {
        let timer = self.pollable.get_or_init(|| match self.end {
            End::At(moment) => monotonic_clock::subscribe_instant(nanoseconds(moment.from_start())),
            End::After(time) => monotonic_clock::subscribe_duration(nanoseconds(time)),
        });
        (!poll(&[event, timer]).contains(&1)).then_some(())
    }
}

const MOST_TO_READ: u64 = 16 * 1024;
