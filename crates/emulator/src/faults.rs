//! Faults: the requests that they match, and their effects.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use strum::IntoStaticStr;
use tokio::time::Instant;

use crate::request::{Kind, Request};
use crate::response::with_header;
use crate::store::is_secret_name;
use crate::{Body, Cut, Refusal, Source, TokenRefusal, response};

/// The requests that a fault matches, and its effect on them.
///
/// A fault that no request can match is invalid: only vault requests have secrets.
///
/// In the JSON of the control route every field is optional:
/// `{"secret":"db","times":2,"delay_ms":50,"retry_after":"1","effect":{"refuse":"throttled"}}`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    upstream: Upstream,
    source: Option<Source>,
    secret: Option<String>,
    times: Option<u32>,
    every: Option<u32>,
    lasts_ms: Option<u64>,
    delay_ms: u64,
    retry_after: Option<String>,
    pub(crate) effect: Effect,
}

/// A fault in force: its start, and the number of requests that matched it.
pub(crate) struct Rule {
    fault: Fault,
    since: Instant,
    matched: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upstream {
    /// All requests except control requests.
    #[default]
    Any,
    Vault,
    Token,
    /// Entra's JWKS.
    SigningKeys,
    /// The OIDC issuers of callers' tokens.
    Issuers,
}

#[derive(Clone, Debug, Default, Deserialize, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Effect {
    /// The unchanged response, for a fault that only delays it or adds `Retry-After`.
    #[default]
    Truth,
    /// A refusal of Key Vault, for vault requests only.
    Refuse(Refusal),
    /// A refusal of a token source, for token requests only.
    RefuseToken(TokenRefusal),
    /// An error with this status and the body that the upstream documents for it.
    Status(#[serde(deserialize_with = "status")] StatusCode),
    Answer(Answer),
    /// A 307 redirect to this address.
    Redirect(#[serde(deserialize_with = "header_value")] HeaderValue),
    /// The unchanged status with an HTML page, as a firewall sends it.
    PlainText,
    /// The unchanged status and headers with an empty body.
    EmptyBody,
    /// The unchanged status with invalid JSON.
    BrokenJson,
    /// The unchanged response with a byte order mark before the body, as Azure's services send it sometimes.
    ByteOrderMark,
    /// The first half of the body, framed as a complete message.
    TruncatedJson,
    /// 200 with valid JSON of this many bytes, with a `Content-Length`.
    HugeBody(u64),
    /// The same without a `Content-Length`, so that only a client that counts the bytes can stop.
    HugeChunkedBody(u64),
    HangBeforeHeaders,
    /// The headers and the first half of the body; then the connection hangs.
    HangWithinBody,
    CutBeforeHeaders,
    /// The headers and the first half of the body; then the connection is cut.
    CutWithinBody,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// A status from 200 to 599.
    #[serde(deserialize_with = "status")]
    pub status: StatusCode,
    /// Exactly these headers, except those that frame the message.
    #[serde(default, deserialize_with = "header_map")]
    pub headers: HeaderMap,
    #[serde(default)]
    pub body: String,
}

impl Fault {
    /// Matches each request to `upstream` until the faults are cleared.
    pub fn new(upstream: Upstream, effect: Effect) -> Self {
        Self { upstream, effect, ..Self::default() }
    }

    pub fn refuse(refusal: Refusal) -> Self {
        Self::new(Upstream::Vault, Effect::Refuse(refusal))
    }

    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Matches the first of each `every` requests; with 2, every other request.
    pub fn every(self, every: u32) -> Self {
        Self { every: Some(every), ..self }
    }

    /// Expires after this time, rounded down to milliseconds.
    pub fn lasting(self, time: Duration) -> Self {
        Self { lasts_ms: Some(u64::try_from(time.as_millis()).unwrap_or(u64::MAX)), ..self }
    }

    /// Matches only requests to the endpoint of this token source. [`Source::WorkloadIdentity`] selects
    /// Entra's, for each request with a client assertion, and no endpoint that issues one.
    pub fn source(self, source: Source) -> Self {
        Self { source: Some(source), ..self }
    }

    pub fn secret(self, name: &str) -> Self {
        Self { secret: Some(name.to_owned()), ..self }
    }

    /// Delays the response by this time, rounded down to milliseconds.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay_ms: u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), ..self }
    }

    /// Adds `Retry-After` to the response: seconds, or an HTTP date.
    pub fn retry_after(self, value: &'static str) -> Self {
        Self { retry_after: Some(value.to_owned()), ..self }
    }

    /// Checks that a request can match the fault. The error contains the reason.
    fn check(&self) -> Result<(), String> {
        let elsewhere = matches!(self.upstream, Upstream::Token | Upstream::SigningKeys | Upstream::Issuers);
        let by_vault = matches!(self.effect, Effect::Refuse(_));
        let by_token_source = matches!(self.effect, Effect::RefuseToken(_));
        let bad_name = self.secret.as_deref().is_some_and(|name| !is_secret_name(name));
        let bad_header =
            self.retry_after.as_deref().is_some_and(|value| HeaderValue::from_str(value).is_err());
        let rules = [
            (elsewhere && by_vault, "`refuse` is for a vault only; use `status` for other upstreams"),
            (
                by_token_source && self.upstream != Upstream::Token,
                "`refuse_token` is for a token source only",
            ),
            (
                self.source.is_some() && self.upstream != Upstream::Token,
                "only token requests have a `source`",
            ),
            (elsewhere && self.secret.is_some(), "only vault requests have a `secret`"),
            (bad_name, "a secret's name is 1 to 127 letters, digits and hyphens"),
            (self.times == Some(0) || self.every == Some(0), "`times` and `every` must be at least 1"),
            (bad_header, "`retry_after` is not valid in a header"),
        ];
        let broken = rules.iter().find(|(is_broken, _)| *is_broken);
        broken.map_or(Ok(()), |(_, rule)| Err(format!("no request can match this fault: {rule}")))
    }

    fn matches(&self, request: &Request) -> bool {
        let upstream = match self.upstream {
            Upstream::Any => true,
            Upstream::Vault => request.kind == Kind::Vault,
            Upstream::Token => match request.kind {
                Kind::Token(source) => self.source.is_none_or(|known| known == source),
                _ => false,
            },
            Upstream::SigningKeys => request.kind == Kind::SigningKeys,
            Upstream::Issuers => request.kind == Kind::OidcIssuer,
        };
        let secret = match &self.secret {
            None => true,
            Some(name) => request.secret().is_some_and(|secret| secret.eq_ignore_ascii_case(name)),
        };
        let effect = !matches!(self.effect, Effect::Refuse(_)) || request.kind == Kind::Vault;
        upstream && secret && effect
    }

    /// Applies what precedes the response: the delay, a connection that hangs, or a cut connection.
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

    /// Applies the effect to the unchanged `response`.
    pub(crate) fn apply(&self, response: Response<Bytes>) -> Response<Body> {
        let changed = match &self.effect {
            Effect::Redirect(location) => {
                let response = response::empty(StatusCode::TEMPORARY_REDIRECT).map(full_body);
                with_header(response, LOCATION, location.clone())
            }
            Effect::Answer(Answer { status, headers, body }) => {
                let mut response = response::empty(*status);
                *response.headers_mut() = headers.clone();
                // The server adds the headers that frame the message.
                response.headers_mut().remove(CONTENT_LENGTH);
                response.headers_mut().remove(TRANSFER_ENCODING);
                response.map(|_| full_body(Bytes::from(body.clone())))
            }
            Effect::PlainText => {
                let page = response.map(|_| full_body(Bytes::from_static(PAGE.as_bytes())));
                with_header(page, CONTENT_TYPE, HeaderValue::from_static("text/html"))
            }
            Effect::EmptyBody => response.map(|_| full_body(Bytes::new())),
            Effect::BrokenJson => {
                response.map(|_| full_body(Bytes::from_static(b"{\"value\": \"half\", \"id\": }")))
            }
            Effect::ByteOrderMark => {
                response.map(|body| full_body([b"\xEF\xBB\xBF", &body[..]].concat().into()))
            }
            Effect::TruncatedJson => response.map(|body| full_body(first_half(&body))),
            Effect::HugeBody(length) => {
                with_header(huge(*length), CONTENT_LENGTH, (*length).max(MIN_HUGE_BODY).into())
            }
            Effect::HugeChunkedBody(length) => huge(*length),
            Effect::HangWithinBody => cut_in_half(response, std::future::pending()),
            Effect::CutWithinBody => cut_in_half(response, async {
                // hyper flushes the first half only when the body is pending.
                tokio::task::yield_now().await;
                Err(Cut)
            }),
            Effect::Truth
            | Effect::Refuse(_)
            | Effect::RefuseToken(_)
            | Effect::Status(_)
            | Effect::HangBeforeHeaders
            | Effect::CutBeforeHeaders => response.map(full_body),
        };
        match self.retry_after.as_deref().map(HeaderValue::from_str) {
            Some(Ok(value)) => with_header(changed, RETRY_AFTER, value),
            _ => changed,
        }
    }
}

pub(crate) fn full_body(body: Bytes) -> Body {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Declares the length of the whole body, sends the first half, and ends with `end`.
fn cut_in_half(
    response: Response<Bytes>,
    end: impl Future<Output = Result<Bytes, Cut>> + Send + 'static,
) -> Response<Body> {
    let length = response.body().len();
    let response = response.map(|body| {
        let start = stream::iter([Ok(first_half(&body))]);
        StreamBody::new(start.chain(stream::once(end)).map(|part| part.map(Frame::data))).boxed_unsync()
    });
    with_header(response, CONTENT_LENGTH, length.into())
}

fn first_half(body: &Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

/// Streams `{"value":"aaaa…"}` of `length` bytes, generated as the client reads.
fn huge(length: u64) -> Response<Body> {
    let mut filling = length.saturating_sub(MIN_HUGE_BODY);
    let middle = stream::iter(std::iter::from_fn(move || {
        let size = filling.min(64 * 1024);
        filling -= size;
        (size > 0).then(|| Bytes::from(vec![b'a'; usize::try_from(size).unwrap_or_default()]))
    }));
    let edge = |text: &'static str| stream::iter([Bytes::from_static(text.as_bytes())]);
    let parts = edge(HUGE_START).chain(middle).chain(edge(HUGE_END));
    let body = StreamBody::new(parts.map(|part| Ok(Frame::data(part)))).boxed_unsync();
    with_header(Response::new(body), CONTENT_TYPE, HeaderValue::from_static(response::JSON))
}

const HUGE_START: &str = r#"{"value":""#;
const HUGE_END: &str = r#""}"#;
const MIN_HUGE_BODY: u64 = (HUGE_START.len() + HUGE_END.len()) as u64;

const PAGE: &str = "<html><head><title>Access Denied</title></head><body>Blocked by policy.</body></html>";

#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) rules: Vec<Rule>,
}

impl Faults {
    /// Adds a fault, unless no request can match it.
    pub(crate) fn add(&mut self, fault: Fault) -> Result<(), String> {
        fault.check()?;
        self.rules.push(Rule { fault, since: Instant::now(), matched: 0 });
        Ok(())
    }

    /// Returns the first fault that matches the request, and counts the match.
    pub(crate) fn take(&mut self, request: &Request) -> Option<Fault> {
        let is_active = |rule: &Rule| {
            rule.fault.lasts_ms.is_none_or(|limit| rule.since.elapsed().as_millis() < limit.into())
        };
        self.rules.retain(is_active);
        let mut matching = self.rules.iter_mut().filter(|rule| rule.fault.matches(request));
        let rule = matching.find_map(|rule| {
            let applies = rule.fault.every.is_none_or(|every| rule.matched.is_multiple_of(every));
            rule.matched = rule.matched.wrapping_add(1);
            applies.then_some(rule)
        })?;
        rule.fault.times = rule.fault.times.map(|left| left - 1);
        let fault = rule.fault.clone();
        self.rules.retain(|rule| rule.fault.times != Some(0));
        Some(fault)
    }
}

fn status<'de, D: Deserializer<'de>>(from: D) -> Result<StatusCode, D::Error> {
    let number = u16::deserialize(from)?;
    let status = StatusCode::from_u16(number).ok().filter(|_| (200..=599).contains(&number));
    status.ok_or_else(|| D::Error::custom("expected a status from 200 to 599"))
}

fn header_value<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderValue, D::Error> {
    HeaderValue::try_from(String::deserialize(from)?).map_err(D::Error::custom)
}

fn header_map<'de, D: Deserializer<'de>>(from: D) -> Result<HeaderMap, D::Error> {
    let pairs = std::collections::HashMap::<String, String>::deserialize(from)?;
    HeaderMap::try_from(&pairs).map_err(D::Error::custom)
}
