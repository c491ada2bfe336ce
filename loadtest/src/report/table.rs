//! Everything in numbers, and what it was measured on.

use std::fmt::Write as _;

use super::{cases, close, escape, measurements, open};
use crate::{
    results::{Measurement, Results},
    target::Part,
    value::{VALUES, Value, number},
};

/// All measurements: medians over rounds, and ratios to the baseline of same rounds.
pub(super) fn section(out: &mut String, results: &Results) {
    open(
        out,
        "Everything",
        "Medians over rounds; in small print the median ratio to the baseline in the same rounds.",
    );
    let mut scenarios: Vec<&str> = Vec::new();
    for measurement in &results.measurements {
        if !scenarios.contains(&measurement.scenario.as_str()) {
            scenarios.push(&measurement.scenario);
        }
    }
    for scenario in scenarios {
        scenario_table(out, results, scenario);
    }
    close(out);
}

fn scenario_table(out: &mut String, results: &Results, scenario: &str) {
    let all: Vec<&Measurement> = results
        .measurements
        .iter()
        .filter(|m| m.scenario == scenario)
        .collect();
    let columns: Vec<&Value> = VALUES
        .iter()
        .filter(|value| all.iter().any(|m| m.samples.contains_key(value.key)))
        .collect();
    let _ = write!(
        out,
        "<h3>{scenario}</h3><div class=\"scroll\"><table><tr><th></th>"
    );
    for value in &columns {
        let unit = if value.unit.is_empty() {
            String::new()
        } else {
            format!(", {}", value.unit)
        };
        let _ = write!(out, "<th>{}{unit}</th>", value.title);
    }
    out.push_str("<th>answered</th><th>errors</th></tr>");
    for case in cases(results, scenario) {
        let _ = write!(
            out,
            "<tr class=\"case\"><td colspan=\"{}\">{}</td></tr>",
            columns.len() + 3,
            escape(case)
        );
        for measurement in measurements(results, scenario, case) {
            row(out, results, measurement, &columns);
        }
    }
    out.push_str("</table></div>");
}

fn row(out: &mut String, results: &Results, measurement: &Measurement, columns: &[&Value]) {
    let _ = write!(out, "<tr><td>{}</td>", escape(&measurement.target));
    let baseline = results
        .name_of(Part::Baseline)
        .filter(|name| *name != measurement.target);
    for value in columns {
        let Some(median) = measurement.median(value.key) else {
            out.push_str("<td></td>");
            continue;
        };
        let ratio = baseline.and_then(|baseline| results.ratio(measurement, value.key, baseline));
        let ratio = ratio.map(|ratio| format!(" <small>×{}</small>", number(ratio)));
        let _ = write!(out, "<td>{}{}</td>", number(median), ratio.unwrap_or_default());
    }
    let _ = write!(
        out,
        "<td>{}</td>{}</tr>",
        number(measurement.answered as f64),
        errors(measurement)
    );
}

fn errors(measurement: &Measurement) -> String {
    let counts: Vec<String> = measurement
        .errors
        .iter()
        .map(|(code, count)| format!("{code} × {count}"))
        .collect();
    let words: Vec<&str> = measurement.words.values().map(String::as_str).collect();
    let failed = if measurement.is_failed() { "failed: " } else { "" };
    format!(
        "<td class=\"{}\" title=\"{}\">{failed}{}</td>",
        if counts.is_empty() { "" } else { "failed" },
        escape(&words.join("\n")),
        escape(&counts.join(", "))
    )
}

/// Versions and configurations.
pub(super) fn setup(out: &mut String, results: &Results) {
    open(
        out,
        "What was measured",
        "Versions and configurations, as they ran.",
    );
    for target in &results.targets {
        let _ = write!(
            out,
            "<details><summary>{} <small>{}</small></summary><pre>{}</pre></details>",
            escape(&target.name),
            escape(&target.version),
            escape(&target.configuration)
        );
    }
    let _ = write!(
        out,
        "<p><small>{} measurements.</small></p>",
        results.measurements.len()
    );
    close(out);
}
