use super::*;

/// Each form that a leak can have, of each kind, whole and in part, in each of the places that are searched.
#[test]
fn whatever_is_private_is_found_in_every_form_and_place() {
    for what in Private::ALL {
        let mut search = Search::new();
        search.add(what, VALUE);
        let parts = [VALUE.as_bytes(), &VALUE.as_bytes()[..LEAST], &VALUE.as_bytes()[5..5 + LEAST]];
        for (part, place) in parts.iter().flat_map(|part| PLACES.iter().map(move |it| (part, it))) {
            for (name, write) in FORMS {
                let text = place.replace("HERE", &write(part));
                let found = search.find(&text, &[]);
                assert_eq!(found.map(|it| it.what), Some(what), "{name} of {part:?}: {text}");
                let others: Vec<Private> = Private::ALL.into_iter().filter(|it| *it != what).collect();
                assert!(search.find(&text, &others).is_some(), "{name} of {part:?}: {text}");
                assert_eq!(search.find(&text, &[what]), None, "{name} of {part:?}: {text}");
            }
        }
    }
}

#[test]
fn two_forms_of_it_one_within_the_other_are_found() {
    let mut search = Search::new();
    search.add(Private::Token, VALUE);
    for (inner, write_inner) in FORMS {
        // Base64 is lost in upper case.
        for (outer, write_outer) in FORMS.into_iter().filter(|it| it.0 != "upper case") {
            let text = write_outer(format!("a={}", write_inner(VALUE.as_bytes())).as_bytes());
            assert!(search.find(&text, &[]).is_some(), "{inner} within {outer}: {text}");
        }
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let mut search = Search::new();
    search.add(Private::Value, VALUE);
    search.add(Private::CallerKey, "short-key");
    for text in [
        "",
        "a",
        // One byte less than a part.
        &VALUE[1..LEAST],
        &VALUE.chars().rev().collect::<String>(),
        "short-ke",
        "\\u\\ud83d\\u{}%%%2",
        "0123456789abcdef0123456789abcdef",
        r#"{"error":{"code":"SecretNotFound","message":"There is no secret with this name."}}"#,
    ] {
        assert_eq!(search.find(text, &[]), None, "{text}");
    }
    assert_eq!(
        search.find("x-key: SHORT-key", &[]),
        Some(Found { what: Private::CallerKey, part: "short-key".to_owned(), forms: vec![] })
    );
}

/// A caller's token and ours have the same beginning, which is no leak where ours may be.
#[test]
fn what_is_private_and_what_may_be_there_can_have_parts_in_common() {
    let mut search = Search::new();
    search.add(Private::Token, "the-same-beginning.and-our-own-end");
    search.add(Private::CallerToken, "the-same-beginning.and-theirs");
    assert_eq!(search.find("the-same-beginning.and", &[Private::Token]), None);
    let found = search.find("the-same-beginning.and-theirs", &[Private::Token]);
    assert_eq!(found.map(|it| it.what), Some(Private::CallerToken));
    assert!(search.find("the-same-beginning.and", &[Private::Value]).is_some());
    search.add(Private::Public, "the-same-beginning.");
    assert_eq!(search.find("the-same-beginning.", &[]), None);
    assert!(search.find("the-same-beginning.and", &[]).is_some());
}

#[test]
fn what_is_found_ends_the_test() {
    let mut search = Search::new();
    search.add(Private::Value, VALUE);
    search.expect_nothing(VALUE, &[Private::Value], "the answer");
    let ended =
        std::panic::catch_unwind(|| search.expect_nothing(VALUE, &[], "the log")).expect_err("an end");
    let message = ended.downcast::<String>().expect("a message");
    assert!(message.starts_with("the log has a part of a Value, "), "{message}");
}

type Write = fn(&[u8]) -> String;

const FORMS: [(&str, Write); 34] = [
    ("as it is", |it| String::from_utf8_lossy(it).into_owned()),
    ("upper case", |it| String::from_utf8_lossy(it).to_ascii_uppercase()),
    ("base64 of the start of three bytes", |it| base64(it, 0, false)),
    ("base64 of the second of three bytes", |it| base64(it, 1, false)),
    ("base64 of the third of three bytes", |it| base64(it, 2, false)),
    ("base64url of the start of three bytes", |it| base64(it, 0, true)),
    ("base64url of the second of three bytes", |it| base64(it, 1, true)),
    ("base64url of the third of three bytes", |it| base64(it, 2, true)),
    ("hex", |it| each(it, |it| format!("{it:02x}"))),
    ("upper hex", |it| each(it, |it| format!("{it:02X}"))),
    ("hex with colons", |it| each(it, |it| format!("{it:02x}:"))),
    ("every byte with a percent", |it| each(it, |it| format!("%{it:02X}"))),
    ("some bytes with a percent", |it| {
        each(it, |it| if it.is_ascii_alphanumeric() { char::from(it).into() } else { format!("%{it:02x}") })
    }),
    ("JSON", |it| {
        each(it, |it| match it {
            b'"' | b'\\' | b'/' => format!("\\{}", char::from(it)),
            b'\r' => "\\r".to_owned(),
            b'\n' => "\\n".to_owned(),
            _ => char::from(it).into(),
        })
    }),
    ("JSON with numbers", |it| each(it, |it| format!("\\u{:04x}", u32::from(it)))),
    ("escapes with braces", |it| each(it, |it| format!("\\u{{{it:x}}}"))),
    ("escaped bytes", |it| each(it, |it| format!("\\x{it:02x}"))),
    ("escaped bytes in octal", |it| each(it, |it| format!("\\{it:03o}"))),
    ("a list of numbers", |it| format!("{it:?}")),
    ("a list of numbers in lines", |it| format!("{it:#?}")),
    ("a list of numbers without commas", |it| format!("[{}]", each(it, |it| format!("{it} ")))),
    ("a list of hex numbers", |it| format!("{it:x?}")),
    ("a list of hex numbers of two digits", |it| format!("{it:02X?}")),
    ("a list of hex numbers with 0x, in lines", |it| format!("{it:#x?}")),
    ("hex numbers with 0x and commas", |it| format!("[{}]", each(it, |it| format!("0x{it:02X},")))),
    ("a list of octal numbers", |it| format!("[{}]", each(it, |it| format!("{it:o}, ")))),
    ("a list of octal numbers with 0o", |it| format!("[{}]", each(it, |it| format!("{it:#o}, ")))),
    ("a list of characters", |it| format!("{:?}", String::from_utf8_lossy(it).chars().collect::<Vec<_>>())),
    ("a list of texts of a character", |it| {
        format!("{:?}", String::from_utf8_lossy(it).chars().map(String::from).collect::<Vec<_>>())
    }),
    ("HTML", |it| {
        each(it, |it| match it {
            b'"' => "&quot;".to_owned(),
            b'\'' => "&apos;".to_owned(),
            b'&' => "&amp;".to_owned(),
            b'<' => "&lt;".to_owned(),
            b'>' => "&gt;".to_owned(),
            _ => char::from(it).into(),
        })
    }),
    ("HTML with numbers", |it| each(it, |it| format!("&#{it};"))),
    ("HTML with hex numbers", |it| each(it, |it| format!("&#x{it:X};"))),
    ("UTF-16", |it| each(it, |it| format!("{}\0", char::from(it)))),
    ("base64 in lines", |it| {
        base64(it, 1, false)
            .as_bytes()
            .chunks(5)
            .map(|it| format!("{}\r\n", String::from_utf8_lossy(it)))
            .collect()
    }),
];

fn each(text: &[u8], write: impl Fn(u8) -> String) -> String {
    text.iter().map(|it| write(*it)).collect()
}

/// `text` behind so many bytes of something else, and before two.
fn base64(text: &[u8], before: usize, url: bool) -> String {
    let alphabet: [&[u8]; 2] = [
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    ];
    let all = [&b"??"[..before], text, b"??"].concat();
    let bits: Vec<u8> = all.iter().flat_map(|it| (0..8).rev().map(move |at| it >> at & 1)).collect();
    let sextets = bits.chunks(6).map(|it| it.iter().fold(0, |all, it| all << 1 | it) << (6 - it.len()));
    sextets.map(|it| char::from(alphabet[usize::from(url)][usize::from(it)])).collect()
}

/// Where each is put: alone, in a field, in an object, in a log line, in an address, in the middle of a word.
const PLACES: [&str; 6] = [
    "HERE",
    "location: https://attacker.example/HERE\r\n",
    r#"{"error":{"code":"VaultError","message":"invalid type: string \"HERE\", expected u64 at line 1"}}"#,
    r#"stderr [3] :: {"time":"2024-12-31T23:59:59Z","level":"info","cause":"HERE"}"#,
    "GET /secrets/HERE?api-version=7.4",
    "abcdeHEREfghij",
];

/// It has what JSON, addresses and forms have to escape, close enough to each other that each part has some.
const VALUE: &str = "8f2a\"\\?&/+val \r\n#e=of%the;secret>~/1b";
