//! Dates as Azure writes them, in seconds since 1970-01-01T00:00:00Z.

use crate::model::DateTime;

/// Parses a date in any form that a token answer may have.
pub(super) fn parse(text: &str) -> Option<i64> {
    parse_rfc_3339(text).or_else(|| parse_rfc_1123(text)).or_else(|| parse_plain(text))
}

/// `Sun, 22 Nov 3333 04:05:06 GMT`, as HTTP has dates, too (RFC 9110, section 5.6.7).
pub(super) fn parse_rfc_1123(text: &str) -> Option<i64> {
    let (_weekday, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let (day, month, year) = (digits(words.next()?)?, words.next()?, digits(words.next()?)?);
    let month = (1..).zip(MONTHS).find(|(_, name)| *name == month)?.0;
    let clock = three(words.next()?, ':')?;
    let is_whole = words.next() == Some("GMT") && words.next().is_none();
    is_whole.then(|| seconds((year, month, day), clock, 0)).flatten()
}

/// `2024-12-31T23:59:59Z`, with any offset and any fraction.
fn parse_rfc_3339(text: &str) -> Option<i64> {
    let (days, rest) = text.split_once('T')?;
    let (clock, zone) = rest.split_at_checked(rest.find(['Z', '+', '-'])?)?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
    is_fraction.then(|| seconds(date(days)?, three(clock, ':')?, offset(zone)?)).flatten()
}

/// Parses `M/D/YYYY H:MM:SS [AM|PM] [+00:00]` and `YYYY-MM-DD HH:MM:SS`. Without an offset, the time is UTC.
///
/// App Service writes hours up to 23 and still puts a PM behind them, and writes 12 AM for midnight. So PM
/// adds twelve only to the hours before noon, as Go's time parser does, and AM changes only the twelfth hour.
fn parse_plain(text: &str) -> Option<i64> {
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
    let offset = next.map_or(Some(0), offset)?;
    if words.next().is_some() {
        return None;
    }
    seconds(date, (hour, minute, second), offset)
}

/// The year, the month and the day of `M/D/YYYY` or `YYYY-MM-DD`.
fn date(text: &str) -> Option<(u32, u32, u32)> {
    if text.contains('/') {
        let (month, day, year) = three(text, '/')?;
        Some((year, month, day))
    } else {
        three(text, '-')
    }
}

/// The seconds east of UTC of `Z`, `+00:00` or another offset of hours and minutes.
fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let (sign, rest) = text.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let part = |text: &str, below: u32| digits(text).filter(|number| text.len() == 2 && *number < below);
    let (hours, minutes) = (i64::from(part(hours, 24)?), i64::from(part(minutes, 60)?));
    let seconds = hours.saturating_mul(60).saturating_add(minutes).saturating_mul(60);
    match sign {
        "+" => Some(seconds),
        "-" => seconds.checked_neg(),
        _ => None,
    }
}

/// A date and a time of day at this offset, as seconds.
fn seconds(date: (u32, u32, u32), clock: (u32, u32, u32), offset: i64) -> Option<i64> {
    let ((year, month, day), (hour, minute, second)) = (date, clock);
    // A year of one to three digits is a mistake.
    let at = (year >= 1000).then_some(DateTime { year, month, day, hour, minute, second })?;
    at.unix_time()?.checked_sub(offset)
}

fn three(text: &str, between: char) -> Option<(u32, u32, u32)> {
    let mut parts = text.split(between).map(digits);
    let three = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(three)
}

/// Parses one to four digits and nothing else: no sign, no space.
fn digits(text: &str) -> Option<u32> {
    let fits = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| text.parse().ok()).flatten()
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_the_forms_that_azure_writes() {
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
            ("2024-12-31T23:59:59-00:30", Some(1_735_691_399)),
            ("Sun, 22 Nov 3333 04:05:06 GMT", Some(43_040_261_106)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sun, 06 Now 1994 08:49:37 GMT", None),
            ("Sun, 31 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 1994 08:49:37 GMT x", None),
            ("2024-12-31T23:59:59.Z", None),
            ("2024-12-31T23:59:59.xZ", None),
            ("2024-12-31T23:59:59*00:00", None),
            ("2024-12-31T23:59:59+24:00", None),
            ("2024-12-31T23:59:60Z", None),
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
            assert_eq!(parse(text), seconds, "{text:?}");
        }
    }
}
