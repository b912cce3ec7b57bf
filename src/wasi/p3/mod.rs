//! WASI 0.3: many requests at a time in an instance, each a future of its own.

mod deadlines;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use http::{Method, StatusCode};
use wasip3::clocks::monotonic_clock;
use wasip3::exports::http::handler::Guest;
use wasip3::http::client;
use wasip3::http::types::{
    ErrorCode, Fields, Method as WasiMethod, Request, RequestOptions, Response, Scheme, Trailers,
};
use wasip3::random::random::get_random_u64;
use wasip3::wit_bindgen::{
    FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter, yield_async,
};
use wasip3::{spawn, wit_future, wit_stream};
use zeroize::Zeroizing;

use super::component_api::{NoSecret, Secret, Secrets, value};
use super::{WRITE_LIMIT, host_timeout, length, nanoseconds, with_length};
use crate::azure::CallError;
use crate::azure::{Answer, Call};
use crate::env::Setting;
use crate::gateway::{Answered, Gateway};
use crate::host::{Body, BodyError, Host, KeyValue, Signal};
use crate::http::headers::Headers;
use crate::http::request::Head;
use crate::http::response::Reply;
use crate::model::Moment;
use crate::secrets::Found;
use crate::sync::pending_bodies::{LargeId, PendingBodies, is_large};

use deadlines::{until, within};

/// What the host calls.
pub(super) struct Component;

wasip3::http::service::export!(Component);

thread_local! {
    static GATEWAY: Rc<Gateway<Wasi>> = Rc::new(Gateway::new(Wasi));
}

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        wait_for_a_turn().await;
        let gateway = GATEWAY.with(Rc::clone);
        let head = head(&request);
        let body = RequestBody { length: length(&head.headers), request };
        let Answered { reply, refresh } = gateway.answer(head, body).await;
        if let Some(refresh) = refresh {
            spawn(async move { gateway.refresh(refresh).await });
        }
        Ok(response(reply))
    }
}

impl Secrets for Component {
    async fn get(name: String, version: Option<String>) -> Result<String, NoSecret> {
        read(&name, version.as_deref(), false).await.map(|it| value(&it.secret))
    }

    async fn read(name: String, version: Option<String>, refresh: bool) -> Result<Secret, NoSecret> {
        read(&name, version.as_deref(), refresh).await.map(Secret::from)
    }

    fn get_cached(name: String, version: Option<String>) -> Option<String> {
        GATEWAY.with(|gateway| gateway.get_cached(&name, version.as_deref())).map(|it| value(&it))
    }

    async fn vault() -> Result<String, NoSecret> {
        let gateway = GATEWAY.with(Rc::clone);
        Ok(gateway.vault().await?)
    }
}

async fn read(name: &str, version: Option<&str>, refresh: bool) -> Result<Found, NoSecret> {
    let gateway = GATEWAY.with(Rc::clone);
    let mut found = gateway.read(name, version, refresh).await?;
    if let Some(refresh) = found.refresh.take() {
        spawn(async move { gateway.refresh(refresh).await });
    }
    Ok(found)
}

struct Wasi;

