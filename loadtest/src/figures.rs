//! The targets that pgwake has set itself, beside what a run has measured.
//!
//! What a run did not measure stands here as not measured, and what was missed as missed.

use std::fmt::Write as _;

use crate::{
    results::{Results, median},
    target::Part,
    value::{self, number},
};

/// One target.
#[derive(Debug)]
pub(crate) struct Figure {
    pub(crate) what: &'static str,
    pub(crate) target: String,
    /// With its unit.
    pub(crate) measured: Option<String>,
    pub(crate) is_met: bool,
}

/// How a figure is found in results. Names of cases begin and end so.
#[derive(Debug, Clone, Copy)]
enum How {
    /// Relative to the baseline, in the same rounds.
    Ratio(&'static str),
    /// By itself.
    Absolute(&'static str),
    /// Wakes beside direct starts.
    Wake,
}

struct Wanted {
    what: &'static str,
    scenario: &'static str,
    begins: &'static str,
    ends: &'static str,
    how: How,
    limit: f64,
    is_floor: bool,
    unit: &'static str,
}

const fn at_most(
    what: &'static str,
    (scenario, begins, ends): (&'static str, &'static str, &'static str),
    how: How,
    limit: f64,
    unit: &'static str,
) -> Wanted {
    Wanted {
        what,
        scenario,
        begins,
        ends,
        how,
        limit,
        is_floor: false,
        unit,
    }
}

const SIMPLE: &str = "pgbench select simple, plain";
const SIMPLE_TLS: &str = "pgbench select simple, tls";
const PREPARED: &str = "pgbench select prepared, plain";

const WANTED: &[Wanted] = &[
    at_most(
        "CPU per transaction, simple, 64 clients",
        ("query", SIMPLE, " 64 clients"),
        How::Ratio(value::CPU),
        1.0,
        "",
    ),
    at_most(
        "CPU per transaction, simple, 16 clients",
        ("query", SIMPLE, " 16 clients"),
        How::Ratio(value::CPU),
        1.1,
        "",
    ),
    at_most(
        "CPU per transaction, prepared, 16 clients",
        ("query", PREPARED, " 16 clients"),
        How::Ratio(value::CPU),
        0.85,
        "",
    ),
    at_most(
        "CPU per transaction, simple over TLS, 64 clients",
        ("query", SIMPLE_TLS, " 64 clients"),
        How::Ratio(value::CPU),
        0.9,
        "",
    ),
    Wanted {
        is_floor: true,
        ..at_most(
            "transactions per second, 64 clients",
            ("query", SIMPLE, " 64 clients"),
            How::Ratio(value::RATE),
            1.15,
            "",
        )
    },
    at_most(
        "p99, 256 clients on 16 sessions",
        ("query", SIMPLE, " 256 clients"),
        How::Ratio(value::P99),
        1.0,
        "",
    ),
    at_most(
        "longest / mean wait, 256 clients on 16 sessions",
        ("query", SIMPLE, " 256 clients"),
        How::Ratio(value::UNFAIRNESS),
        1.0,
        "",
    ),
    at_most(
        "CPU per TLS and SCRAM connect",
        ("connect", "tls", "at a time"),
        How::Ratio(value::CPU),
        0.5,
        "",
    ),
    at_most(
        "memory per idle client, TLS",
        ("idle", "tls", " 1000 clients"),
        How::Absolute(value::MEMORY),
        12.0,
        " KiB",
    ),
    at_most(
        "memory per idle client, plain",
        ("idle", "plain", " 1000 clients"),
        How::Absolute(value::MEMORY),
        4.0,
        " KiB",
    ),
    at_most(
        "CPU seconds per GB, plain",
        ("bulk", "select, plain", ""),
        How::Ratio(value::CPU_PER_GB),
        0.6,
        "",
    ),
    at_most(
        "CPU seconds per GB, TLS",
        ("bulk", "select, tls", ""),
        How::Ratio(value::CPU_PER_GB),
        0.65,
        "",
    ),
    at_most(
        "p50 at 1 client",
        ("query", SIMPLE, " 1 clients"),
        How::Ratio(value::P50),
        1.2,
        "",
    ),
    at_most(
        "wake to first answer, over a direct start",
        ("wake", "one client", ""),
        How::Wake,
        3.0,
        " ms",
    ),
    at_most(
        "starts caused by 1,000 clients at once",
        ("storm", "1000 clients", ""),
        How::Absolute(value::STARTS),
        1.0,
        "",
    ),
    at_most(
        "p99 beside a loud tenant / alone",
        ("neighbour", "", ""),
        How::Absolute(value::P99_RATIO),
        1.2,
        "",
    ),
];

/// What a run says of one target: its median, and from the least to the most of all rounds.
struct Measured {
    median: f64,
    range: Option<(f64, f64)>,
}

impl Measured {
    fn of(rounds: &[f64]) -> Option<Self> {
        let least = rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Some(Self {
            median: median(rounds)?,
            range: (least < most).then_some((least, most)),
        })
    }

    fn text(&self, unit: &str) -> String {
        let middle = number(self.median);
        match self.range {
            None => format!("{middle}{unit}"),
            Some((least, most)) => format!("{middle}{unit} ({}–{})", number(least), number(most)),
        }
    }
}

impl Wanted {
    fn measured(&self, results: &Results) -> Option<Measured> {
        let subject = results.name_of(Part::Subject)?;
        let found = results.measurements.iter().rfind(|m| {
            m.scenario == self.scenario
                && m.target == subject
                && m.case.starts_with(self.begins)
                && m.case.ends_with(self.ends)
        })?;
        match self.how {
            How::Ratio(key) => Measured::of(&results.ratios(found, key, results.name_of(Part::Baseline)?)),
            How::Absolute(key) => Measured::of(found.samples.get(key)?),
            How::Wake => {
                let direct = results.find(self.scenario, &found.case, results.name_of(Part::Direct)?)?;
                Some(Measured {
                    median: found.median(value::TOOK)? - direct.median(value::TOOK)?,
                    range: None,
                })
            }
        }
    }
}

/// All of them.
pub(crate) fn all(results: &Results) -> Vec<Figure> {
    let figure = |wanted: &Wanted| {
        let measured = wanted.measured(results);
        let sign = if wanted.is_floor { '≥' } else { '≤' };
        let is_met = |measured: &Measured| match wanted.is_floor {
            true => measured.median >= wanted.limit,
            false => measured.median <= wanted.limit,
        };
        Figure {
            what: wanted.what,
            target: format!("{sign} {}{}", number(wanted.limit), wanted.unit),
            is_met: measured.as_ref().is_some_and(is_met),
            measured: measured.map(|measured| measured.text(wanted.unit)),
        }
    };
    WANTED.iter().map(figure).collect()
}

impl Figure {
    /// `met`, `missed` or `not measured`.
    pub(crate) fn verdict(&self) -> &'static str {
        match (&self.measured, self.is_met) {
            (None, _) => "not measured",
            (Some(_), true) => "met",
            (Some(_), false) => "missed",
        }
    }
}

/// As a table of Markdown.
pub(crate) fn markdown(results: &Results) -> String {
    let mut out = String::from("| | target | measured | |\n|---|---|---|---|\n");
    for figure in all(results) {
        let measured = figure.measured.as_deref().unwrap_or("–");
        let _ = writeln!(
            out,
            "| {} | {} | {measured} | {} |",
            figure.what,
            figure.target,
            figure.verdict()
        );
    }
    out
}
