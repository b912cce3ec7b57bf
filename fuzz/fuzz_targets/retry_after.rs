//! `Retry-After`: digits are the number that they are, a date is the same date however often it is written.

#![no_main]

use core::time::Duration;

use keyvault_gateway::azure::Answer;
use keyvault_gateway_fuzz::*;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(text) else { return Corpus::Reject };
    let pause = |text: &str, now: u64| Answer::new(429, Some(text.to_owned()), Vec::new()).pause(now);
    let digits = text.trim();
    if !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit()) {
        // As many of them as there may be, or no number at all.
        let number = digits
            .bytes()
            .try_fold(0_u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')));
        for now in [0, NOW, u64::MAX] {
            assert_eq!(pause(text, now), number.map(Duration::from_secs));
        }
        return Corpus::Keep;
    }
    assert_eq!(pause(text, 0).is_some(), pause(text, u64::MAX).is_some());
    let Some(date) = pause(text, 0) else { return Corpus::Keep };
    assert_eq!(date.subsec_nanos(), 0);
    let seconds = date.as_secs();
    for now in [1, NOW, seconds, u64::MAX] {
        assert_eq!(pause(text, now), Some(Duration::from_secs(seconds.saturating_sub(now))));
    }
    let written = i64::try_from(seconds).ok().and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok());
    // An offset may move it past the year 9999, where no date can be written.
    if let Some(written) = written.and_then(|it| it.format(&Rfc2822).ok()) {
        assert_eq!(pause(&written.replace("+0000", "GMT"), 0), Some(date), "{written}");
    }
    Corpus::Keep
});

const NOW: u64 = 784_111_770;
