//! A search for private text in what a test saw: as it is, and in one of the forms in which text travels.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, NO_PAD};
use base64::{Engine as _, alphabet::STANDARD};

/// The kinds of private text. A test allows a kind only at its destination: a value at the authorized caller, a token at
/// the vault, an identity secret at the token source. `Public` text may be everywhere, also as a part of private text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Private {
    Value,
    Token,
    IdentitySecret,
    Identity,
    CallerKey,
    CallerToken,
    Request,
    Azure,
    Setting,
    Public,
}

impl Private {
    pub const ALL: [Self; 9] = {
        use Private::*;
        [Value, Token, IdentitySecret, Identity, CallerKey, CallerToken, Request, Azure, Setting]
    };
}

/// Private text, and a way to find each part of it that has [`LEAST`] bytes (or all of it, where it is shorter), in either
/// case: as it is, escaped as in JSON, percent-encoded, in hexadecimal digits, or in base64 of either alphabet and any
/// alignment. A form within a form is not found.
#[derive(Clone, Default)]
pub struct Search {
    /// Each part in lower case, with the kinds of text that have it.
    parts: HashMap<Vec<u8>, u16>,
    /// The first two bytes of all parts: most places need no closer look.
    begins: BTreeSet<[u8; 2]>,
}

impl Search {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `text`, which must have [`SHORTEST`] bytes.
    pub fn add(&mut self, what: Private, text: impl AsRef<[u8]>) {
        // Generic code is compiled in its user's crate, which has no optimizations in tests.
        self.add_parts(what, &text.as_ref().to_ascii_lowercase());
    }

    fn add_parts(&mut self, what: Private, text: &[u8]) {
        assert!(text.len() >= SHORTEST, "too short to be searched for: {}", String::from_utf8_lossy(text));
        for part in text.windows(text.len().min(LEAST)) {
            *self.parts.entry(part.to_vec()).or_default() |= 1 << what as u16;
            self.begins.insert([part[0], part[1]]);
        }
    }

    /// Panics if `place` has a part of private text that no text of the `allowed` kinds has.
    #[track_caller]
    pub fn expect_nothing(&self, place: impl AsRef<[u8]>, allowed: &[Private], name: impl fmt::Display) {
        if let Some((what, part, form)) = self.find(place.as_ref(), allowed) {
            let shown: String = String::from_utf8_lossy(place.as_ref()).chars().take(20_000).collect();
            panic!("{name} has a part of a {what:?}, {part:?}, {form}: {shown}");
        }
    }

    fn find(&self, place: &[u8], allowed: &[Private]) -> Option<(Private, String, &'static str)> {
        let allowed = allowed.iter().fold(1 << Private::Public as u16, |all, kind| all | 1 << *kind as u16);
        FORMS.iter().find_map(|(form, decode)| {
            let mut texts = decode(place).into_iter();
            let (what, part) = texts.find_map(|text| self.find_plain(&text.to_ascii_lowercase(), allowed))?;
            Some((what, part, *form))
        })
    }

    fn find_plain(&self, text: &[u8], allowed: u16) -> Option<(Private, String)> {
        let mut starts = (0..text.len().saturating_sub(1)).map(|at| &text[at..]);
        starts.find_map(|rest| {
            self.begins.get(&rest[..2])?;
            let parts = (SHORTEST..=LEAST).filter_map(|length| rest.get(..length));
            let mut known = parts.filter_map(|part| self.parts.get_key_value(part));
            let (part, kinds) = known.find(|(_, kinds)| *kinds & allowed == 0)?;
            let what = Private::ALL.into_iter().find(|kind| kinds & 1 << *kind as u16 != 0)?;
            Some((what, String::from_utf8_lossy(part).into_owned()))
        })
    }
}

/// Returns the texts that a place can mean in a form.
type Decode = fn(&[u8]) -> Vec<Vec<u8>>;

const FORMS: [(&str, Decode); 5] = [
    ("plain", |place| vec![place.to_vec()]),
    ("JSON", |place| vec![unescape(place, b'\\', json_escape)]),
    ("percent", |place| vec![unescape(place, b'%', |rest| Some((hex_byte(rest)?, 2)))]),
    ("hex", |place| runs(place, u8::is_ascii_hexdigit, |run| run.chunks(2).filter_map(hex_byte).collect())),
    ("base64", |place| runs(place, |byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte), base64)),
];

