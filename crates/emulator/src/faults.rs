//! Faults: which requests they befall, and what they do.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use strum::IntoStaticStr;
use tokio::time::Instant;

use crate::request::{Ask, Kind};
use crate::store::is_name;
use crate::{Body, Cut, Refusal, TokenRefusal, reply};

/// A rule: which requests meet this fault, and what it does to them.
///
/// One that no request can meet is not taken: only a vault [refuses](Effect::Refuse) and has secrets.
///
/// In JSON, as the control route takes it, everything but a wish may be left out:
/// `{"upstream":"vault","secret":"db","times":2,"every":2,"lasts_ms":5000,"delay_ms":50,"retry_after":"1","effect":{"refuse":"throttled"}}`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    upstream: Upstream,
    secret: Option<String>,
    times: Option<u32>,
    every: Option<u32>,
    lasts_ms: Option<u64>,
    delay_ms: u64,
    retry_after: Option<String>,
    pub(crate) effect: Effect,
}

/// A rule in force: since when, and how many requests it could have befallen.
struct Rule {
    fault: Fault,
    since: Instant,
    met: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upstream {
    /// All but the control routes.
    #[default]
    Any,
    Vault,
    Token,
    SigningKeys,
}

#[derive(Clone, Debug, Default, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Effect {
    /// Nothing: the true answer, for a fault that only delays it or adds `Retry-After`.
    #[default]
    Truth,
    /// Key Vault refuses. No other requests meet this fault.
    Refuse(Refusal),
    /// A token source refuses. No other requests meet this fault.
    RefuseToken(TokenRefusal),
    /// An error of this status with the body that the upstream documents for it.
    Status(#[serde(deserialize_with = "status")] StatusCode),
    Answer(Answer),
    /// A redirect (307) to this address.
    Redirect(#[serde(deserialize_with = "header_value")] HeaderValue),
    /// The true status with a page of HTML, as a firewall between answers.
    PlainText,
    /// The true status and headers without a body.
    EmptyBody,
    /// The true status with text that is nearly JSON.
    BrokenJson,
    /// The true answer with a byte order mark in front of its body, as Azure's services send it now and then.
    ByteOrderMark,
    /// The first half of the true body, as a whole message.
    TruncatedJson,
    /// 200 with valid JSON of this many bytes, with a `Content-Length`.
    HugeBody(u64),
    /// The same without a `Content-Length`: only a client that counts notices.
    HugeChunkedBody(u64),
    HangBeforeHeaders,
    /// Headers and the first half of the body, then silence.
    HangWithinBody,
    CutBeforeHeaders,
    /// Headers and the first half of the body, then the connection ends.
    CutWithinBody,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// From 200 to 599.
    #[serde(deserialize_with = "status")]
    pub status: StatusCode,
    /// Exactly these headers, apart from those that frame the message.
    #[serde(default, deserialize_with = "header_map")]
    pub headers: HeaderMap,
    #[serde(default)]
    pub body: String,
}

impl Fault {
    /// Befalls every request to `upstream` until the faults are cleared.
    pub fn new(upstream: Upstream, effect: Effect) -> Self {
        Self { upstream, effect, ..Self::default() }
    }

    pub fn refuse(refusal: Refusal) -> Self {
        Self::new(Upstream::Vault, Effect::Refuse(refusal))
    }

    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Befalls the first of so many requests, and then the next after these; with 2 every other one.
    pub fn every(self, every: u32) -> Self {
        Self { every: Some(every), ..self }
    }

    /// Ends by itself after this time, in whole milliseconds.
    pub fn lasting(self, time: Duration) -> Self {
        Self { lasts_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    pub fn secret(self, name: &str) -> Self {
        Self { secret: Some(name.to_owned()), ..self }
    }

    /// Waits before everything else, in whole milliseconds.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), ..self }
    }

    /// Adds `Retry-After` to the answer: seconds, or an HTTP date.
    pub fn retry_after(self, value: &'static str) -> Self {
        Self { retry_after: Some(value.to_owned()), ..self }
    }

    /// Whether there are requests that this can befall. The error is a sentence that says why not.
    fn check(&self) -> Result<(), String> {
        let elsewhere = matches!(self.upstream, Upstream::Token | Upstream::SigningKeys);
        let for_a_token = matches!(self.effect, Effect::RefuseToken(_));
        let rules = [
            (
                elsewhere && matches!(self.effect, Effect::Refuse(_)),
                "`refuse` is for a vault only, `status` for every upstream",
            ),
            (for_a_token && self.upstream != Upstream::Token, "`refuse_token` is for a token source only"),
            (elsewhere && self.secret.is_some(), "only a request to a vault is for a secret"),
            (
                self.secret.as_deref().is_some_and(|name| !is_name(name)),
                "a secret's name is 1 to 127 letters, digits and hyphens",
            ),
            (self.times == Some(0) || self.every == Some(0), "it is for 0 requests"),
            (
                self.retry_after.as_deref().map(HeaderValue::from_str).is_some_and(|it| it.is_err()),
                "its `retry_after` cannot stand in a header",
            ),
        ];
        let broken = rules.iter().find(|(broken, _)| *broken);
        broken.map_or(Ok(()), |(_, rule)| Err(format!("this fault befalls nothing: {rule}")))
    }

    fn befalls(&self, ask: &Ask) -> bool {
        let upstream = match self.upstream {
            Upstream::Any => true,
            Upstream::Vault => ask.kind == Kind::Vault,
            Upstream::Token => matches!(ask.kind, Kind::Token(_)),
            Upstream::SigningKeys => ask.kind == Kind::SigningKeys,
        };
        let secret = match &self.secret {
            None => true,
            Some(name) => ask.secret().is_some_and(|it| it.eq_ignore_ascii_case(name)),
        };
        let refusable = !matches!(self.effect, Effect::Refuse(_)) || ask.kind == Kind::Vault;
        upstream && secret && refusable
    }

    pub(crate) fn name(&self) -> &'static str {
        (&self.effect).into()
    }

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

    pub(crate) fn spoil(&self, mut answer: Response<Bytes>) -> Response<Body> {
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
            Effect::HangWithinBody => halved(answer, std::future::pending()),
            Effect::CutWithinBody => halved(answer, async {
                // hyper writes what it has only when there is nothing more to take at once.
                tokio::task::yield_now().await;
                Err(Cut)
            }),
            Effect::Truth
            | Effect::Refuse(_)
            | Effect::RefuseToken(_)
            | Effect::Status(_)
            | Effect::HangBeforeHeaders
            | Effect::CutBeforeHeaders => answer.map(whole),
        };
        if let Some(Ok(value)) = self.retry_after.as_deref().map(HeaderValue::from_str) {
            spoiled.headers_mut().insert(RETRY_AFTER, value);
        }
        spoiled
    }
}

pub(crate) fn whole(body: Bytes) -> Body {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// An answer whose length is declared and whose second half does not come, but this.
fn halved(
    answer: Response<Bytes>,
    end: impl Future<Output = Result<Bytes, Cut>> + Send + 'static,
) -> Response<Body> {
    let length = answer.body().len();
    let mut response = answer.map(|body| {
        let start = stream::iter([Ok(half(&body))]);
        StreamBody::new(start.chain(stream::once(end)).map(|part| part.map(Frame::data))).boxed_unsync()
    });
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
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(reply::JSON));
    response
}

const HUGE_START: &str = r#"{"value":""#;
const HUGE_END: &str = r#""}"#;
const SHORTEST: u64 = (HUGE_START.len() + HUGE_END.len()) as u64;

const PAGE: &str = "<html><head><title>Access Denied</title></head><body>Blocked by policy.</body></html>";

#[derive(Default)]
pub(crate) struct Faults {
    rules: Vec<Rule>,
}

impl Faults {
    /// Adds a rule, if there are requests that it can befall. The error is a sentence.
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), String> {
        fault.check()?;
        self.rules.push(Rule { fault, since: Instant::now(), met: 0 });
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// The first rule that befalls this request; it is used up by one.
    pub(crate) fn take(&mut self, ask: &Ask) -> Option<Fault> {
        self.rules
            .retain(|it| it.fault.lasts_ms.is_none_or(|most| it.since.elapsed().as_millis() < most.into()));
        let mut meeting = self.rules.iter_mut().filter(|rule| rule.fault.befalls(ask));
        let rule = meeting.find_map(|rule| {
            let turn = rule.fault.every.is_none_or(|every| rule.met.is_multiple_of(every));
            rule.met = rule.met.wrapping_add(1);
            turn.then_some(rule)
        })?;
        rule.fault.times = rule.fault.times.map(|it| it - 1);
        let fault = rule.fault.clone();
        self.rules.retain(|it| it.fault.times != Some(0));
        Some(fault)
    }
}

fn status<'de, D: Deserializer<'de>>(from: D) -> Result<StatusCode, D::Error> {
    let number = u16::deserialize(from)?;
    let status = StatusCode::from_u16(number).ok().filter(|_| (200..=599).contains(&number));
    status.ok_or_else(|| D::Error::custom("a status from 200 to 599 is expected"))
}

fn header_value<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderValue, D::Error> {
    HeaderValue::try_from(String::deserialize(from)?).map_err(D::Error::custom)
}

fn header_map<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderMap, D::Error> {
    let pairs = std::collections::BTreeMap::<String, String>::deserialize(from)?;
    let pairs = pairs.into_iter().map(|(name, value)| {
        let name = HeaderName::try_from(name).map_err(D::Error::custom)?;
        Ok((name, HeaderValue::try_from(value).map_err(D::Error::custom)?))
    });
    pairs.collect()
}
