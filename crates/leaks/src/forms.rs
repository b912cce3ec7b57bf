//! Forms that text takes on its way, and how each is undone where it may have been used.
//!
//! Each reads whatever it is given: what is no such form at all comes to nothing, or to bytes in which nothing is found.

use crate::SHORTEST;

/// A form.
pub(crate) struct Form {
    pub(crate) name: &'static str,
    /// Calls the function with each text that the given one can mean in this form.
    pub(crate) decode: Decode,
}

type Decode = fn(&[u8], &mut dyn FnMut(&[u8]));

pub(crate) const ALL: [Form; 5] = [
    Form { name: "JSON", decode: json },
    Form { name: "percent", decode: percent },
    Form { name: "form", decode: form },
    Form { name: "hex", decode: hex },
    Form { name: "base64", decode: base64 },
];

/// The escapes of JSON, which those of Rust's `Debug` are like enough.
fn json(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    if !text.contains(&b'\\') {
        return;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        let [escape, after @ ..] = rest else {
            decoded.push(*first);
            break;
        };
        if *first != b'\\' {
            decoded.push(*first);
            continue;
        }
        rest = after;
        match escape {
            b'b' => decoded.push(8),
            b'f' => decoded.push(12),
            b'n' => decoded.push(b'\n'),
            b'r' => decoded.push(b'\r'),
            b't' => decoded.push(b'\t'),
            b'u' => match character(rest) {
                Some((character, length)) => {
                    rest = &rest[length..];
                    decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                None => decoded.push(b'u'),
            },
            other => decoded.push(*other),
        }
    }
    found(&decoded);
}

/// The character after `\u`, and how long it is written: `00fc`, `d83d\ude00`, `{fc}`.
fn character(text: &[u8]) -> Option<(char, usize)> {
    if let Some(digits) = text.strip_prefix(b"{") {
        let length = digits.iter().position(|it| *it == b'}').filter(|it| (1..=6).contains(it))?;
        let code = u32::from_str_radix(str::from_utf8(&digits[..length]).ok()?, 16).ok()?;
        return Some((char::from_u32(code)?, length + 2));
    }
    let unit = |text: &[u8]| u16::from_str_radix(str::from_utf8(text.get(..4)?).ok()?, 16).ok();
    let first = unit(text)?;
    if let Ok(character) = char::decode_utf16([first]).next()? {
        return Some((character, 4));
    }
    let second = unit(text.get(4..)?.strip_prefix(b"\\u")?)?;
    Some((char::decode_utf16([first, second]).next()?.ok()?, 10))
}

/// Percent-encoding, of some bytes or of all.
fn percent(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    if text.contains(&b'%') {
        found(&percent_decoded(text));
    }
}

/// The same, with a plus for a space, as in forms.
fn form(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    if text.contains(&b'+') {
        let spaced: Vec<u8> = text.iter().map(|it| if *it == b'+' { b' ' } else { *it }).collect();
        found(&percent_decoded(&spaced));
    }
}

fn percent_decoded(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let byte = match after {
            [high, low, ..] if *first == b'%' => pair(*high, *low),
            _ => None,
        };
        decoded.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    decoded
}

/// Hexadecimal digits, in either case, from either of two places on, perhaps with a mark between each two.
fn hex(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    for run in runs(text, u8::is_ascii_hexdigit, 2 * SHORTEST) {
        for start in 0..2 {
            let pairs = run[start..].as_chunks().0.iter();
            found(&pairs.filter_map(|[high, low]| pair(*high, *low)).collect::<Vec<_>>());
        }
    }
    // `8f:2a:…`, `8f 2a …`
    for start in 0..3.min(text.len()) {
        let mut decoded = Vec::new();
        for [high, low, between] in text[start..].as_chunks().0 {
            match pair(*high, *low).filter(|_| matches!(between, b':' | b' ' | b'-')) {
                Some(byte) => decoded.push(byte),
                None if decoded.len() < SHORTEST => decoded.clear(),
                None => {
                    found(&decoded);
                    decoded.clear();
                }
            }
        }
        if decoded.len() >= SHORTEST {
            found(&decoded);
        }
    }
}

/// Base64 of either alphabet, from each of four places on: where it begins cannot be seen.
fn base64(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    for run in runs(text, |it| sextet(*it).is_some(), SHORTEST.div_ceil(3) * 4) {
        for start in 0..4 {
            let mut decoded = Vec::with_capacity(run.len());
            let (mut bits, mut count) = (0_u32, 0);
            for sextet in run[start..].iter().filter_map(|it| sextet(*it)) {
                bits = bits << 6 | u32::from(sextet);
                count += 6;
                if count >= 8 {
                    count -= 8;
                    decoded.push((bits >> count & 0xff) as u8);
                }
            }
            found(&decoded);
        }
    }
}

fn runs<'a>(text: &'a [u8], of: impl Fn(&u8) -> bool + 'a, least: usize) -> impl Iterator<Item = &'a [u8]> {
    text.split(move |it| !of(it)).filter(move |it| it.len() >= least)
}

fn pair(high: u8, low: u8) -> Option<u8> {
    let digit = |it: u8| char::from(it).to_digit(16).and_then(|it| u8::try_from(it).ok());
    Some(digit(high)? << 4 | digit(low)?)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}
