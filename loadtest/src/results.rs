//! What a run has found, as it is written and read again: JSON for programs, `.hlog` for HdrHistogram's tools.

use std::{
    collections::BTreeMap,
    fs, io,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hdrhistogram::{
    Histogram,
    serialization::{
        V2DeflateSerializer,
        interval_log::{IntervalLogWriterBuilder, Tag},
    },
};
use serde::{Deserialize, Serialize};

use crate::{
    machine::Machine,
    rounds::Round,
    tally::Tally,
    target::{Part, Target},
    value,
};

/// Version of the form of the file.
const FORM: u32 = 1;

/// A run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) form: u32,
    /// Seconds since 1970.
    pub(crate) began: u64,
    pub(crate) machine: Machine,
    pub(crate) targets: Vec<TargetShown>,
    /// What a reader must know to judge the figures.
    pub(crate) notes: Vec<String>,
    pub(crate) measurements: Vec<Measurement>,
}

/// What a report says of a target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TargetShown {
    pub(crate) name: String,
    pub(crate) part: Part,
    pub(crate) version: String,
    pub(crate) configuration: String,
}

/// One scenario's case at one target.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Measurement {
    pub(crate) scenario: String,
    pub(crate) case: String,
    pub(crate) target: String,
    /// One number per round, by key.
    pub(crate) samples: BTreeMap<String, Vec<f64>>,
    pub(crate) answered: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    /// The first error of each kind in its own words.
    pub(crate) words: BTreeMap<String, String>,
    /// Quantiles and microseconds, over all rounds.
    pub(crate) curve: Vec<(f64, f64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) storm: Option<Storm>,
    /// Median milliseconds of each phase, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) phases: Vec<(String, f64)>,
    #[serde(skip)]
    pub(crate) histogram: Option<Histogram<u64>>,
}

/// When things happened in a storm, in milliseconds since its begin.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Storm {
    /// Begin and answer of each client that was answered.
    pub(crate) clients: Vec<(f64, f64)>,
    /// Marks: what, when.
    pub(crate) marks: Vec<(String, f64)>,
}

impl Measurement {
    pub(crate) fn new(scenario: &str, case: &str, target: &str) -> Self {
        Self {
            scenario: scenario.into(),
            case: case.into(),
            target: target.into(),
            samples: BTreeMap::new(),
            answered: 0,
            errors: BTreeMap::new(),
            words: BTreeMap::new(),
            curve: Vec::new(),
            storm: None,
            phases: Vec::new(),
            histogram: None,
        }
    }

    /// Adds a number of one round.
    pub(crate) fn sample(&mut self, key: &str, number: f64) {
        self.samples.entry(key.into()).or_default().push(number);
    }

    /// Adds counts and latencies.
    pub(crate) fn count(&mut self, tally: &Tally) {
        self.answered += tally.answered_count();
        for (code, count) in &tally.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        for (code, words) in &tally.words {
            self.words.entry(code.clone()).or_insert_with(|| words.clone());
        }
    }

    /// Takes quantiles of everything over all rounds.
    pub(crate) fn keep_curve(&mut self, all: &Tally) {
        self.curve = all.curve();
        self.histogram = Some(all.latency.clone());
    }

    /// Adds a window: CPU, rate, latencies. A window without an answer has no numbers, only errors.
    pub(crate) fn add_round(&mut self, round: &Round) {
        self.count(&round.tally);
        if round.answers == 0 {
            return;
        }
        let answers = round.answers as f64;
        if let Some(cpu) = round.cpu {
            self.sample(value::CPU, cpu.as_secs_f64() * 1e6 / answers);
        }
        self.sample(value::RATE, answers / round.elapsed.as_secs_f64());
        self.add_latency(&round.tally);
    }

    /// Adds the latencies of one round.
    pub(crate) fn add_latency(&mut self, tally: &Tally) {
        let (Some(p50), Some(p99)) = (tally.quantile_us(0.5), tally.quantile_us(0.99)) else {
            return;
        };
        let longest = tally.quantile_us(1.0).unwrap_or(p99);
        let mean = tally.latency.mean() / 1000.0;
        for (key, number) in [
            (value::P50, p50),
            (value::P99, p99),
            (value::MEAN, mean),
            (value::LONGEST, longest),
            (value::UNFAIRNESS, longest / mean),
        ] {
            self.sample(key, number);
        }
    }

