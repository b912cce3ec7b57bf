//! What a fault makes of an answer.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};

use super::{Answer, Effect, Fault};
use crate::{Body, Cut, reply};

impl Fault {
    /// What happens before there is an answer: the delay, silence, or the connection's end.
    pub(crate) async fn before_headers(&self) -> Result<(), Cut> {
        if self.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.delay_ms)).await;
        }
        match self.effect {
            Effect::HangBeforeHeaders => std::future::pending().await,
            Effect::CutBeforeHeaders => Err(Cut),
            _ => Ok(()),
        }
    }

    /// What becomes of an answer.
    pub(crate) fn spoil(&self, answer: Response<Bytes>) -> Response<Body> {
        let mut spoiled = match &self.effect {
            Effect::Redirect(location) => {
                let mut response = reply::empty(StatusCode::TEMPORARY_REDIRECT);
                response.headers_mut().insert(LOCATION, location.clone());
                response.map(whole)
            }
            Effect::Answer(Answer { status, headers, body }) => {
                let mut response = reply::empty(*status);
                *response.headers_mut() = headers.clone();
                // The server frames the message; it may not be framed twice.
                response.headers_mut().remove(CONTENT_LENGTH);
                response.headers_mut().remove(TRANSFER_ENCODING);
                response.map(|_| whole(Bytes::from(body.clone())))
            }
            Effect::PlainText => {
                let mut answer = answer;
                answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
                answer.map(|_| whole(Bytes::from_static(PAGE.as_bytes())))
            }
            Effect::EmptyBody => answer.map(|_| whole(Bytes::new())),
            Effect::BrokenJson => {
                answer.map(|_| whole(Bytes::from_static(b"{\"value\": \"half\", \"id\": }")))
            }
            Effect::ByteOrderMark => answer.map(|it| whole([b"\xEF\xBB\xBF", &it[..]].concat().into())),
            Effect::TruncatedJson => answer.map(|it| whole(half(&it))),
            Effect::HugeBody(length) => {
                let mut response = huge(*length);
                response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from((*length).max(SHORTEST)));
                response
            }
            Effect::HugeChunkedBody(length) => huge(*length),
            Effect::HangWithinBody => {
                halved(answer, |start| stream::once(async { Ok(start) }).chain(stream::pending()))
            }
            Effect::CutWithinBody => halved(answer, |start| {
                let end = async {
                    // hyper writes what it has only when there is nothing more to take at once.
                    tokio::task::yield_now().await;
                    Err(Cut)
                };
                stream::once(async { Ok(start) }).chain(stream::once(end))
            }),
            Effect::Truth
            | Effect::Refuse(_)
            | Effect::RefuseToken(_)
            | Effect::Status(_)
            | Effect::HangBeforeHeaders
            | Effect::CutBeforeHeaders => answer.map(whole),
        };
        if let Some(value) = &self.retry_after {
            spoiled.headers_mut().insert(RETRY_AFTER, value.clone());
        }
        spoiled
    }
}

/// An answer that comes as it is.
pub(crate) fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// An answer whose length is declared and whose second half does not come.
fn halved<S>(answer: Response<Bytes>, rest: impl FnOnce(Bytes) -> S) -> Response<Body>
where
    S: futures_util::Stream<Item = Result<Bytes, Cut>> + Send + 'static,
{
    let length = answer.body().len();
    let mut response =
        answer.map(|it| StreamBody::new(rest(half(&it)).map(|it| it.map(Frame::data))).boxed_unsync());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

fn half(body: &Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

/// `{"value":"aaaa…"}` of `length` bytes, made as it is read.
fn huge(length: u64) -> Response<Body> {
    let mut filling = length.saturating_sub(SHORTEST);
    let middle = stream::iter(std::iter::from_fn(move || {
        let size = filling.min(64 * 1024);
        filling -= size;
        (size > 0).then(|| Bytes::from(vec![b'a'; usize::try_from(size).unwrap_or_default()]))
    }));
    let edge = |text: &'static str| stream::iter([Bytes::from_static(text.as_bytes())]);
    let parts = edge(HUGE_START).chain(middle).chain(edge(HUGE_END));
    let body = StreamBody::new(parts.map(|it| Ok(Frame::data(it)))).boxed_unsync();
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

const HUGE_START: &str = r#"{"value":""#;
const HUGE_END: &str = r#""}"#;
const SHORTEST: u64 = (HUGE_START.len() + HUGE_END.len()) as u64;

const PAGE: &str = "<html><head><title>Access Denied</title></head><body>Blocked by policy.</body></html>";
