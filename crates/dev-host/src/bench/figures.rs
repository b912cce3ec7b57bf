//! What was measured, and what is made of it.

use super::contestants::Contestant;

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Figures(Vec<Figure>);

/// One thing of one contestant, in each round.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) measure: Measure,
    /// Under which conditions: a column of the measure's table.
    pub(super) at: String,
    pub(super) contestant: Contestant,
    pub(super) rounds: Vec<f64>,
}

/// What is measured, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    WarmReads,
    WarmMedian,
    WarmP99,
    Processor,
    Cores,
    CacheSize,
    ColdMedian,
    ColdP99,
    FreshInstance,
    FirstAnswer,
    BurstCalls,
    BurstCallsEach,
    BurstP99,
    Memory,
    WithoutHttp,
}

impl Measure {
    pub(super) const ALL: [Self; 15] = [
        Self::WarmReads,
        Self::WarmMedian,
        Self::WarmP99,
        Self::Processor,
        Self::Cores,
        Self::CacheSize,
        Self::ColdMedian,
        Self::ColdP99,
        Self::FreshInstance,
        Self::FirstAnswer,
        Self::BurstCalls,
        Self::BurstCallsEach,
        Self::BurstP99,
        Self::Memory,
        Self::WithoutHttp,
    ];

    /// What it is, with its unit.
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::WarmReads => "Warm reads in a second",
            Self::WarmMedian => "Warm reads: median, ms",
            Self::WarmP99 => "Warm reads: p99, ms",
            Self::Processor => {
                "Time of the processor that the server takes for a warm read, 32 connections: µs"
            }
            Self::Cores => "Warm reads in a second by the cores of the server, 32 connections",
            Self::CacheSize => "Warm reads in a second by how many secrets are read in turn, one connection",
            Self::ColdMedian => "Cold read with a token at hand: median, ms",
            Self::ColdP99 => "Cold read with a token at hand: p99, ms",
            Self::FreshInstance => "Every request in an instance of its own, upstream at once: ms",
            Self::FirstAnswer => "From the start of the process to its first answer, upstream at once: ms",
            Self::BurstCalls => "64 cold reads at the same time, upstream of 5 ms: calls of the vault",
            Self::BurstCallsEach => "The same for each instance of the host",
            Self::BurstP99 => "64 cold reads at the same time, upstream of 5 ms: p99, ms",
            Self::Memory => "Memory of the process, MiB",
            Self::WithoutHttp => "Warm reads in a second, without HTTP by one reader, and over HTTP",
        }
    }

    /// How it is called where programs read it.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::WarmReads => "warm_reads_per_second",
            Self::WarmMedian => "warm_median_ms",
            Self::WarmP99 => "warm_p99_ms",
            Self::Processor => "warm_processor_us",
            Self::Cores => "warm_reads_per_second_by_cores",
            Self::CacheSize => "warm_reads_per_second_by_secrets",
            Self::ColdMedian => "cold_median_ms",
            Self::ColdP99 => "cold_p99_ms",
            Self::FreshInstance => "fresh_instance_median_ms",
            Self::FirstAnswer => "first_answer_ms",
            Self::BurstCalls => "burst_vault_calls",
            Self::BurstCallsEach => "burst_vault_calls_per_instance",
            Self::BurstP99 => "burst_p99_ms",
            Self::Memory => "memory_mib",
            Self::WithoutHttp => "reads_without_http_per_second",
        }
    }
}

impl Figures {
    /// Adds the figure of one round.
    pub(super) fn add(&mut self, measure: Measure, at: &str, contestant: Contestant, value: f64) {
        let same = |it: &&mut Figure| it.measure == measure && it.at == at && it.contestant == contestant;
        match self.0.iter_mut().find(same) {
            Some(figure) => figure.rounds.push(value),
            None => self.0.push(Figure { measure, at: at.to_owned(), contestant, rounds: vec![value] }),
        }
    }

    /// The median of the rounds, if it was measured.
    pub(super) fn median(&self, measure: Measure, at: &str, contestant: Contestant) -> Option<f64> {
        let figure = self.of(measure).find(|it| it.at == at && it.contestant == contestant)?;
        Some(quantile(&figure.rounds, 0.5))
    }

    /// What was measured of this, in order.
    pub(super) fn of(&self, measure: Measure) -> impl Iterator<Item = &Figure> {
        self.0.iter().filter(move |it| it.measure == measure)
    }

    /// The conditions of a measure, in order.
    pub(super) fn columns(&self, measure: Measure) -> Vec<&str> {
        let mut columns = Vec::new();
        for figure in self.of(measure) {
            if !columns.contains(&figure.at.as_str()) {
                columns.push(figure.at.as_str());
            }
        }
        columns
    }

    /// Who was measured, in order.
    pub(super) fn rows(&self, measure: Measure) -> Vec<Contestant> {
        let mut rows = Vec::new();
        for figure in self.of(measure) {
            if !rows.contains(&figure.contestant) {
                rows.push(figure.contestant);
            }
        }
        rows
    }
}

/// The value below which this part of `values` is; of two in the middle, the upper one.
pub(super) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((part * last as f64).ceil() as usize).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        for (values, part, expected) in [
            (&[3.0, 1.0, 2.0][..], 0.5, 2.0),
            (&[4.0, 1.0, 2.0, 3.0], 0.5, 3.0),
            (&[4.0, 1.0, 2.0, 3.0], 0.99, 4.0),
            (&[7.0], 0.99, 7.0),
        ] {
            assert_eq!(quantile(values, part), expected, "{values:?} {part}");
        }
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn medians_are_of_the_rounds() {
        let mut figures = Figures::default();
        for value in [5.0, 1.0, 3.0] {
            figures.add(Measure::WarmReads, "8", Contestant::Native, value);
            figures.add(Measure::WarmReads, "32", Contestant::Native, 2.0 * value);
        }
        assert_eq!(figures.median(Measure::WarmReads, "8", Contestant::Native), Some(3.0));
        assert_eq!(figures.median(Measure::WarmReads, "32", Contestant::Native), Some(6.0));
        assert_eq!(figures.median(Measure::WarmReads, "8", Contestant::NativeWithCache), None);
        assert_eq!(figures.columns(Measure::WarmReads), ["8", "32"]);
    }
}
