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

pub(crate) const ALL: [Form; 9] = [
    Form { name: "JSON", decode: json },
    Form { name: "percent", decode: percent },
    Form { name: "form", decode: form },
    Form { name: "HTML", decode: html },
    Form { name: "UTF-16", decode: utf_16 },
    Form { name: "characters", decode: characters },
    Form { name: "numbers", decode: numbers },
    Form { name: "hex", decode: hex },
    Form { name: "base64", decode: base64 },
];

/// The escapes of JSON, of Rust's `Debug` and of byte strings.
fn json(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    if !text.contains(&b'\\') {
        return;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match first {
            b'\\' if !rest.is_empty() => rest = &rest[unescape(rest, &mut decoded)..],
            other => decoded.push(*other),
        }
    }
    found(&decoded);
}

/// Adds what is escaped at the start of `text`, behind its backslash, and says how long it is written.
fn unescape(text: &[u8], decoded: &mut Vec<u8>) -> usize {
    let Some((escape, rest)) = text.split_first() else { return 0 };
    let (byte, length) = match escape {
        b'b' => (8, 1),
        b'f' => (12, 1),
        b'n' => (b'\n', 1),
        b'r' => (b'\r', 1),
        b't' => (b'\t', 1),
        b'u' => match character(rest) {
            Some((character, length)) => {
                decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                return 1 + length;
            }
            None => (b'u', 1),
        },
        b'x' => match rest {
            [high, low, ..] => pair(*high, *low).map_or((b'x', 1), |it| (it, 3)),
            _ => (b'x', 1),
        },
        b'0'..=b'7' => match text.get(..3).and_then(|it| number(it, 8)) {
            Some(byte) => (byte, 3),
            None => (if *escape == b'0' { 0 } else { *escape }, 1),
        },
        other => (*other, 1),
    };
    decoded.push(byte);
    length
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
    if !text.contains(&b'%') {
        return;
    }
    let decoded = percent_decoded(text);
    if decoded.len() < text.len() {
        found(&decoded);
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

/// The entities of HTML: by number, and those of its own marks by name.
fn html(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    if !text.contains(&b'&') {
        return;
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, after @ ..] = rest {
        rest = after;
        match entity(after).filter(|_| *first == b'&') {
            Some((character, length)) => {
                decoded.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &after[length..];
            }
            None => decoded.push(*first),
        }
    }
    if decoded.len() < text.len() {
        found(&decoded);
    }
}

/// The character after `&`, and how long it is written: `#8364;`, `#x20AC;`, `amp;`.
fn entity(text: &[u8]) -> Option<(char, usize)> {
    let length = text.iter().take(LONGEST_ENTITY).position(|it| *it == b';')?;
    let name = str::from_utf8(&text[..length]).ok()?;
    let character = match name {
        "quot" => '"',
        "amp" => '&',
        "apos" => '\'',
        "lt" => '<',
        "gt" => '>',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => number.parse(),
            };
            char::from_u32(code.ok()?)?
        }
    };
    Some((character, length + 1))
}

/// UTF-16 and UTF-32 in either order: of each character of ASCII all bytes but one are zero.
fn utf_16(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    if text.windows(3).any(|it| it[0] == 0 && it[2] == 0) {
        found(&text.iter().copied().filter(|it| *it != 0).collect::<Vec<_>>());
    }
}

/// Lists of characters in quotes, as Rust's `Debug` and JSON write them.
fn characters(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    let mut decoded = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|it| is_quote(*it)) {
        rest = &rest[at..];
        let mut next = rest;
        while let Some(length) = quoted(next, &mut decoded) {
            // Where it was no item of a list, its second quote may be the first of one.
            rest = &next[length - 1..];
            next = &next[length..];
            next = &next[next.iter().take_while(|it| is_between(**it)).count()..];
        }
        if decoded.is_empty() {
            rest = &rest[1..];
        }
        end(&mut decoded, found);
    }
}

/// Adds the one character in quotes with which `text` starts, and says how long it is written.
fn quoted(text: &[u8], decoded: &mut Vec<u8>) -> Option<usize> {
    let (quote, inner) = text.split_first().filter(|it| is_quote(*it.0))?;
    let before = decoded.len();
    let length = match inner {
        [b'\\', escape @ ..] => 1 + unescape(escape, decoded),
        [first, ..] => {
            let length = usize::try_from(first.leading_ones()).ok()?.max(1);
            decoded.extend_from_slice(inner.get(..length)?);
            length
        }
        [] => return None,
    };
    if inner.get(length) == Some(quote) {
        return Some(length + 2);
    }
    decoded.truncate(before);
    None
}

/// Lists of numbers, one for each byte: decimal, hexadecimal or octal, perhaps with `0x` or `0o`.
fn numbers(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    let mut lists = [(10, Vec::new()), (16, Vec::new()), (8, Vec::new())];
    for run in runs(text, |it| it.is_ascii_alphanumeric() || is_between(*it), 2 * SHORTEST - 1) {
        for word in run.split(|it| is_between(*it)).filter(|it| !it.is_empty()) {
            if word.len() > LONGEST_NUMBER {
                lists.iter_mut().for_each(|it| end(&mut it.1, found));
                continue;
            }
            for (radix, list) in &mut lists {
                match digits(word, *radix).and_then(|it| number(it, *radix)) {
                    Some(byte) => list.push(byte),
                    None => end(list, found),
                }
            }
        }
        lists.iter_mut().for_each(|it| end(&mut it.1, found));
    }
}

/// Hands on a list that is over, if it is long enough, and begins another.
fn end(list: &mut Vec<u8>, found: &mut dyn FnMut(&[u8])) {
    if list.len() >= SHORTEST {
        found(list);
    }
    list.clear();
}

/// The digits of a number without what says their radix.
fn digits(word: &[u8], radix: u32) -> Option<&[u8]> {
    let digits = match (word, radix) {
        ([b'0', b'x' | b'X', digits @ ..], 16) | ([b'0', b'o', digits @ ..], 8) => digits,
        _ => word,
    };
    (1..=3).contains(&digits.len()).then_some(digits)
}

fn number(digits: &[u8], radix: u32) -> Option<u8> {
    let number = digits.iter().try_fold(0, |all, it| Some(all * radix + char::from(*it).to_digit(radix)?));
    number.and_then(|it| u8::try_from(it).ok())
}

/// What stands between the items of a list.
const fn is_between(byte: u8) -> bool {
    matches!(byte, b',' | b' ' | b'\t' | b'\r' | b'\n')
}

const fn is_quote(byte: u8) -> bool {
    matches!(byte, b'\'' | b'"')
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

/// Base64 of either alphabet, perhaps in lines, from each of four places on: where it begins cannot be seen.
fn base64(text: &[u8], found: &mut dyn FnMut(&[u8])) {
    let is_base64 = |it: &u8| sextet(*it).is_some() || matches!(it, b'\r' | b'\n');
    for run in runs(text, is_base64, SHORTEST.div_ceil(3) * 4) {
        let sextets: Vec<u8> = run.iter().filter_map(|it| sextet(*it)).collect();
        for start in 0..4.min(sextets.len()) {
            let mut decoded = Vec::with_capacity(sextets.len());
            let (mut bits, mut count) = (0_u32, 0);
            for sextet in &sextets[start..] {
                bits = bits << 6 | u32::from(*sextet);
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

/// `#x10FFFF;`
const LONGEST_ENTITY: usize = 9;

/// `0o377`
const LONGEST_NUMBER: usize = 5;
