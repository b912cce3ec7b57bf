//! WASI 0.3: an instance answers many requests at a time, each in a task of its own.

mod deadlines;

use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::bindings::clocks::monotonic_clock;
use super::bindings::exports::http::handler::Guest;
use super::bindings::http::client;
use super::bindings::http::types::{ErrorCode, Method, Request, Response, Trailers};
use super::bindings::wit_bindgen::{
    FutureReader, FutureWriter, StreamReader, StreamResult, StreamWriter, yield_async,
};
use super::bindings::{spawn, wit_future, wit_stream};
use super::component_api::{
    Details, NoSecret, Request as AskedFor, Secret, Secrets, immediate, pairs, value,
};
use super::http_types::{
    call_error, content_length, field, head, options, request_fields, response_fields, set_status, set_target,
};
use super::{WRITE_LIMIT, Wasi, nanoseconds};
use crate::azure::{Answer, Call, CallError};
use crate::gateway::{Answered, Gateway};
use crate::host::{Body, BodyError, Signal, unless};
use crate::http::response::Reply;
use crate::model::Moment;
use crate::secrets::{Found, Refresh};
use crate::sync::pending_bodies::{LargeId, PendingBodies, is_large};

use deadlines::{until, within};

/// The component, whose functions the host calls.
pub(super) struct Component;

super::bindings::http::service::export!(Component);

thread_local! {
    static GATEWAY: Rc<Gateway<Wasi>> = Rc::new(Gateway::new(Wasi));
}

impl Guest for Component {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        wait_for_a_turn().await;
        let gateway = GATEWAY.with(Rc::clone);
        let fields = request.get_headers().copy_all();
        let head = head(request.get_method(), request.get_path_with_query(), fields.into());
        let body = RequestBody { length: content_length(&head.headers), request };
        let Answered { reply, refreshes } = gateway.answer(head, body).await;
        refresh_all(gateway, refreshes);
        Ok(response(reply))
    }
}

impl Secrets for Component {
    async fn get(name: String, version: Option<String>) -> Result<String, NoSecret> {
        read(&name, version.as_deref(), false).await.map(|found| value(&found.secret))
    }

    async fn read(name: String, version: Option<String>, refresh: bool) -> Result<Secret, NoSecret> {
        read(&name, version.as_deref(), refresh).await.map(Secret::from)
    }

    async fn get_many(requests: Vec<AskedFor>) -> Vec<Result<Secret, NoSecret>> {
        let (gateway, requests) = (GATEWAY.with(Rc::clone), pairs(requests));
        let mut read = gateway.read_many(&requests).await;
        let refreshes = read.iter_mut().flatten().filter_map(|found| found.refresh.take()).collect();
        refresh_all(gateway, refreshes);
        read.into_iter().map(|read| read.map(Secret::from).map_err(NoSecret::from)).collect()
    }

    async fn details(name: String, version: Option<String>) -> Result<Details, NoSecret> {
        read(&name, version.as_deref(), false).await.map(Details::from)
    }

    fn get_cached(name: String, version: Option<String>) -> Option<String> {
        GATEWAY.with(|gateway| gateway.get_cached(&name, version.as_deref())).map(|cached| value(&cached))
    }

    async fn vault() -> Result<String, NoSecret> {
        let gateway = GATEWAY.with(Rc::clone);
        Ok(gateway.vault().await?)
    }
}

impl immediate::Guest for Component {
    /// The buffers that the host reads the reply from are freed as they are, and the host's copy is its own:
    /// neither is overwritten.
    fn answer(request: immediate::Request) -> Option<immediate::Reply> {
        let body = Zeroizing::new(request.body);
        let head = head(Method::Other(request.method), Some(request.path_with_query), request.fields.into());
        let reply = GATEWAY.with(|gateway| gateway.answer_now(&head, request.authority.as_deref(), &body))?;
        let (status, mut headers, content) = reply.into_parts();
        headers.add("content-length", content.expose().len().to_string());
        Some(immediate::Reply {
            status: status.as_u16(),
            fields: headers.into_list(),
            body: content.release(),
        })
    }
}

async fn read(name: &str, version: Option<&str>, refresh: bool) -> Result<Found, NoSecret> {
    let gateway = GATEWAY.with(Rc::clone);
    let mut found = gateway.read(name, version, refresh).await?;
    refresh_all(gateway, found.refresh.take().into_iter().collect());
    Ok(found)
}

/// Refreshes secrets in a task of their own, one after the other.
fn refresh_all(gateway: Rc<Gateway<Wasi>>, refreshes: Vec<Refresh>) {
    if !refreshes.is_empty() {
        spawn(async move {
            for refresh in refreshes {
                gateway.refresh(refresh).await;
            }
        });
    }
}

