//! Looks for what must not get out, and for parts of it, in what a test saw: as it is, and in the forms in which text travels.
//!
//! ```
//! use leaks::{Private, Search};
//!
//! let mut search = Search::new();
//! search.add(Private::Value, "correct horse battery staple");
//! assert!(search.find("nothing of it", &[]).is_none());
//! // A part of it, in base64, in a string of JSON within another.
//! let found = search.find(r#"{"log":"{\"code\":\"cnNlIGJhdHRlcnkgc3RhcA\"}"}"#, &[]).expect("it is there");
//! assert_eq!(found.what, Private::Value);
//! assert!(search.find("correct horse battery", &[Private::Value]).is_none());
//! ```

mod forms;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// What is private, by who may see it; and what is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Private {
    /// The value of a secret: for the caller who may read it.
    Value,
    /// A bearer token: for the vault.
    Token,
    /// What we authenticate with at the token source: for the token source.
    IdentitySecret,
    /// The ids of the tenant, the application, the identity: for Azure.
    Identity,
    /// A caller's key: for nobody.
    CallerKey,
    /// A caller's token: for nobody.
    CallerToken,
    /// Something else that a caller sent: for nobody.
    Request,
    /// Something that Azure said: for nobody.
    Azure,
    /// The value of a setting: for nobody.
    Setting,
    /// What is not private at all, and may be everywhere, though something private has it, too.
    Public,
}

impl Private {
    /// Everything that is private.
    pub const ALL: [Self; 9] = [
        Self::Value,
        Self::Token,
        Self::IdentitySecret,
        Self::Identity,
        Self::CallerKey,
        Self::CallerToken,
        Self::Request,
        Self::Azure,
        Self::Setting,
    ];

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Everything that is private, and a way to find any part of it that is long enough to be no accident.
///
/// It finds [`LEAST`] bytes in a row of what was added (all of it, where it is shorter): in either case; in base64 of
/// either alphabet and any alignment, also in lines; in hexadecimal digits; percent-encoded; escaped as JSON, Rust and HTML
/// do; as a list of numbers (decimal, hexadecimal or octal) or of characters; of ASCII, in UTF-16; and with up to
/// three of these one within the other. It does not find less than that, nor what is compressed, encrypted, hashed, turned
/// round or in another form.
pub struct Search {
    /// Each part of this length, in lower case, of everything that was added, and whose it is.
    parts: HashMap<[u8; LEAST], u16, BuildHasherDefault<Mix>>,
    /// What is shorter than a part.
    short: Vec<(Vec<u8>, u16)>,
    /// How something private begins: most of what is searched needs no closer look.
    begins: Box<[u64; 1024]>,
}

/// What was found.
#[derive(Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is a part of.
    pub what: Private,
    /// The part.
    pub part: String,
    /// What had to be decoded to see it, from the outermost.
    pub forms: Vec<&'static str>,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a part of a {:?}, {:?}, within {:?}", self.what, self.part, self.forms)
    }
}

impl Default for Search {
    fn default() -> Self {
        Self::new()
    }
}

impl Clone for Search {
    // By hand, so that it is compiled here.
    fn clone(&self) -> Self {
        let Self { parts, short, begins } = self;
        Self { parts: parts.clone(), short: short.clone(), begins: begins.clone() }
    }
}

impl Search {
    /// Nothing is private yet.
    pub fn new() -> Self {
        Self { parts: HashMap::default(), short: Vec::new(), begins: Box::new([0; 1024]) }
    }

    /// Makes `text` private, each of its parts. One shorter than [`SHORTEST`] would be found everywhere.
    pub fn add(&mut self, what: Private, text: impl AsRef<[u8]>) {
        // What is generic is compiled where it is called, and as slowly as a test is.
        self.add_text(what, text.as_ref().to_ascii_lowercase());
    }

