//! What changed from one run to another, beyond noise.
//!
//! Two runs were made at different times, and a machine that is shared is never twice the same: so where both runs
//! have a baseline, ratios to it are compared, round by round, and the numbers themselves only where there is none.
//! A change counts where the two sets of rounds do not overlap at all and their medians are more than 5 % apart.

use std::{collections::BTreeSet, fmt::Write as _};

use crate::{
    results::{Measurement, Results, median},
    target::Part,
    value::{self, Better, number},
};

/// Smaller changes are not told, however sure.
const APART: f64 = 0.05;
/// With fewer rounds nothing is beyond noise.
const ROUNDS_MIN: usize = 3;

/// How a value has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Better,
    Worse,
    Noise,
}

/// A table of what changed; `true`: nothing became worse.
pub(crate) fn run(old: &Results, new: &Results) -> (String, bool) {
    let mut lines = Vec::new();
    let mut same = 0;
    let mut is_good = true;
    let mut unmatched = BTreeSet::new();
    for measurement in &new.measurements {
        let Measurement {
            scenario,
            case,
            target,
            ..
        } = measurement;
        let Some(before) = old.find(scenario, case, target) else {
            unmatched.insert(format!("{scenario}: {case}: {target}"));
            continue;
        };
        if measurement.is_failed() && !before.is_failed() {
            is_good = false;
            lines.push(format!(
                "  FAILS    {scenario}: {case}: {target}: {:?}",
                measurement.errors
            ));
        }
        for key in measurement.samples.keys() {
            let (was, is, relative) = samples(old, before, new, measurement, key);
            match change(&was, &is, value::of(key).better) {
                Change::Noise => same += 1,
                change => {
                    is_good &= change == Change::Better;
                    lines.push(line(change, measurement, key, (&was, &is, relative)));
                }
            }
        }
    }
    let mut out = String::new();
    for line in &lines {
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "{} changed beyond noise, {same} did not.", lines.len());
    if !unmatched.is_empty() {
        let _ = writeln!(out, "{} are in the new run alone.", unmatched.len());
    }
    (out, is_good)
}

/// Both sets of rounds, and whether they are relative to the baseline.
fn samples(
    old: &Results,
    before: &Measurement,
    new: &Results,
    after: &Measurement,
    key: &str,
) -> (Vec<f64>, Vec<f64>, bool) {
    if let (Some(theirs), Some(ours)) = (old.name_of(Part::Baseline), new.name_of(Part::Baseline))
        && after.target != ours
    {
        let (was, is) = (old.ratios(before, key, theirs), new.ratios(after, key, ours));
        if !was.is_empty() && !is.is_empty() {
            return (was, is, true);
        }
    }
    let of = |m: &Measurement| m.samples.get(key).cloned().unwrap_or_default();
    (of(before), of(after), false)
}

fn change(was: &[f64], is: &[f64], better: Better) -> Change {
    let (Some(before), Some(after)) = (median(was), median(is)) else {
        return Change::Noise;
    };
    let range = |numbers: &[f64]| {
        let least = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let most = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    };
    let ((was_least, was_most), (is_least, is_most)) = (range(was), range(is));
    let overlap = is_least <= was_most && was_least <= is_most;
    let is_small = (after - before).abs() <= APART * before.abs();
    if overlap || is_small || was.len().min(is.len()) < ROUNDS_MIN {
        return Change::Noise;
    }
    match (better, after < before) {
        (Better::Neither, _) => Change::Noise,
        (Better::Less, true) | (Better::More, false) => Change::Better,
        _ => Change::Worse,
    }
}

fn line(
    change: Change,
    measurement: &Measurement,
    key: &str,
    (was, is, relative): (&[f64], &[f64], bool),
) -> String {
    let value = value::of(key);
    let word = if change == Change::Better {
        "better"
    } else {
        "WORSE "
    };
    let unit = if relative {
        " of the baseline's"
    } else {
        value.unit
    };
    let shown = |numbers| median(numbers).map(number).unwrap_or_default();
    format!(
        "  {word}   {}: {}: {}: {}: {} → {}{unit}",
        measurement.scenario,
        measurement.case,
        measurement.target,
        value.title,
        shown(was),
        shown(is)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_rounds_are_noise_and_separate_ones_are_not() {
        assert_eq!(
            change(&[10.0, 11.0, 12.0], &[11.5, 13.0, 14.0], Better::Less),
            Change::Noise
        );
        assert_eq!(
            change(&[10.0, 11.0, 12.0], &[13.0, 13.5, 14.0], Better::Less),
            Change::Worse
        );
        assert_eq!(
            change(&[10.0, 11.0, 12.0], &[7.0, 8.0, 9.0], Better::Less),
            Change::Better
        );
        assert_eq!(
            change(&[10.0, 11.0, 12.0], &[7.0, 8.0, 9.0], Better::More),
            Change::Worse
        );
        assert_eq!(
            change(&[100.0, 100.1, 100.2], &[101.0, 101.1, 101.2], Better::Less),
            Change::Noise
        );
        assert_eq!(change(&[10.0], &[20.0], Better::Less), Change::Noise);
    }
}
