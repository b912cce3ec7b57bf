//! The calendar of UTC: dates with their times of day, and the seconds since 1970-01-01T00:00:00Z.

/// A date of the Gregorian calendar with a time of day, in UTC. It may be one that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime {
    pub year: u32,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
}

impl DateTime {
    /// The date and time `unix_time` seconds after 1970-01-01T00:00:00Z; the end of the year 9999 if that is
    /// earlier.
    #[expect(clippy::arithmetic_side_effects, reason = "the numbers are small: the year is below 10,000")]
    pub fn at(unix_time: u64) -> Self {
        let unix_time = unix_time.min(LAST_SECOND);
        // Years begin with March here, so that the leap day is the last one. They repeat after 400 years.
        let days = unix_time / DAY + DAYS_TO_1970;
        let (cycle, day) = (days / DAYS_OF_CYCLE, days % DAYS_OF_CYCLE);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (year * 365 + year / 4 - year / 100);
        let month = (day * 5 + 2) / 153;
        let is_next_year = month >= 10;
        let part = |number: u64| u32::try_from(number).unwrap_or_default();
        Self {
            year: part(cycle * 400 + year + u64::from(is_next_year)),
            month: part(if is_next_year { month - 9 } else { month + 3 }),
            day: part(day - (month * 153 + 2) / 5 + 1),
            hour: part(unix_time / 3600 % 24),
            minute: part(unix_time / 60 % 60),
            second: part(unix_time % 60),
        }
    }

    /// Seconds since 1970-01-01T00:00:00Z, negative before that. `None` if there is no such date or time of
    /// day, or if the year has more than four digits.
    #[expect(clippy::arithmetic_side_effects, reason = "the numbers are small: the year is below 10,000")]
    pub fn unix_time(self) -> Option<i64> {
        let Self { year, month, day, hour, minute, second } = self;
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let last_day = match month {
            2 => 28 + u32::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let exists = (1..=9999).contains(&year) && (1..=12).contains(&month) && (1..=last_day).contains(&day);
        if !exists || hour >= 24 || minute >= 60 || second >= 60 {
            return None;
        }
        // As above.
        let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
        let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
        let days = i64::from(days) - i64::try_from(DAYS_TO_1970).ok()?;
        Some(days * 86_400 + i64::from(hour * 3600 + minute * 60 + second))
    }
}

impl DateTime {
    /// The date as RFC 3339 has it: `2024-12-31T23:59:59Z`. Each log line has one, and the macros of
    /// `std::fmt` take six times the instructions.
    pub fn to_rfc_3339(self) -> String {
        let Self { year, month, day, hour, minute, second } = self;
        let mut text = Vec::with_capacity(20);
        let parts = [
            (year, 1000, b'-'),
            (month, 10, b'-'),
            (day, 10, b'T'),
            (hour, 10, b':'),
            (minute, 10, b':'),
            (second, 10, b'Z'),
        ];
        for (number, mut place, behind) in parts {
            while place > 0 {
                let digit =
                    number.checked_div(place).and_then(|rest| rest.checked_rem(10)).unwrap_or_default();
                text.push(b'0'.saturating_add(digit as u8));
                place = place.checked_div(10).unwrap_or_default();
            }
            text.push(behind);
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

const DAY: u64 = 24 * 60 * 60;

/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;

/// The days of 400 years.
const DAYS_OF_CYCLE: u64 = 146_097;

/// The last second of the year 9999: 9999-12-31T23:59:59Z.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_seconds_are_known_dates() {
        for (unix_time, date) in [
            (0, "1970-01-01T00:00:00Z"),
            (68_169_599, "1972-02-28T23:59:59Z"),
            (68_169_600, "1972-02-29T00:00:00Z"),
            // The example of an HTTP date in RFC 9110, section 5.6.7.
            (784_111_777, "1994-11-06T08:49:37Z"),
            (951_868_799, "2000-02-29T23:59:59Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (LAST_SECOND, "9999-12-31T23:59:59Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(DateTime::at(unix_time).to_rfc_3339(), date, "{unix_time}");
            assert_eq!(
                DateTime::at(unix_time).unix_time(),
                Some(unix_time.min(LAST_SECOND) as i64),
                "{date}"
            );
        }
    }

    #[test]
    fn days_follow_each_other_for_400_years() {
        let mut last = DateTime::at(0);
        for day in 1..=DAYS_OF_CYCLE {
            let date = DateTime::at(day * DAY);
            assert_eq!(date.unix_time(), Some((day * DAY) as i64), "{date:?}");
            let is_next = match (date.day, date.month) {
                (1, 1) => (date.year, 12) == (last.year + 1, last.month),
                (1, month) => (date.year, month) == (last.year, last.month + 1),
                (day, month) => (date.year, month, day) == (last.year, last.month, last.day + 1),
            };
            assert!(is_next, "{date:?} after {last:?}");
            last = date;
        }
    }

    #[test]
    fn dates_before_1970_are_negative() {
        for (year, month, day, days) in [(1969, 12, 31, -1), (1900, 3, 1, -25_508), (1, 1, 1, -719_162)] {
            let date = DateTime { year, month, day, hour: 0, minute: 0, second: 0 };
            assert_eq!(date.unix_time(), Some(days * 86_400), "{date:?}");
        }
    }

    #[test]
    fn what_does_not_exist_has_no_seconds() {
        let new_year = DateTime::at(1_735_689_600);
        for date in [
            DateTime { year: 0, ..new_year },
            DateTime { year: 10_000, ..new_year },
            DateTime { month: 0, ..new_year },
            DateTime { month: 13, ..new_year },
            DateTime { day: 0, ..new_year },
            DateTime { day: 32, ..new_year },
            DateTime { month: 4, day: 31, ..new_year },
            DateTime { month: 2, day: 29, ..new_year },
            DateTime { year: 2100, month: 2, day: 29, ..new_year },
            DateTime { hour: 24, ..new_year },
            DateTime { minute: 60, ..new_year },
            DateTime { second: 60, ..new_year },
        ] {
            assert_eq!(date.unix_time(), None, "{date:?}");
        }
    }
}
