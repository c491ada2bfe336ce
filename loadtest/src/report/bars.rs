//! Bars: CPU per transaction, memory per client, CPU per GB, and a quiet tenant's p99.

use std::fmt::Write as _;

use super::{cases, close, colour, escape, measurements, open};
use crate::{
    results::{Measurement, Results},
    value::{self, number},
};

const ROW: f64 = 19.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 360.0;

/// What each transaction and each client costs in the proxy.
pub(super) fn section(out: &mut String, results: &Results) {
    let costs = [value::CPU, value::CPU_PER_GB, value::MEMORY];
    if !results
        .measurements
        .iter()
        .any(|m| costs.iter().any(|key| m.samples.contains_key(*key)))
    {
        return;
    }
    open(
        out,
        "What it costs",
        "CPU time of the proxy's process per transaction, and its memory per client: the figures that others on the \
         machine disturb least. The thin line is from the least to the most of all rounds.",
    );
    out.push_str("<div class=\"pair\">");
    for (scenario, key) in [
        ("query", value::CPU),
        ("connect", value::CPU),
        ("bulk", value::CPU_PER_GB),
        ("idle", value::MEMORY),
        ("parked", value::MEMORY),
    ] {
        charts(out, results, scenario, key);
    }
    out.push_str("</div>");
    close(out);
}

/// The quiet tenant beside the loud one.
pub(super) fn neighbours(out: &mut String, results: &Results) {
    if cases(results, "neighbour").is_empty() {
        return;
    }
    open(
        out,
        "Beside a loud neighbour",
        "p99 of a tenant with few requests at an open pace: alone, and beside another that asks as much as it can.",
    );
    out.push_str("<div class=\"pair\">");
    charts(out, results, "neighbour", value::P99_ALONE);
    charts(out, results, "neighbour", value::P99);
    out.push_str("</div>");
    close(out);
}

fn charts(out: &mut String, results: &Results, scenario: &str, key: &str) {
    let all = || results.measurements.iter().filter(|m| m.scenario == scenario);
    // One scale for all cases of a scenario, so that bars of neighbouring charts can be compared.
    let most = all()
        .filter_map(|m| m.samples.get(key)?.iter().copied().reduce(f64::max))
        .fold(0.0, f64::max);
    for case in cases(results, scenario) {
        let found: Vec<&Measurement> = measurements(results, scenario, case)
            .into_iter()
            .filter(|m| m.samples.contains_key(key))
            .collect();
        if found.is_empty() {
            continue;
        }
        let value = value::of(key);
        let _ = write!(
            out,
            "<div><h3>{scenario}: {} <small>{}, {}</small></h3><svg viewBox=\"0 0 450 {}\" role=\"img\">",
            escape(case),
            value.title,
            value.unit,
            ROW * found.len() as f64 + 4.0
        );
        for (row, measurement) in found.into_iter().enumerate() {
            bar(out, results, measurement, (key, row, most));
        }
        out.push_str("</svg></div>");
    }
}

fn bar(out: &mut String, results: &Results, measurement: &Measurement, (key, row, most): (&str, usize, f64)) {
    let (Some(middle), Some(samples)) = (measurement.median(key), measurement.samples.get(key)) else {
        return;
    };
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = samples.iter().copied().fold(0.0, f64::max);
    let at = |number: f64| LEFT + (number / most.max(1e-9)).clamp(0.0, 1.0) * (RIGHT - LEFT);
    let y = ROW * row as f64 + 2.0;
    let name = escape(&measurement.target);
    let _ = write!(
        out,
        "<text class=\"ink\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>\
         <rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{}\"/>\
         <line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{mid:.1}\" y2=\"{mid:.1}\"/>\
         <text class=\"strong\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
        LEFT - 8.0,
        y + 11.5,
        at(middle) - LEFT,
        ROW - 4.0,
        colour(results, &measurement.target),
        at(least),
        at(greatest),
        at(greatest) + 6.0,
        y + 11.5,
        number(middle),
        mid = y + (ROW - 4.0) / 2.0,
    );
}
