//! `Retry-After`: digits are seconds, and a formatted date is the same date again.

#![no_main]

use std::time::Duration;

use keyvault_gateway::azure::Answer;
use keyvault_gateway_fuzz::*;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

fuzz_target!(|text: &[u8]| -> Corpus {
    let Ok(text) = str::from_utf8(text) else { return Corpus::Reject };
    let pause = |text: &str, now: u64| Answer::new(429, Some(text.to_owned()), Vec::new()).retry_after(now);
    let digits = text.trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that does not fit in 64 bits is ignored.
        let number = digits.parse().ok();
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
    let time = i64::try_from(seconds).ok().and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    // An offset may move the date past the year 9999, which cannot be formatted.
    if let Some(formatted) = time.and_then(|time| time.format(&Rfc2822).ok()) {
        assert_eq!(pause(&formatted.replace("+0000", "GMT"), 0), Some(date), "{formatted}");
    }
    Corpus::Keep
});

const NOW: u64 = 784_111_770;
