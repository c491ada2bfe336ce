//! What was counted: latencies in a histogram, successes, errors by their code.
//!
//! Tallies of clients, threads and rounds are added up; nothing is lost by that.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

use crate::failure::Failure;

/// Longest latency that is told apart, in nanoseconds: two minutes.
const HIGHEST: u64 = 120_000_000_000;
/// 1 µs: what is shorter does not exist on a socket.
const LOWEST: u64 = 1_000;

/// Counts and latencies (in nanoseconds).
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    pub(crate) latency: Histogram<u64>,
    pub(crate) begun: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// The first of each kind of error, in its own words.
    pub(crate) words: BTreeMap<String, String>,
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self {
            latency: Histogram::new_with_bounds(LOWEST, HIGHEST, 3).expect("the bounds are right"),
            begun: 0,
            errors: BTreeMap::new(),
            words: BTreeMap::new(),
        }
    }

    /// One request that was answered rightly.
    pub(crate) fn answered(&mut self, latency: Duration) {
        self.begun += 1;
        self.latency
            .saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(HIGHEST));
    }

    /// One that was not.
    pub(crate) fn failed(&mut self, failure: &Failure) {
        self.begun += 1;
        self.count_error(failure);
    }

    fn count_error(&mut self, failure: &Failure) {
        let code = failure.code();
        self.words
            .entry(code.clone())
            .or_insert_with(|| failure.to_string());
        *self.errors.entry(code).or_default() += 1;
    }

    /// Either.
    pub(crate) fn count(&mut self, result: Result<Duration, Failure>) {
        match result {
            Ok(latency) => self.answered(latency),
            Err(failure) => self.failed(&failure),
        }
    }

    pub(crate) fn answered_count(&self) -> u64 {
        self.latency.len()
    }

    pub(crate) fn errors_count(&self) -> u64 {
        self.errors.values().sum()
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.latency
            .add(&other.latency)
            .expect("all have the same bounds");
        self.begun += other.begun;
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        for (code, words) in &other.words {
            self.words.entry(code.clone()).or_insert_with(|| words.clone());
        }
    }

    /// A quantile, in microseconds; nothing where nothing was counted.
    pub(crate) fn quantile_us(&self, quantile: f64) -> Option<f64> {
        (!self.latency.is_empty()).then(|| micros(self.latency.value_at_quantile(quantile)))
    }

    /// The latencies as a curve: quantile and microseconds, dense towards the end.
    pub(crate) fn curve(&self) -> Vec<(f64, f64)> {
        if self.latency.is_empty() {
            return Vec::new();
        }
        let total = self.latency.len() as f64;
        let mut curve: Vec<(f64, f64)> = quantiles()
            .into_iter()
            .filter(|quantile| (1.0 - quantile) * total >= 1.0)
            .map(|quantile| (quantile, micros(self.latency.value_at_quantile(quantile))))
            .collect();
        curve.push((1.0, micros(self.latency.max())));
        curve
    }
}

fn quantiles() -> Vec<f64> {
    let mut quantiles: Vec<f64> = (1..=90).map(|percent| f64::from(percent) / 100.0).collect();
    for nines in 1..=5 {
        for step in 1..10 {
            quantiles.push(1.0 - (1.0 - f64::from(step) / 10.0) * 0.1_f64.powi(nines));
        }
    }
    quantiles.sort_by(f64::total_cmp);
    quantiles
}

fn micros(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(latencies_ms: impl IntoIterator<Item = u64>) -> Tally {
        let mut tally = Tally::new();
        for ms in latencies_ms {
            tally.answered(Duration::from_millis(ms));
        }
        tally
    }

    #[test]
    fn added_tallies_are_as_if_counted_together() {
        let mut sum = tally(1..=50);
        let mut other = tally(51..=100);
        other.failed(&Failure::Late);
        sum.add(&other);
        sum.failed(&Failure::Late);
        let together = tally(1..=100);
        assert_eq!(sum.latency, together.latency);
        assert_eq!(sum.curve(), together.curve());
        assert_eq!(sum.begun, sum.answered_count() + sum.errors_count());
        assert_eq!(sum.errors, BTreeMap::from([("late".to_owned(), 2)]));
    }

    #[test]
    fn quantiles_are_those_of_what_was_counted() {
        let counted = tally(1..=1000);
        for (quantile, ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = counted.quantile_us(quantile).unwrap() / 1000.0;
            assert!((found - ms).abs() <= ms * 0.002, "{quantile}: {found}");
        }
        assert_eq!(Tally::new().quantile_us(0.5), None);
        assert!(counted.curve().is_sorted());
    }
}
