//! Dates as Azure writes them, as seconds since 1970-01-01T00:00:00Z.

use time::format_description::well_known::{Rfc2822, Rfc3339};
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time, UtcOffset};

/// Any date that a token answer may carry.
pub(super) fn any(text: &str) -> Option<i64> {
    rfc_3339(text).or_else(|| rfc_1123(text)).or_else(|| plain(text))
}

/// `Sun, 22 Nov 3333 04:05:06 GMT`, as HTTP has dates, too (RFC 9110, section 5.6.7).
pub(super) fn rfc_1123(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc2822).ok().map(OffsetDateTime::unix_timestamp)
}

/// `2024-12-31T23:59:59Z`, with any offset and any fraction.
fn rfc_3339(text: &str) -> Option<i64> {
    OffsetDateTime::parse(text, &Rfc3339).ok().map(OffsetDateTime::unix_timestamp)
}

/// `M/D/YYYY H:MM:SS [AM|PM] [+00:00]` and `YYYY-MM-DD HH:MM:SS`; without an offset it is UTC.
///
/// App Service writes hours up to 23 and a PM behind them all the same, and 12 AM for midnight. So PM moves the
/// hours before noon only, as Go's time parser does, and AM moves only the twelfth.
fn plain(text: &str) -> Option<i64> {
    let mut words = text.split(' ');
    let (date, clock) = (date(words.next()?)?, words.next()?);
    let (mut hour, minute, second) = three(clock, ':')?;
    let mut next = words.next();
    if let Some(half @ ("AM" | "PM")) = next {
        match (half, hour) {
            ("PM", 0..12) => hour = hour.checked_add(12)?,
            ("AM", 12) => hour = 0,
            _ => {}
        }
        next = words.next();
    }
    let offset = next.map_or(Some(UtcOffset::UTC), offset)?;
    if words.next().is_some() {
        return None;
    }
    let byte = |number: u32| u8::try_from(number).ok();
    let time = Time::from_hms(byte(hour)?, byte(minute)?, byte(second)?).ok()?;
    Some(PrimitiveDateTime::new(date, time).assume_offset(offset).unix_timestamp())
}

fn date(text: &str) -> Option<Date> {
    let (year, month, day) = if text.contains('/') {
        let (month, day, year) = three(text, '/')?;
        (year, month, day)
    } else {
        three(text, '-')?
    };
    if !(1000..=9999).contains(&year) {
        return None;
    }
    let month = Month::try_from(u8::try_from(month).ok()?).ok()?;
    Date::from_calendar_date(i32::try_from(year).ok()?, month, u8::try_from(day).ok()?).ok()
}

/// `Z`, `+00:00` or another offset of hours and minutes.
fn offset(text: &str) -> Option<UtcOffset> {
    if text == "Z" {
        return Some(UtcOffset::UTC);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let part = |text: &str, below: i8| {
        let number = i8::try_from(digits(text)?).ok()?;
        (text.len() == 2 && number < below).then(|| number.checked_mul(sign)).flatten()
    };
    UtcOffset::from_hms(part(hours, 24)?, part(minutes, 60)?, 0).ok()
}

fn three(text: &str, between: char) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(between).map(digits);
    let three = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(three)
}

/// One to four digits and nothing else: no sign, no space.
fn digits(text: &str) -> Option<u32> {
    let fits = (1..=4).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, seconds) in [
            // What App Service documented for 2017-09-01: a twelve-hour mark behind a 24-hour clock.
            ("09/14/2017 00:00:00 PM +00:00", Some(1_505_390_400)),
            ("9/14/2017 3:04:05 PM +00:00", Some(1_505_401_445)),
            ("9/14/2017 15:04:05 PM +00:00", Some(1_505_401_445)),
            ("09/14/2017 15:04:05 +00:00", Some(1_505_401_445)),
            // Microsoft's Python client has these two in its tests, for Linux and for Windows.
            ("01/01/1970 00:00:42 +00:00", Some(42)),
            ("1/1/1970 12:00:42 AM +00:00", Some(42)),
            ("1/1/1970 12:00:42 PM +00:00", Some(43_242)),
            ("1/1/1970 0:00:42 Z", Some(42)),
            ("1/1/1970 2:00:42 +02:00", Some(42)),
            ("12/31/1969 22:00:42 -02:00", Some(42)),
            ("12/31/2024 23:59:59", Some(1_735_689_599)),
            ("2024-12-31 23:59:59", Some(1_735_689_599)),
            ("2024-12-31T23:59:59Z", Some(1_735_689_599)),
            ("2024-12-31T23:59:59.9999999+00:00", Some(1_735_689_599)),
            ("2024-10-18T19:51:37.0000000+00:00", Some(1_729_281_097)),
            ("2024-12-31T23:59:59+01:00", Some(1_735_685_999)),
            ("Sun, 22 Nov 3333 04:05:06 GMT", Some(43_040_261_106)),
            ("2/30/2024 00:00:00 +00:00", None),
            ("13/1/2024 00:00:00 +00:00", None),
            ("1/1/2024 24:00:00 +00:00", None),
            ("1/1/2024 00:60:00 +00:00", None),
            ("1/1/24 00:00:00 +00:00", None),
            ("1/1/2024 00:00:00 XM +00:00", None),
            ("1/1/2024 00:00:00 +0:00", None),
            ("1/1/2024 00:00:00 +00:00 x", None),
            ("1/1/2024  00:00:00", None),
            ("1/1/2024", None),
            ("-1/1/2024 00:00:00", None),
            ("2024-12-31T23:59:59", None),
            ("tomorrow", None),
            ("", None),
        ] {
            assert_eq!(any(text), seconds, "{text:?}");
        }
    }
}