/// Decodes each escape of `text` that begins with `mark`; `decode` returns a byte and the length of what it read.
fn unescape(mut text: &[u8], mark: u8, decode: fn(&[u8]) -> Option<(u8, usize)>) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    while let Some((first, rest)) = text.split_first() {
        let escape = Some(rest).filter(|_| *first == mark).and_then(decode);
        let (byte, length) = escape.unwrap_or((*first, 0));
        decoded.push(byte);
        text = &rest[length..];
    }
    decoded
}

/// Characters beyond ASCII are not decoded: the text beside them is found.
fn json_escape(rest: &[u8]) -> Option<(u8, usize)> {
    let control = b"nrtbf".iter().zip(b"\n\r\t\x08\x0c").find(|(name, _)| rest.first() == Some(name));
    match (rest.first()?, control) {
        (b'u', _) => Some((hex_byte(rest.get(3..)?)?, 5)),
        (other, control) => Some((*control.map_or(other, |(_, byte)| byte), 1)),
    }
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(str::from_utf8(digits.get(..2)?).ok()?, 16).ok()
}

fn base64(run: &[u8]) -> Vec<u8> {
    const FORGIVING: GeneralPurposeConfig = NO_PAD.with_decode_allow_trailing_bits(true);
    // One digit of four has no byte.
    let whole = run.len() - usize::from(run.len() % 4 == 1);
    let digits = run[..whole].iter().map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    });
    GeneralPurpose::new(&STANDARD, FORGIVING).decode(digits.collect::<Vec<_>>()).unwrap_or_default()
}

/// What `decode` makes of each run of digits from each of its first four digits on.
fn runs(text: &[u8], is_digit: fn(&u8) -> bool, decode: fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let runs = text.split(|byte| !is_digit(byte)).filter(|run| run.len() > SHORTEST);
    runs.flat_map(|run| (0..4).map(move |start| decode(&run[start..]))).collect()
}

/// Bytes in a row that are no coincidence.
pub const LEAST: usize = 12;

/// A shorter text is a word that can be everywhere.
pub const SHORTEST: usize = 5;

#[test]
fn finds_every_part_in_every_form() {
    const VALUE: &str = "8f2a\"\\?&/+val \r\n#e=of%the;secret>~/1b";
    let each = |text: &str, write: fn(u8) -> String| text.bytes().map(write).collect::<String>();
    let mut search = Search::new();
    search.add(Private::Value, VALUE);
    search.add(Private::CallerKey, "short-key");
    search.add(Private::Public, &VALUE[20..]);
    for part in [VALUE, &VALUE[..LEAST], &VALUE[5..5 + LEAST]] {
        let encoded = |before| base64::prelude::BASE64_STANDARD.encode(format!("{}{part}", &"???"[..before]));
        for text in [
            part.to_ascii_uppercase(),
            serde_json::to_string(part).unwrap(),
            each(part, |byte| format!("\\u{byte:04X}")),
            each(part, |byte| format!("%{byte:02x}")),
            each(part, |byte| format!("{byte:02x}")),
            encoded(0),
            encoded(1).replace('+', "-").replace('/', "_"),
            encoded(2),
        ] {
            let place = format!(r#"{{"message":"invalid type: string {text}."}}"#);
            let found = search.find(place.as_bytes(), &[]);
            assert!(matches!(found, Some((Private::Value, ..))), "{place}: {found:?}");
            assert_eq!(search.find(place.as_bytes(), &[Private::Value]), None, "{place}");
        }
    }
    for text in ["", "a", &VALUE[1..LEAST], &VALUE[20..], "short-ke", "\\u\\ud83d%%%2", "0123456789abcdef"] {
        search.expect_nothing(text, &[], text);
    }
    assert!(matches!(search.find(b"x-key: SHORT-key", &[]), Some((Private::CallerKey, ..))));
    assert!(std::panic::catch_unwind(|| search.expect_nothing(VALUE, &[], "the log")).is_err());
}