    fn add_text(&mut self, what: Private, text: Vec<u8>) {
        assert!(text.len() >= SHORTEST, "too short to be searched for: {}", String::from_utf8_lossy(&text));
        if text.len() < LEAST {
            self.begin(what, &text);
            self.short.push((text, what.bit()));
            return;
        }
        for part in text.windows(LEAST) {
            self.begin(what, part);
            let part = part.try_into().expect("a window has its length");
            *self.parts.entry(part).or_default() |= what.bit();
        }
    }

    /// The first part of something private in `place`, other than of what may be there. What both have in common may be
    /// there, too.
    pub fn find(&self, place: impl AsRef<[u8]>, allowed: &[Private]) -> Option<Found> {
        self.find_in(place.as_ref(), allowed)
    }

    /// Ends the test if [`find`](Self::find) finds something.
    #[track_caller]
    pub fn expect_nothing(&self, place: impl AsRef<[u8]>, allowed: &[Private], name: impl fmt::Display) {
        let place = place.as_ref();
        if let Some(found) = self.find_in(place, allowed) {
            let shown: String = String::from_utf8_lossy(place).chars().take(MOST_SHOWN).collect();
            panic!("{name} has {found:?}: {shown}");
        }
    }

    fn find_in(&self, place: &[u8], allowed: &[Private]) -> Option<Found> {
        let allowed = allowed.iter().fold(Private::Public.bit(), |all, it| all | it.bit());
        self.find_within(place, allowed, &mut Vec::new())
    }

    fn find_within(&self, place: &[u8], allowed: u16, forms: &mut Vec<&'static str>) -> Option<Found> {
        if let Some((what, part)) = self.find_plain(place, allowed) {
            return Some(Found { what, part, forms: forms.clone() });
        }
        if forms.len() == DEEPEST {
            return None;
        }
        for form in forms::ALL {
            forms.push(form.name);
            let mut found = None;
            (form.decode)(place, &mut |decoded| {
                found = found.take().or_else(|| self.find_within(decoded, allowed, forms));
            });
            forms.pop();
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn find_plain(&self, place: &[u8], allowed: u16) -> Option<(Private, String)> {
        let place = place.to_ascii_lowercase();
        for (at, start) in place.windows(4).enumerate() {
            let (word, bit) = index(start);
            if self.begins[word] & bit == 0 {
                continue;
            }
            let rest = &place[at..];
            let mut masks =
                self.short.iter().filter(|it| rest.starts_with(&it.0)).map(|it| (it.0.len(), it.1));
            let part = rest.first_chunk().and_then(|it| self.parts.get(it)).map(|it| (LEAST, *it));
            let forbidden = |it: &(usize, u16)| it.1 & allowed == 0;
            if let Some((length, mask)) = part.filter(forbidden).or_else(|| masks.find(forbidden)) {
                let what = Private::ALL.into_iter().find(|it| mask & it.bit() != 0)?;
                return Some((what, String::from_utf8_lossy(&rest[..length]).into_owned()));
            }
        }
        None
    }

    fn begin(&mut self, what: Private, text: &[u8]) {
        if what != Private::Public {
            let (word, bit) = index(text);
            self.begins[word] |= bit;
        }
    }
}

/// Where the first four bytes of `text` have their bit.
fn index(text: &[u8]) -> (usize, u64) {
    let start = text.first_chunk().map_or(0, |it| u32::from_le_bytes(*it));
    let index = start.wrapping_mul(0x9e37_79b1) >> 16;
    (index as usize / 64, 1 << (index % 64))
}

/// A hash of a part, which nobody attacks.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(23) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

/// Bytes in a row that are no accident.
pub const LEAST: usize = 12;

/// What is shorter than this cannot be told from what is there by chance.
pub const SHORTEST: usize = 5;

/// How many forms are undone, one within the other.
const DEEPEST: usize = 3;

/// How much is shown of a place in which something was found, in characters.
const MOST_SHOWN: usize = 20_000;

#[cfg(test)]
mod tests;