impl Host for Wasi {
    async fn settings(&self, names: &[&'static str]) -> Vec<Setting> {
        names.iter().map(|name| super::setting(name)).collect()
    }

    fn now(&self) -> Moment {
        now()
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
        let answer = async {
            let response = client::send(request(&call, limit)?).await.map_err(no_answer)?;
            let status = response.get_status_code();
            let headers = response.get_headers();
            let field =
                |name: &str| headers.get(name).into_iter().next().and_then(|it| String::from_utf8(it).ok());
            let (retry_after, challenge) = (field("retry-after"), field("www-authenticate"));
            drop(headers);
            let (done, result) = wit_future::new(|| Ok(()));
            let (stream, end) = Response::consume_body(response, result);
            let body =
                read_body(stream, end, done, call.answer_limit(), None).await.map_err(|it| match it {
                    BodyError::Lost => CallError::Lost,
                    BodyError::TimedOut => CallError::TimedOut,
                    BodyError::TooLarge => CallError::TooLarge,
                })?;
            Ok(Answer::new(status, retry_after, body).with_challenge(challenge))
        };
        within(limit, answer).await.unwrap_or(Err(CallError::TimedOut))
    }

    async fn sleep(&self, time: Duration) {
        monotonic_clock::wait_for(nanoseconds(time)).await;
    }

    fn signal(&self) -> (Signal, impl Future<Output = ()>) {
        let (end, dropped) = signal();
        (Signal::new(end), dropped)
    }
}

fn now() -> Moment {
    Moment::after_start(Duration::from_nanos(monotonic_clock::now()))
}

/// A stream that ends unwritten: its end is an event of the host, which reaches a task where a waker would not.
fn signal() -> (StreamWriter<u8>, impl Future<Output = ()>) {
    let (signal, mut reader) = wit_stream::new();
    (signal, async move { drop(reader.read(Vec::with_capacity(1)).await) })
}

struct RequestBody {
    request: Request,
    length: Option<usize>,
}

impl Body for RequestBody {
    fn authority(&self) -> Option<String> {
        self.request.get_authority()
    }

