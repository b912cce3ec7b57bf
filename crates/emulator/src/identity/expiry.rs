//! How a token answer says when the token ends.

use serde_json::Value;
use time::{OffsetDateTime, format_description};

use crate::settings::{ExpiresIn, ExpiresOn, Settings};

/// Writes `expires_in` and `expires_on` as the settings want them, or in the source's `own` way. `now`, when the token is
/// given, and `expires` are in Unix seconds.
pub(super) fn write(
    to: &mut Value,
    settings: &Settings,
    own: (ExpiresOn, ExpiresIn),
    expires: i64,
    now: i64,
) {
    let left = expires.saturating_sub(now);
    let expires_in = match settings.expires_in.unwrap_or(own.1) {
        ExpiresIn::Number => Some(left.into()),
        ExpiresIn::Text => Some(left.to_string().into()),
        ExpiresIn::Empty => Some("".into()),
        ExpiresIn::Null => Some(Value::Null),
        ExpiresIn::Absent => None,
    };
    let expires_on = on(settings.expires_on.unwrap_or(own.0), now, expires);
    for (name, value) in [("expires_in", expires_in), ("expires_on", expires_on)] {
        if let Some(value) = value {
            to[name] = value;
        }
    }
}

fn on(rendering: ExpiresOn, now: i64, expires: i64) -> Option<Value> {
    let format = match rendering {
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
    Some(written(format, expires).into())
}

/// A time in Unix seconds in this format of the crate `time`, which writes UTC. A time beyond the calendar's end is
/// written as the calendar's first second.
pub(super) fn written(format: &'static str, seconds: i64) -> String {
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let format = format_description::parse_borrowed::<2>(format).expect("a format of this file");
    at.format(&format).expect("a time has each of these")
}

#[test]
fn every_format_that_is_met_in_the_field() {
    for row in include_str!("expiry.txt").lines().filter(|row| row.contains(" 1505")) {
        let cells: Vec<&str> = row.splitn(3, ' ').collect();
        let rendering = serde_json::from_value(cells[0].into()).expect("a format");
        let written = on(rendering, 1_505_347_100, cells[1].parse().expect("a time"));
        assert_eq!(written.map_or("-".to_owned(), |value| value.to_string()), cells[2], "{row}");
    }
    // A token that was given before has less time left.
    let (mut body, usual) = (serde_json::json!({}), (ExpiresOn::Text, ExpiresIn::Number));
    write(&mut body, &Settings::default(), usual, 1100, 1010);
    assert_eq!(body, serde_json::json!({"expires_in": 90, "expires_on": "1100"}));
}