/// Sends a call and reads its whole answer.
pub(super) async fn send(call: Call, limit: Duration) -> Result<Answer, CallError> {
    let answer = async {
        let response = client::send(request(&call, limit)?).await.map_err(call_error)?;
        let status = response.get_status_code();
        let fields = response.get_headers();
        let (retry_after, challenge) = (field(&fields, "retry-after"), field(&fields, "www-authenticate"));
        drop(fields);
        let (done, result) = wit_future::new(|| Ok(()));
        let (stream, end) = Response::consume_body(response, result);
        let body = read_body(stream, end, done, call.answer_limit(), None).await?;
        Ok(Answer::new(status, retry_after, body).with_challenge(challenge))
    };
    within(limit, answer).await.unwrap_or(Err(CallError::TimedOut))
}

pub(super) async fn sleep(time: Duration) {
    monotonic_clock::wait_for(nanoseconds(time)).await;
}

/// Makes a signal of the core.
pub(super) fn signal() -> (Signal, impl Future<Output = ()>) {
    let (end, dropped) = stream_signal();
    (Signal::new(end), dropped)
}

/// A stream that ends unwritten: its end is an event of the host, which reaches a task where a waker would
/// not.
fn stream_signal() -> (StreamWriter<u8>, impl Future<Output = ()>) {
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

    async fn read(self, limit: usize, end: Moment) -> Result<Vec<u8>, BodyError> {
        let (done, result) = wit_future::new(|| Ok(()));
        let (stream, trailers) = Request::consume_body(self.request, result);
        until(end, read_body(stream, trailers, done, limit, self.length))
            .await
            .unwrap_or(Err(BodyError::TimedOut))
    }
}

fn response(reply: Reply) -> Response {
    let (status, headers, content) = reply.into_parts();
    let fields = response_fields(headers, content.expose());
    let (stream, end) = write(content.release());
    let (response, _) = Response::new(fields, Some(stream), end);
    set_status(&response, status);
    response
}

fn request(call: &Call, limit: Duration) -> Result<Request, CallError> {
    let fields = request_fields(call)?;
    let content = call.body().expose();
    let (stream, end) = if content.is_empty() {
        (None, wit_future::new(|| Ok(None)).1)
    } else {
        let (stream, end) = write(content.clone());
        (Some(stream), end)
    };
    let (request, _) = Request::new(fields, stream, end, Some(options(limit)));
    set_target(&request, call)?;
    Ok(request)
}

/// What follows a body: no trailers, or the reason why it was cut short.
type End = Result<Option<Trailers>, ErrorCode>;

/// Writes a whole body. If that fails, the body stays unfinished, which tells the other side that it was cut
/// short.
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
    unless(evicted, write_all(stream, content)).await.unwrap_or(false)
}

async fn write_all(stream: &mut StreamWriter<u8>, content: Vec<u8>) -> bool {
    Zeroizing::new(stream.write_all(content).await).is_empty()
}

/// Lets the tasks that still write a body continue first, once, if there are many.
///
/// A host's HTTP server is done with an answer as soon as `content-length` bytes are there, and reads the
/// next request of the connection; the task that wrote them is not done. A task of `wit-bindgen` yields when
/// it begins to wait, and Wasmtime 48 lets tasks that have yielded go on one at a time, the oldest first, and
/// only while no request waits to be started (`wasmtime`, `concurrent.rs`, `poll_until`). So under load
/// unfinished tasks would pile up without a bound. A request that yields as well comes after all of them.
async fn wait_for_a_turn() {
    if UNFINISHED.with_borrow(PendingBodies::is_crowded) {
        yield_async().await;
    }
}

thread_local! {
    static UNFINISHED: RefCell<PendingBodies<StreamWriter<u8>>> =
        const { RefCell::new(PendingBodies::new()) };
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
    /// Makes room for `bytes`. Returns also a future that ends when later bodies need the room.
    fn of(bytes: usize) -> (Self, impl Future<Output = ()>) {
        let (signal, evicted) = stream_signal();
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

/// Reads a whole body of at most `limit` bytes. If its `length` is known, this does not wait for its end.
/// Dropping `done` tells the other side that we want no more of it.
async fn read_body(
    mut stream: StreamReader<u8>,
    end: FutureReader<End>,
    done: FutureWriter<Result<(), ErrorCode>>,
    limit: usize,
    length: Option<usize>,
) -> Result<Vec<u8>, BodyError> {
    let room = length.map_or(READ_CHUNK, |length| length.clamp(1, READ_CHUNK));
    let mut content = Vec::new();
    while length != Some(content.len()) {
        match stream.read(Vec::with_capacity(room)).await {
            // No progress: the clock and the other requests get their turn.
            (StreamResult::Complete(_), chunk) if chunk.is_empty() => yield_async().await,
            (StreamResult::Complete(_), chunk) if chunk.len() > limit.saturating_sub(content.len()) => {
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

/// How many bytes of a body are read at once.
const READ_CHUNK: usize = 16 * 1024;