    async fn read(self, most: usize, end: Moment) -> Result<Vec<u8>, BodyError> {
        let (done, result) = wit_future::new(|| Ok(()));
        let (stream, trailers) = Request::consume_body(self.request, result);
        until(end, read_body(stream, trailers, done, most, self.length))
            .await
            .unwrap_or(Err(BodyError::TimedOut))
    }
}

fn head(request: &Request) -> Head {
    Head {
        method: method(request.get_method()),
        target: request.get_path_with_query().unwrap_or_default(),
        headers: request.get_headers().copy_all().into(),
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

fn response(reply: Reply) -> Response {
    let (status, fields, content) = reply.into_parts();
    let fields = take(&with_length(fields, content.expose()));
    let (stream, end) = write(content.release());
    let (response, _) = Response::new(fields, Some(stream), end);
    // What a response begins with is 200.
    if status != StatusCode::OK {
        let _ = response.set_status_code(status.as_u16());
    }
    response
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

fn request(call: &Call, limit: Duration) -> Result<Request, CallError> {
    let fields = Fields::new();
    for (name, value) in call.headers() {
        fields.append(name, value.expose().as_bytes()).map_err(|_| CallError::Lost)?;
    }
    let content = call.body().expose();
    let (stream, end) = if content.is_empty() {
        (None, finished())
    } else {
        let length = content.len().to_string();
        fields.append("content-length", length.as_bytes()).map_err(|_| CallError::Lost)?;
        let (stream, end) = write(content.clone());
        (Some(stream), end)
    };
    let (request, _) = Request::new(fields, stream, end, Some(options(limit)));
    let endpoint = call.endpoint();
    let scheme = if endpoint.is_tls() { Scheme::Https } else { Scheme::Http };
    let method = if *call.method() == Method::POST { WasiMethod::Post } else { WasiMethod::Get };
    let set = request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(endpoint.authority())))
        .and_then(|()| request.set_path_with_query(Some(endpoint.path_and_query())));
    set.map_err(|()| CallError::Lost)?;
    Ok(request)
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

/// What follows a body: no trailers, or the reason why it was cut short.
type End = Result<Option<Trailers>, ErrorCode>;

/// The end of a body that has no content.
fn finished() -> FutureReader<End> {
    wit_future::new(|| Ok(None)).1
}

/// Writes a whole body. One that is not finished tells the other side that it was cut short.
fn write(content: Vec<u8>) -> (StreamReader<u8>, FutureReader<End>) {
    let (mut stream, reader) = wit_stream::new();
    let (end, end_reader) = wit_future::new(|| Err(ErrorCode::InternalError(None)));
    spawn(async move {
        let _unfinished = UnfinishedBody::begin();
        let written = within(WRITE_LIMIT, write_unless_evicted(&mut stream, content)).await;
        drop(stream);
        if written == Some(true) {
            let _ = end.write(Ok(None)).await;
        }
    });
    (reader, end_reader)
}

/// Writes all of `content`, and says whether it could. A large one gives up when later ones need its room.
async fn write_unless_evicted(stream: &mut StreamWriter<u8>, content: Vec<u8>) -> bool {
    if !is_large(content.len()) {
        return write_all(stream, content).await;
    }
    let (_large, evicted) = LargeBody::of(content.len());
    let (mut writing, mut evicted) = (pin!(write_all(stream, content)), pin!(evicted));
    poll_fn(|context| match writing.as_mut().poll(context) {
        Poll::Ready(written) => Poll::Ready(written),
        Poll::Pending => evicted.as_mut().poll(context).map(|()| false),
    })
    .await
}

async fn write_all(stream: &mut StreamWriter<u8>, content: Vec<u8>) -> bool {
    Zeroizing::new(stream.write_all(content).await).is_empty()
}

/// Lets the tasks go on that still write an answer, once, if there is a crowd of them.
///
/// A host's HTTP server is done with an answer as soon as `content-length` bytes are there, and reads the next request of the
/// connection; the task that wrote them is not done. A task of `wit-bindgen` yields when it begins to wait, and Wasmtime 48 lets tasks
/// that have yielded go on one at a time, the oldest first, and only while no request waits to be started (`wasmtime`,
/// `concurrent.rs`, `poll_until`). So under load unfinished tasks would pile up without a bound. A request that yields as well comes
/// after all of them.
async fn wait_for_a_turn() {
    if UNFINISHED.with_borrow(PendingBodies::is_crowded) {
        yield_async().await;
    }
}

thread_local! {
    static UNFINISHED: RefCell<PendingBodies<StreamWriter<u8>>> = const { RefCell::new(PendingBodies::new()) };
}

/// A body that is being written, counted until this is dropped.
struct UnfinishedBody;

impl UnfinishedBody {
    fn begin() -> Self {
        UNFINISHED.with_borrow_mut(PendingBodies::begin);
        Self
    }
}

impl Drop for UnfinishedBody {
    fn drop(&mut self) {
        UNFINISHED.with_borrow_mut(PendingBodies::end);
    }
}

/// A large body that is being written, which has its room until this is dropped.
struct LargeBody(LargeId);

impl LargeBody {
    /// Makes room for `bytes`; with it comes what ends when later ones need it.
    fn of(bytes: usize) -> (Self, impl Future<Output = ()>) {
        let (signal, evicted) = signal();
        let (id, oldest) = UNFINISHED.with_borrow_mut(|unfinished| unfinished.add_large(bytes, signal));
        drop(oldest);
        (Self(id), evicted)
    }
}

impl Drop for LargeBody {
    fn drop(&mut self) {
        drop(UNFINISHED.with_borrow_mut(|unfinished| unfinished.remove_large(&self.0)));
    }
}

/// Reads a whole body, which has `length` bytes if that is known: then its end need not be waited for. `done` tells the other
/// side that we want no more of it, once it is dropped.
async fn read_body(
    mut stream: StreamReader<u8>,
    end: FutureReader<End>,
    done: FutureWriter<Result<(), ErrorCode>>,
    most: usize,
    length: Option<usize>,
) -> Result<Vec<u8>, BodyError> {
    let room = length.map_or(MOST_TO_READ, |it| it.clamp(1, MOST_TO_READ));
    let mut content = Vec::new();
    while length != Some(content.len()) {
        match stream.read(Vec::with_capacity(room)).await {
            // No progress: the clock and the other requests get their turn.
            (StreamResult::Complete(_), chunk) if chunk.is_empty() => yield_async().await,
            (StreamResult::Complete(_), chunk) if chunk.len() > most.saturating_sub(content.len()) => {
                return Err(BodyError::TooLarge);
            }
            (StreamResult::Complete(_), chunk) if content.is_empty() => content = chunk,
            (StreamResult::Complete(_), chunk) => content.extend_from_slice(&chunk),
            (StreamResult::Dropped, _) => {
                end.await.map_err(|_| BodyError::Lost)?;
                break;
            }
            (StreamResult::Cancelled, _) => return Err(BodyError::Lost),
        }
    }
    drop(done);
    Ok(content)
}

const MOST_TO_READ: usize = 16 * 1024;
