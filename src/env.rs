//! Looks up settings by name, and parses the simple ones.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::error::SettingError;
use crate::model::Redacted;

/// The one way to a setting's text.
#[derive(Clone, Copy)]
pub struct Lookup<'a>(&'a Read<'a>);

type Read<'a> = dyn Fn(&'static str) -> Result<Option<String>, Unreadable> + 'a;

impl<'a> Lookup<'a> {
    /// Looks settings up with `read`.
    pub fn new(read: &'a Read<'a>) -> Self {
        Self(read)
    }

    /// The text of the setting `name`. An empty one is as good as none.
    pub(crate) fn text(self, name: &'static str) -> Result<Option<String>, SettingError> {
        match (self.0)(name) {
            Ok(text) => Ok(text.filter(|it| !it.is_empty())),
            Err(Unreadable) => Err(SettingError { name, should: "could not be read from the host" }),
        }
    }

    /// The text of a setting that goes into a header field, or comes in one: visible ASCII.
    pub(crate) fn field_text(self, name: &'static str) -> Result<Option<Redacted>, SettingError> {
        let Some(text) = self.text(name)?.map(Redacted::new) else { return Ok(None) };
        let valid = text.expose().bytes().all(|it| it.is_ascii_graphic());
        if valid {
            Ok(Some(text))
        } else {
            Err(SettingError { name, should: "must be visible ASCII without spaces" })
        }
    }

    /// The setting `name` as `true` or `false`, in any case; false if it is not set.
    pub(crate) fn switch(self, name: &'static str) -> Result<bool, SettingError> {
        match self.text(name)?.map(|it| it.to_ascii_lowercase()).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(SettingError { name, should: "must be true or false" }),
        }
    }

    pub(crate) fn seconds(
        self,
        name: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, SettingError> {
        self.number(name, default, range).map(Duration::from_secs)
    }

    pub(crate) fn number<N: FromStr + PartialOrd>(
        self,
        name: &'static str,
        default: N,
        range: RangeInclusive<N>,
    ) -> Result<N, SettingError> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        let digits = text.bytes().all(|it| it.is_ascii_digit());
        let number = digits.then(|| text.parse().ok()).flatten().filter(|it| range.contains(it));
        number.ok_or(SettingError { name, should: "must be a whole number in its range" })
    }
}

/// A setting that the host has but cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;
