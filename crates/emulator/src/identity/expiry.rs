//! Formats of `expires_in` and `expires_on` in token responses.

use serde_json::Value;
use time::{OffsetDateTime, format_description};

use crate::settings::{ExpiresIn, ExpiresOn, Settings};

/// Writes both members in the formats of the settings, or in the `default` of the source. Times are Unix
/// seconds.
pub(super) fn write(
    to: &mut Value,
    settings: &Settings,
    default: (ExpiresOn, ExpiresIn),
    expires: i64,
    now: i64,
) {
    let left = expires.saturating_sub(now);
    let expires_in = match settings.expires_in.unwrap_or(default.1) {
        ExpiresIn::Number => Some(left.into()),
        ExpiresIn::Text => Some(left.to_string().into()),
        ExpiresIn::Empty => Some("".into()),
        ExpiresIn::Null => Some(Value::Null),
        ExpiresIn::Absent => None,
    };
    let expires_on = expires_on(settings.expires_on.unwrap_or(default.0), now, expires);
    for (name, value) in [("expires_in", expires_in), ("expires_on", expires_on)] {
        if let Some(value) = value {
            to[name] = value;
        }
    }
}

fn expires_on(format: ExpiresOn, now: i64, expires: i64) -> Option<Value> {
    let format = match format {
        ExpiresOn::Number => return Some(expires.into()),
        ExpiresOn::Relative => return Some(expires.saturating_sub(now).into()),
        ExpiresOn::Null => return Some(Value::Null),
        ExpiresOn::Absent => return None,
        ExpiresOn::Empty => return Some("".into()),
        ExpiresOn::Text => return Some(expires.to_string().into()),
        ExpiresOn::Autorest2017 => "[month]/[day]/[year] [hour]:[minute]:[second] [period] +00:00",
        ExpiresOn::Linux2017 => "[month]/[day]/[year] [hour]:[minute]:[second] +00:00",
        ExpiresOn::Windows2017 => {
            "[month padding:none]/[day padding:none]/[year] [hour repr:12 padding:none]:[minute]:[second] \
             [period] +00:00"
        }
        ExpiresOn::Unpadded => {
            "[month padding:none]/[day padding:none]/[year] [hour padding:none]:[minute]:[second] +00:00"
        }
        ExpiresOn::SlashesWithoutOffset => "[month]/[day]/[year] [hour]:[minute]:[second]",
        ExpiresOn::DashesWithoutOffset => "[year]-[month]-[day] [hour]:[minute]:[second]",
        ExpiresOn::Iso => "[year]-[month]-[day]T[hour]:[minute]:[second]Z",
        ExpiresOn::IsoFraction => "[year]-[month]-[day]T[hour]:[minute]:[second].0000000+00:00",
        ExpiresOn::Rfc1123 => {
            "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
        }
    };
    Some(format_time(format, expires).into())
}

/// Formats Unix seconds as UTC. A time after the year 9999 is written as 1970-01-01.
pub(super) fn format_time(format: &'static str, seconds: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format =
        format_description::parse_borrowed::<2>(format).expect("the formats of this crate are valid");
    time.format(&format).expect("a time has each component of the format")
}

#[test]
fn each_expiry_format_matches_its_example() {
    for row in include_str!("expiry.txt").lines().filter(|row| row.contains(" 1505")) {
        let cells: Vec<&str> = row.splitn(3, ' ').collect();
        let format = serde_json::from_value(cells[0].into()).expect("a format");
        let value = expires_on(format, 1_505_347_100, cells[1].parse().expect("a time"));
        assert_eq!(value.map_or("-".to_owned(), |value| value.to_string()), cells[2], "{row}");
    }
    // `expires_in` of a cached token counts from now.
    let (mut body, default) = (serde_json::json!({}), (ExpiresOn::Text, ExpiresIn::Number));
    write(&mut body, &Settings::default(), default, 1100, 1010);
    assert_eq!(body, serde_json::json!({"expires_in": 90, "expires_on": "1100"}));
}
