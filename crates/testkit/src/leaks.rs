//! A search for private text in captured output, in plain or encoded form.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, NO_PAD};
use base64::{Engine as _, alphabet::STANDARD};

/// The kinds of private text. A test allows a kind only at its destination: values at the authorized caller,
/// tokens at the vault, identity secrets at the token source. `Public` text is allowed everywhere, also as a
/// part of private text.
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

/// Searches for each part of private text with [`LEAST`] bytes (or for a shorter text as a whole), in upper
/// or lower case: plain, escaped as in JSON, percent-encoded, hexadecimal, or base64 with either alphabet at
/// any alignment. It does not find text that is encoded twice.
#[derive(Clone, Default)]
pub struct Search {
    /// Each part in lower case, with the kinds of text that contain it.
    parts: HashMap<Vec<u8>, u16>,
    /// The first two bytes of all parts, for a fast check.
    begins: BTreeSet<[u8; 2]>,
}

impl Search {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `text`, which must have at least [`SHORTEST`] bytes.
    pub fn add(&mut self, kind: Private, text: impl AsRef<[u8]>) {
        // Generic code is compiled in the user's crate, which tests do not optimize.
        self.add_parts(kind, &text.as_ref().to_ascii_lowercase());
    }

    fn add_parts(&mut self, kind: Private, text: &[u8]) {
        assert!(text.len() >= SHORTEST, "too short to search for: {}", String::from_utf8_lossy(text));
        for part in text.windows(text.len().min(LEAST)) {
            *self.parts.entry(part.to_vec()).or_default() |= 1 << kind as u16;
            self.begins.insert([part[0], part[1]]);
        }
    }

    /// Panics if `place` contains a part of private text of a kind that is not `allowed`.
    #[track_caller]
    pub fn expect_nothing(&self, place: impl AsRef<[u8]>, allowed: &[Private], name: impl fmt::Display) {
        if let Some((kind, part, form)) = self.find(place.as_ref(), allowed) {
            let shown: String = String::from_utf8_lossy(place.as_ref()).chars().take(20_000).collect();
            panic!("{name} contains a part of a {kind:?}, {part:?}, {form}: {shown}");
        }
    }

    fn find(&self, place: &[u8], allowed: &[Private]) -> Option<(Private, String, &'static str)> {
        let allowed = allowed.iter().fold(1 << Private::Public as u16, |all, kind| all | 1 << *kind as u16);
        FORMS.iter().find_map(|(form, decode)| {
            let mut texts = decode(place).into_iter();
            let (kind, part) = texts.find_map(|text| self.find_plain(&text.to_ascii_lowercase(), allowed))?;
            Some((kind, part, *form))
        })
    }

    fn find_plain(&self, text: &[u8], allowed: u16) -> Option<(Private, String)> {
        let mut starts = (0..text.len().saturating_sub(1)).map(|at| &text[at..]);
        starts.find_map(|rest| {
            self.begins.get(&rest[..2])?;
            let parts = (SHORTEST..=LEAST).filter_map(|length| rest.get(..length));
            let mut known = parts.filter_map(|part| self.parts.get_key_value(part));
            let (part, kinds) = known.find(|(_, kinds)| *kinds & allowed == 0)?;
            let kind = Private::ALL.into_iter().find(|kind| kinds & 1 << *kind as u16 != 0)?;
            Some((kind, String::from_utf8_lossy(part).into_owned()))
        })
    }
}

/// Returns the texts that an encoded place can contain.
type Decode = fn(&[u8]) -> Vec<Vec<u8>>;

const FORMS: [(&str, Decode); 5] = [
    ("plain", |place| vec![place.to_vec()]),
    ("JSON", |place| vec![unescape(place, b'\\', json_escape)]),
    ("percent", |place| vec![unescape(place, b'%', |rest| Some((hex_byte(rest)?, 2)))]),
    ("hex", |place| runs(place, u8::is_ascii_hexdigit, |run| run.chunks(2).filter_map(hex_byte).collect())),
    ("base64", |place| runs(place, |byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte), base64)),
];

/// Decodes each escape of `text` that begins with `mark`. `decode` returns a byte and the length of its
/// input.
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

/// Decodes only ASCII: the search finds the text beside other characters.
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
    // A single digit at the end encodes no byte.
    let whole = run.len() - usize::from(run.len() % 4 == 1);
    let digits = run[..whole].iter().map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    });
    GeneralPurpose::new(&STANDARD, FORGIVING).decode(digits.collect::<Vec<_>>()).unwrap_or_default()
}

/// Decodes each run of digits from each of its first four digits on.
fn runs(text: &[u8], is_digit: fn(&u8) -> bool, decode: fn(&[u8]) -> Vec<u8>) -> Vec<Vec<u8>> {
    let runs = text.split(|byte| !is_digit(byte)).filter(|run| run.len() > SHORTEST);
    runs.flat_map(|run| (0..4).map(move |start| decode(&run[start..]))).collect()
}

/// The length of a part, too long for a match by chance.
pub const LEAST: usize = 12;

/// The minimum length of private text: shorter text matches by chance.
pub const SHORTEST: usize = 5;

#[test]
fn finds_every_part_in_every_form() {
    const VALUE: &str = "8f2a\"\\?&/+val \r\n#e=of%the;secret>~/1b";
    let mut search = Search::new();
    search.add(Private::Value, VALUE);
    search.add(Private::CallerKey, "short-key");
    search.add(Private::Public, &VALUE[20..]);
    for part in [VALUE, &VALUE[..LEAST], &VALUE[5..5 + LEAST]] {
        let each = |write: fn(u8) -> String| part.bytes().map(write).collect::<String>();
        let base64 = |before| base64::prelude::BASE64_STANDARD.encode(format!("{before}{part}"));
        for text in [
            part.to_ascii_uppercase(),
            serde_json::to_string(part).unwrap(),
            each(|byte| format!("\\u{byte:04X}")),
            each(|byte| format!("%{byte:02x}")),
            each(|byte| format!("{byte:02x}")),
            base64(""),
            base64("?").replace('+', "-").replace('/', "_"),
            base64("??"),
        ] {
            let place = format!(r#"{{"message":"invalid type: string {text}."}}"#);
            assert!(matches!(search.find(place.as_bytes(), &[]), Some((Private::Value, ..))), "{place}");
            assert_eq!(search.find(place.as_bytes(), &[Private::Value]), None, "{place}");
        }
    }
    for text in ["", "a", &VALUE[1..LEAST], &VALUE[20..], "\\u\\ud83d%%%2", "0123456789abcdef"] {
        search.expect_nothing(text, &[], text);
    }
    assert!(matches!(search.find(b"x-key: SHORT-key", &[]), Some((Private::CallerKey, ..))));
}
