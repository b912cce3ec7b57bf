//! How a token answer says when the token ends, and when to ask for the next.

use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::caller::Life;
use crate::settings::{ExpiresIn, ExpiresOn, Settings};

/// Writes `expires_in` and `expires_on` as the settings want them, or as `usual` for the source, and `refresh_in` if
/// they want it. `now`, when the token is given, is in Unix seconds.
pub(super) fn write(
    fields: &mut Map<String, Value>,
    settings: &Settings,
    usual: (ExpiresOn, ExpiresIn),
    life: Life,
    now: i64,
) {
    let Life { issued, expires } = life;
    if let Some(value) = within(settings.expires_in.unwrap_or(usual.1), expires.saturating_sub(now)) {
        fields.insert("expires_in".to_owned(), value);
    }
    if let Some(value) = on(settings.expires_on.unwrap_or(usual.0), now, expires) {
        fields.insert("expires_on".to_owned(), value);
    }
    if let Some(seconds) = settings.refresh_in {
        let age = u64::try_from(now.saturating_sub(issued)).unwrap_or(0);
        fields.insert("refresh_in".to_owned(), seconds.saturating_sub(age).into());
    }
}

fn within(rendering: ExpiresIn, seconds: i64) -> Option<Value> {
    match rendering {
        ExpiresIn::Number => Some(seconds.into()),
        ExpiresIn::Text => Some(seconds.to_string().into()),
        ExpiresIn::Empty => Some("".into()),
        ExpiresIn::Null => Some(Value::Null),
        ExpiresIn::Absent => None,
    }
}

fn on(rendering: ExpiresOn, now: i64, expires: i64) -> Option<Value> {
    // A lifetime beyond the calendar's end is written as the calendar's first second.
    let at = OffsetDateTime::from_unix_timestamp(expires).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second) = at.to_hms();
    let half = if hour < 12 { "AM" } else { "PM" };
    let hour12 = if hour.is_multiple_of(12) { 12 } else { hour % 12 };
    let clock = format!("{hour:02}:{minute:02}:{second:02}");
    let text = match rendering {
        ExpiresOn::Number => return Some(expires.into()),
        ExpiresOn::Relative => return Some((expires.saturating_sub(now)).into()),
        ExpiresOn::Null => return Some(Value::Null),
        ExpiresOn::Absent => return None,
        ExpiresOn::Empty => String::new(),
        ExpiresOn::Text => expires.to_string(),
        ExpiresOn::Autorest2017 => format!("{month:02}/{day:02}/{year} {clock} {half} +00:00"),
        ExpiresOn::Linux2017 => format!("{month:02}/{day:02}/{year} {clock} +00:00"),
        ExpiresOn::Windows2017 => {
            format!("{month}/{day}/{year} {hour12}:{minute:02}:{second:02} {half} +00:00")
        }
        ExpiresOn::Unpadded => format!("{month}/{day}/{year} {hour}:{minute:02}:{second:02} +00:00"),
        ExpiresOn::SlashesWithoutOffset => format!("{month:02}/{day:02}/{year} {clock}"),
        ExpiresOn::DashesWithoutOffset => format!("{year}-{month:02}-{day:02} {clock}"),
        ExpiresOn::Iso => format!("{year}-{month:02}-{day:02}T{clock}Z"),
        ExpiresOn::IsoFraction => format!("{year}-{month:02}-{day:02}T{clock}.0000000+00:00"),
        ExpiresOn::Rfc1123 => {
            let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
            format!("{}, {day:02} {} {year} {clock} GMT", &weekday[..3], &month[..3])
        }
    };
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_that_was_given_before_has_less_time_left() {
        let settings = Settings { refresh_in: Some(60), ..Settings::default() };
        let mut fields = Map::new();
        let usual = (ExpiresOn::Text, ExpiresIn::Number);
        write(&mut fields, &settings, usual, Life { issued: 1000, expires: 1100 }, 1010);
        assert_eq!(Value::from(fields), json!({"expires_in": 90, "expires_on": "1100", "refresh_in": 50}));
    }

    #[test]
    fn renderings() {
        // 14 September 2017, 00:00:00 UTC: the day of the documents' sample.
        for (rendering, expected) in [
            (ExpiresOn::Text, json!("1505347200")),
            (ExpiresOn::Number, json!(1_505_347_200)),
            (ExpiresOn::Autorest2017, json!("09/14/2017 00:00:00 AM +00:00")),
            (ExpiresOn::Linux2017, json!("09/14/2017 00:00:00 +00:00")),
            (ExpiresOn::Windows2017, json!("9/14/2017 12:00:00 AM +00:00")),
            (ExpiresOn::Unpadded, json!("9/14/2017 0:00:00 +00:00")),
            (ExpiresOn::SlashesWithoutOffset, json!("09/14/2017 00:00:00")),
            (ExpiresOn::DashesWithoutOffset, json!("2017-09-14 00:00:00")),
            (ExpiresOn::Iso, json!("2017-09-14T00:00:00Z")),
            (ExpiresOn::IsoFraction, json!("2017-09-14T00:00:00.0000000+00:00")),
            (ExpiresOn::Rfc1123, json!("Thu, 14 Sep 2017 00:00:00 GMT")),
            (ExpiresOn::Relative, json!(100)),
            (ExpiresOn::Empty, json!("")),
            (ExpiresOn::Null, json!(null)),
        ] {
            assert_eq!(on(rendering, 1_505_347_100, 1_505_347_200), Some(expected), "{rendering:?}");
        }
        assert_eq!(on(ExpiresOn::Absent, 0, 0), None);
    }

    #[test]
    fn afternoons() {
        // The same day, 15:04:05 UTC.
        for (rendering, expected) in [
            (ExpiresOn::Autorest2017, "09/14/2017 15:04:05 PM +00:00"),
            (ExpiresOn::Windows2017, "9/14/2017 3:04:05 PM +00:00"),
        ] {
            assert_eq!(on(rendering, 0, 1_505_401_445), Some(expected.into()), "{rendering:?}");
        }
    }
}
