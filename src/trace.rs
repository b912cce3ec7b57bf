//! The trace that a request belongs to (W3C Trace Context).

use http::{HeaderMap, HeaderValue};

/// The caller's trace, if it has one, and an id for the log in any case.
#[derive(Debug)]
pub struct Trace {
    id: String,
    parent: Option<String>,
    state: Option<String>,
}

impl Trace {
    /// The trace in these header fields; `random` makes the id where there is none.
    pub fn of(headers: &HeaderMap, random: impl Fn() -> u64) -> Self {
        let mut fields = headers.get_all("traceparent").iter();
        let parent = match (fields.next().map(HeaderValue::to_str), fields.next()) {
            (Some(Ok(text)), None) => trace_id(text).map(|id| (id.to_owned(), text.to_owned())),
            _ => None,
        };
        let Some((id, parent)) = parent else {
            let bits = [random().to_be_bytes(), random().to_be_bytes()].concat();
            return Self { id: base16ct::lower::encode_string(&bits), parent: None, state: None };
        };
        Self { id, parent: Some(parent), state: state(headers) }
    }

    /// The trace's id, or a random one: 32 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The header fields that pass the trace on.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let parent = self.parent.as_deref().map(|it| ("traceparent", it));
        let state = self.state.as_deref().map(|it| ("tracestate", it));
        parent.into_iter().chain(state)
    }
}

/// The trace id of a `traceparent`: version, trace, parent and flags in lower-case hexadecimal digits, neither id zero.
fn trace_id(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part = parts.next()?;
        let hex = part.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        (hex && part.len() == digits).then_some(part)
    };
    let (version, trace, parent, _) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let zero = |text: &str| text.bytes().all(|it| it == b'0');
    let valid = version != "ff" && !zero(trace) && !zero(parent) && parts.next().is_none();
    valid.then_some(trace)
}

/// All `tracestate` fields in one, if they are text and not longer than every vendor has to pass on.
fn state(headers: &HeaderMap) -> Option<String> {
    let fields: Option<Vec<&str>> = headers.get_all("tracestate").iter().map(|it| it.to_str().ok()).collect();
    Some(fields?.join(",")).filter(|it| (1..=LONGEST_STATE).contains(&it.len()))
}

/// W3C Trace Context, section 3.3.1.5: at least this many characters are passed on.
const LONGEST_STATE: usize = 512;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn parents() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        for (text, valid) in [
            (format!("00-{id}-b7ad6b7169203331-01"), true),
            (format!("cc-{id}-b7ad6b7169203331-00"), true),
            (format!("ff-{id}-b7ad6b7169203331-01"), false),
            (format!("00-{id}-b7ad6b7169203331"), false),
            (format!("00-{id}-b7ad6b7169203331-01-x"), false),
            (format!("00-{id}-0000000000000000-01"), false),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false),
            (format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()), false),
            (format!("00-{}-b7ad6b7169203331-01", "g".repeat(32)), false),
            (String::new(), false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", HeaderValue::from_str(&text).unwrap());
            headers.append("tracestate", HeaderValue::from_static("a=1"));
            headers.append("tracestate", HeaderValue::from_static("b=2"));
            let trace = Trace::of(&headers, || 7);
            let fields: Vec<_> = trace.fields().collect();
            if valid {
                assert_eq!(trace.id(), id);
                assert_eq!(fields, [("traceparent", text.as_str()), ("tracestate", "a=1,b=2")]);
            } else {
                assert_eq!(trace.id(), "00000000000000070000000000000007", "{text}");
                assert_eq!(fields, [], "{text}");
            }
        }
    }

    #[test]
    fn a_state_that_is_too_long_stays_here() {
        let mut headers = HeaderMap::new();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        headers.insert("traceparent", HeaderValue::from_static(parent));
        headers.insert("tracestate", HeaderValue::from_str(&"a".repeat(513)).unwrap());
        assert_eq!(Trace::of(&headers, || 7).fields().collect::<Vec<_>>(), [("traceparent", parent)]);
    }
}
