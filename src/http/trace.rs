//! The trace that a request belongs to (W3C Trace Context).

use std::cell::OnceCell;

use crate::http::headers::Headers;

/// The caller's trace, or none, and an id for the log in any case.
#[derive(Debug)]
pub struct Trace {
    parent: Option<Parent>,
    generated: OnceCell<String>,
}

/// A `traceparent` of version 00 that we have built: nothing of the caller's text is in it but the digits of two ids.
#[derive(Debug)]
struct Parent(String);

impl Trace {
    /// The trace in these header fields. `tracestate` ends here: it is free text, and Azure has no use for it.
    pub fn of(fields: &Headers) -> Self {
        let mut parents = fields.all("traceparent");
        let parent = match (parents.next(), parents.next()) {
            (Some(Some(text)), None) => Parent::parse(text),
            _ => None,
        };
        Self { parent, generated: OnceCell::new() }
    }

    /// No trace.
    pub const fn none() -> Self {
        Self { parent: None, generated: OnceCell::new() }
    }

    /// The trace's id; where there is none, one that `random` makes when it is first needed. 32 hexadecimal digits.
    pub fn id(&self, random: impl Fn() -> u64) -> &str {
        self.parent.as_ref().and_then(Parent::trace_id).unwrap_or_else(|| {
            self.generated.get_or_init(|| {
                let bits = [random().to_be_bytes(), random().to_be_bytes()].concat();
                base16ct::lower::encode_string(&bits)
            })
        })
    }

    /// The header field that passes the trace on to Azure: a name and a value of 55 characters.
    pub(crate) fn field(&self) -> Option<(&'static str, &str)> {
        self.parent.as_ref().map(|parent| ("traceparent", parent.0.as_str()))
    }
}

impl Parent {
    /// Parses a `traceparent`: version, trace id, parent id and flags in lower-case hexadecimal digits, neither id zero.
    ///
    /// A later version than 00 may have more behind these four, which is left out: what is sent on is of the version that
    /// we know, with the flags that we know (W3C Trace Context, section 3.2.4, "Versioning of `traceparent`").
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

/// `sampled` (W3C Trace Context, section 3.2.2.5.1) and `random-trace-id` (Level 2, section 3.2.2.5.2). The other bits must be
/// sent as zero.
const KNOWN_FLAGS: u8 = 0b11;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_rebuilt_and_nothing_else_is_passed_on() {
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
                assert_eq!(trace.id(|| 8), "00000000000000070000000000000007", "it stays what it is");
            }
        }
    }

    #[test]
    fn two_parents_are_none() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let fields = Headers::from_iter([("traceparent", parent), ("traceparent", parent)]);
        assert_eq!(Trace::of(&fields).field(), None);
    }
}
