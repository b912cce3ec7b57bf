//! The trace that a request belongs to (W3C Trace Context).

use core::cell::OnceCell;

use crate::fields::HeaderFields;

/// The caller's trace, or none, and an id for the log in any case.
#[derive(Debug)]
pub struct Trace {
    parent: Option<String>,
    state: Option<String>,
    made_up: OnceCell<String>,
}

impl Trace {
    /// The trace in these header fields.
    pub fn of(fields: &HeaderFields) -> Self {
        let mut parents = fields.all("traceparent");
        let parent = match (parents.next(), parents.next()) {
            (Some(Some(text)), None) => trace_id(text).map(|_| text.to_owned()),
            _ => None,
        };
        let state = parent.as_ref().and_then(|_| state(fields));
        Self { parent, state, made_up: OnceCell::new() }
    }

    /// No trace.
    pub const fn none() -> Self {
        Self { parent: None, state: None, made_up: OnceCell::new() }
    }

    /// The trace's id; where there is none, one that `random` makes when it is first needed. 32 hexadecimal digits.
    pub fn id(&self, random: impl Fn() -> u64) -> &str {
        self.parent.as_deref().and_then(trace_id).unwrap_or_else(|| {
            self.made_up.get_or_init(|| {
                let bits = [random().to_be_bytes(), random().to_be_bytes()].concat();
                base16ct::lower::encode_string(&bits)
            })
        })
    }

    /// The header fields that pass the trace on.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let parent = self.parent.as_deref().map(|it| ("traceparent", it));
        let state = self.state.as_deref().map(|it| ("tracestate", it));
        parent.into_iter().chain(state)
    }
}

/// The trace id of a `traceparent`: version, trace, parent and flags in lower-case hexadecimal digits, neither id zero. A later
/// version than ours may have more behind that (W3C Trace Context, section 3.2.4, "Versioning of `traceparent`").
fn trace_id(text: &str) -> Option<&str> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part = parts.next()?;
        let hex = part.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        (hex && part.len() == digits).then_some(part)
    };
    let (version, trace, parent, _) = (part(2)?, part(32)?, part(16)?, part(2)?);
    let zero = |text: &str| text.bytes().all(|it| it == b'0');
    let ends = version != "00" || parts.next().is_none();
    let valid = version != "ff" && !zero(trace) && !zero(parent) && ends;
    valid.then_some(trace)
}

/// All `tracestate` fields in one, if they are text and not longer than every vendor has to pass on.
fn state(fields: &HeaderFields) -> Option<String> {
    let states: Option<Vec<&str>> = fields.all("tracestate").collect();
    Some(states?.join(",")).filter(|it| (1..=LONGEST_STATE).contains(&it.len()))
}

/// W3C Trace Context, section 3.3.1.5: at least this many characters are passed on.
const LONGEST_STATE: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents() {
        let id = "0af7651916cd43dd8448eb211c80319c";
        for (text, valid) in [
            (format!("00-{id}-b7ad6b7169203331-01"), true),
            (format!("cc-{id}-b7ad6b7169203331-00"), true),
            (format!("cc-{id}-b7ad6b7169203331-01-and-more"), true),
            (format!("cc-{id}-b7ad6b7169203331-01."), false),
            (format!("ff-{id}-b7ad6b7169203331-01"), false),
            (format!("ff-{id}-b7ad6b7169203331-01-x"), false),
            (format!("00-{id}-b7ad6b7169203331"), false),
            (format!("00-{id}-b7ad6b7169203331-01-x"), false),
            (format!("00-{id}-0000000000000000-01"), false),
            (format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), false),
            (format!("00-{}-b7ad6b7169203331-01", id.to_uppercase()), false),
            (format!("00-{}-b7ad6b7169203331-01", "g".repeat(32)), false),
            (String::new(), false),
        ] {
            let trace = Trace::of(&HeaderFields::from_iter([
                ("traceparent", text.as_str()),
                ("tracestate", "a=1"),
                ("tracestate", "b=2"),
            ]));
            let fields: Vec<_> = trace.fields().collect();
            if valid {
                assert_eq!(trace.id(|| 7), id);
                assert_eq!(fields, [("traceparent", text.as_str()), ("tracestate", "a=1,b=2")]);
            } else {
                assert_eq!(trace.id(|| 7), "00000000000000070000000000000007", "{text}");
                assert_eq!(trace.id(|| 8), "00000000000000070000000000000007", "it stays what it is");
                assert_eq!(fields, [], "{text}");
            }
        }
    }

    #[test]
    fn a_state_that_is_too_long_stays_here() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let state = "a".repeat(513);
        let fields = HeaderFields::from_iter([("traceparent", parent), ("tracestate", &state)]);
        assert_eq!(Trace::of(&fields).fields().collect::<Vec<_>>(), [("traceparent", parent)]);
    }
}
