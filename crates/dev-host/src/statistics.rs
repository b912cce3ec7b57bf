//! Statistics of measurements, and their text in tables.

use std::time::Duration;

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Returns a quantile, or the upper of two values, or NaN if there is no value.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((part * last as f64).ceil() as usize).copied().unwrap_or(f64::NAN)
}

/// Formats a number with three significant digits, or as an integer.
pub(crate) fn rounded(value: f64) -> String {
    let digits = if value >= 99.95 { 0 } else { 1 + usize::from(value < 9.995) };
    format!("{value:.digits$}")
}
