//! The trace of a request (W3C Trace Context).

use std::cell::OnceCell;

use crate::http::headers::Headers;

/// The caller's trace, if there is one, and an id for the log in any case.
#[derive(Debug)]
pub struct Trace {
    parent: Option<Parent>,
    generated: OnceCell<String>,
}

/// A `traceparent` of version 00 that the gateway has built. Of the caller's text it has only the digits of
/// two ids and the known flags.
#[derive(Debug)]
struct Parent(String);

impl Trace {
    /// The trace in these headers. `tracestate` is dropped: it is free text, and Azure has no use for it.
    pub fn of(headers: &Headers) -> Self {
        let mut parents = headers.all("traceparent");
        let parent = match (parents.next(), parents.next()) {
            (Some(Some(text)), None) => Parent::parse(text),
            _ => None,
        };
        Self { parent, generated: OnceCell::new() }
    }

    pub const fn none() -> Self {
        Self { parent: None, generated: OnceCell::new() }
    }

    /// The id of the trace, 32 hexadecimal digits. Without a trace, `random` makes an id when it is first
    /// needed.
    pub fn id(&self, random: impl Fn() -> u64) -> &str {
        self.parent.as_ref().and_then(Parent::trace_id).unwrap_or_else(|| {
            self.generated.get_or_init(|| {
                let bits = [random().to_be_bytes(), random().to_be_bytes()].concat();
                base16ct::lower::encode_string(&bits)
            })
        })
    }

    /// The header that passes the trace on to Azure: a name, and a value of 55 characters.
    pub(crate) fn field(&self) -> Option<(&'static str, &str)> {
        self.parent.as_ref().map(|parent| ("traceparent", parent.0.as_str()))
    }
}

impl Parent {
    /// Parses a `traceparent`: version, trace id, parent id and flags in lower-case hexadecimal digits,
    /// neither id zero.
    ///
    /// A version later than 00 may have more parts, which are dropped. The header for Azure has the version
    /// and the flags that the gateway knows (W3C Trace Context, section 3.2.4, "Versioning of
    /// `traceparent`").
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut part = |digits: usize| {
            let part = parts.next()?;
            let is_hex = part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (is_hex && part.len() == digits).then_some(part)
        };
        let (version, trace, parent, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        let is_zero = |id: &str| id.bytes().all(|byte| byte == b'0');
        let is_whole = version != "00" || parts.next().is_none();
        let is_valid = version != "ff" && !is_zero(trace) && !is_zero(parent) && is_whole;
        let flags = u8::from_str_radix(flags, 16).ok()? & KNOWN_FLAGS;
        is_valid.then(|| Self(format!("00-{trace}-{parent}-{flags:02x}")))
    }

    fn trace_id(&self) -> Option<&str> {
        self.0.split('-').nth(1)
    }
}

/// `sampled` (W3C Trace Context, section 3.2.2.5.1) and `random-trace-id` (Level 2, section 3.2.2.5.2). The
/// other bits must be sent as zero.
const KNOWN_FLAGS: u8 = 0b11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rebuilds_the_traceparent_and_passes_nothing_else_on() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        let sent = |flags: &str| Some(format!("00-{id}-b7ad6b7169203331-{flags}"));
        for (text, passed_on) in [
            (format!("00-{id}-b7ad6b7169203331-01"), sent("01")),
            (format!("00-{id}-b7ad6b7169203331-ff"), sent("03")),
            (format!("cc-{id}-b7ad6b7169203331-00"), sent("00")),
            (format!("cc-{id}-b7ad6b7169203331-01-and-more"), sent("01")),
            (format!("01-{id}-b7ad6b7169203331-01-{}", "x".repeat(32_000)), sent("01")),
            (format!("cc-{id}-b7ad6b7169203331-01-"), sent("01")),
            (format!("cc-{id}-b7ad6b7169203331-01."), None),
            (format!("ff-{id}-b7ad6b7169203331-01"), None),
            (format!("ff-{id}-b7ad6b7169203331-01-x"), None),
            (format!("00-{id}-b7ad6b7169203331"), None),
            (format!("00-{id}-b7ad6b7169203331-01-x"), None),
            (format!("00-{id}-b7ad6b7169203331-+1"), None),
            (format!("00-{id}-0000000000000000-01"), None),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), None),
            (format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()), None),
            (format!("00-{}-b7ad6b7169203331-01", "g".repeat(32)), None),
            (String::new(), None),
        ] {
            let trace = Trace::of(&Headers::from_iter([
                ("traceparent", text.as_str()),
                ("tracestate", "a=1"),
                ("baggage", "b=2"),
            ]));
            assert_eq!(trace.field(), passed_on.as_deref().map(|value| ("traceparent", value)), "{text}");
            if passed_on.is_some() {
                assert_eq!(trace.id(|| 7), id);
            } else {
                assert_eq!(trace.id(|| 7), "00000000000000070000000000000007", "{text}");
                assert_eq!(trace.id(|| 8), "00000000000000070000000000000007", "the id stays the same");
            }
        }
    }

    #[test]
    fn two_traceparents_count_as_none() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let headers = Headers::from_iter([("traceparent", parent), ("traceparent", parent)]);
        assert_eq!(Trace::of(&headers).field(), None);
    }
}