    /// Whether it shows nothing but errors.
    pub(crate) fn is_failed(&self) -> bool {
        self.answered == 0 && self.samples.is_empty()
    }

    /// The median over rounds.
    pub(crate) fn median(&self, key: &str) -> Option<f64> {
        median(self.samples.get(key)?)
    }
}

/// The middle of some numbers.
pub(crate) fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

impl Results {
    pub(crate) fn new(targets: &[Target], machine: Machine) -> Self {
        let shown = |target: &Target| TargetShown {
            name: target.name.clone(),
            part: target.part,
            version: target.version.clone(),
            configuration: target.configuration.clone(),
        };
        Self {
            form: FORM,
            began: seconds_since_1970(),
            machine,
            targets: targets.iter().map(shown).collect(),
            notes: Vec::new(),
            measurements: Vec::new(),
        }
    }

    /// # Errors
    /// It cannot be read, or is of another form.
    pub(crate) fn read(file: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
        let text = fs::read_to_string(file).map_err(|error| wrong(&error))?;
        let results: Self = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
        match results.form {
            FORM => Ok(results),
            other => Err(wrong(&format!(
                "form {other}, but this program reads form {FORM}"
            ))),
        }
    }

    /// The name of the target that plays this part.
    pub(crate) fn name_of(&self, part: Part) -> Option<&str> {
        let target = self.targets.iter().find(|target| target.part == part)?;
        Some(&target.name)
    }

    pub(crate) fn find(&self, scenario: &str, case: &str, target: &str) -> Option<&Measurement> {
        self.measurements
            .iter()
            .find(|m| m.scenario == scenario && m.case == case && m.target == target)
    }

    /// The median of the ratios of same rounds of two targets.
    pub(crate) fn ratio(&self, measurement: &Measurement, key: &str, to: &str) -> Option<f64> {
        median(&self.ratios(measurement, key, to))
    }

    /// The ratios of same rounds of two targets.
    pub(crate) fn ratios(&self, measurement: &Measurement, key: &str, to: &str) -> Vec<f64> {
        let other = self.find(&measurement.scenario, &measurement.case, to);
        let samples = |m: &Measurement| m.samples.get(key).cloned().unwrap_or_default();
        let theirs = other.map(samples).unwrap_or_default();
        samples(measurement)
            .into_iter()
            .zip(theirs)
            .filter(|(_, theirs)| *theirs > 0.0)
            .map(|(ours, theirs)| ours / theirs)
            .collect()
    }

    /// Writes `results.json` and `results.hlog` into a folder.
    ///
    /// # Errors
    /// The folder takes nothing.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)?;
        let text = serde_json::to_string(self).map_err(io::Error::other)?;
        fs::write(folder.join("results.json"), text)?;
        let mut log = Vec::new();
        self.write_log(&mut log).map_err(io::Error::other)?;
        fs::write(folder.join("results.hlog"), log)
    }

    fn write_log(&self, out: &mut Vec<u8>) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Debug| format!("{error:?}");
        let mut serializer = V2DeflateSerializer::new();
        let mut writer = IntervalLogWriterBuilder::new()
            .add_comment("pgwake-loadtest; nanoseconds; the tag says scenario, case and target")
            .with_start_time(UNIX_EPOCH + Duration::from_secs(self.began))
            .begin_log_with(out, &mut serializer)
            .map_err(|error| text(&error))?;
        for measurement in &self.measurements {
            let Some(histogram) = &measurement.histogram else {
                continue;
            };
            let Measurement {
                scenario,
                case,
                target,
                ..
            } = measurement;
            let tag = format!("{scenario}/{case}/{target}").replace([',', ' ', '\n', '\r'], "_");
            writer
                .write_histogram(histogram, Duration::ZERO, Duration::from_secs(1), Tag::new(&tag))
                .map_err(|error| text(&error))?;
        }
        Ok(())
    }
}

fn seconds_since_1970() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}
