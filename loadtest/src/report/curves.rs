//! Latency as curves: the share of connects that are answered within a time, and the spectrum of percentiles.

use std::fmt::Write as _;

use super::{
    axis::{self, Axis, time},
    cases, close, colour, escape, measurements, open,
};
use crate::{
    results::{Measurement, Results},
    target::Part,
};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 330.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 830.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 280.0;

struct Curve<'a> {
    measurement: &'a Measurement,
    name: String,
    colour: &'static str,
    dash: &'static str,
}

/// From the first byte to the first answer: warm, out of sleep, and a server's own start.
pub(super) fn connects(out: &mut String, results: &Results) {
    let mut curves = Vec::new();
    let warm = cases(results, "connect")
        .into_iter()
        .find(|case| case.starts_with("tls"));
    for measurement in warm
        .map(|case| measurements(results, "connect", case))
        .unwrap_or_default()
    {
        let name = format!("{}, warm", measurement.target);
        curves.push(Curve {
            measurement,
            name,
            colour: colour(results, &measurement.target),
            dash: "",
        });
    }
    for measurement in measurements(results, "wake", "one client") {
        let is_direct = results.name_of(Part::Direct) == Some(&*measurement.target);
        let what = if is_direct {
            "Postgres' own start"
        } else {
            "out of sleep"
        };
        let name = match is_direct {
            true => what.to_owned(),
            false => format!("{}, {what}", measurement.target),
        };
        curves.push(Curve {
            measurement,
            name,
            colour: colour(results, &measurement.target),
            dash: "7 4",
        });
    }
    curves.retain(|curve| !curve.measurement.curve.is_empty());
    if curves.is_empty() {
        return;
    }
    open(
        out,
        "From connect to first answer",
        "Share of connects that have their first answer within a time: TCP, TLS, SCRAM and one statement.",
    );
    let y = Axis::linear(1.0, BOTTOM, TOP);
    chart(
        out,
        &curves,
        &y,
        |quantile| y.at(quantile),
        |share| format!("{:.0} %", share * 100.0),
    );
    close(out);
}

/// A chart with time to the right; `place` says how high a quantile stands.
fn chart(
    out: &mut String,
    curves: &[Curve],
    y: &Axis,
    place: impl Fn(f64) -> f64,
    label: impl Fn(f64) -> String,
) {
    let values = || {
        curves
            .iter()
            .flat_map(|curve| curve.measurement.curve.iter().map(|(_, us)| *us))
    };
    let x = Axis::log(
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
        LEFT,
        RIGHT,
    );
    svg(out);
    axis::vertical(out, y, (LEFT, RIGHT), label);
    axis::horizontal(out, &x, (TOP, BOTTOM), "", time);
    for curve in curves {
        let mut path = String::new();
        let mut before = place(0.0);
        for (index, (quantile, us)) in curve.measurement.curve.iter().enumerate() {
            // Steps: a share is reached at its time, not on the way there.
            let (x, y) = (x.at(*us), place(*quantile));
            let word = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{word}{x:.1} {before:.1}L{x:.1} {y:.1}");
            before = y;
        }
        line(out, &path, curve);
    }
    let ends = curves.iter().filter_map(|curve| {
        let median = curve
            .measurement
            .curve
            .iter()
            .find(|(quantile, _)| *quantile >= 0.5)?;
        Some((curve, format!("{} {}", curve.name, time(median.1))))
    });
    legend(out, ends.collect());
    out.push_str("</svg>");
}

fn svg(out: &mut String) {
    let _ = write!(out, "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">");
}

fn line(out: &mut String, path: &str, curve: &Curve) {
    let _ = write!(
        out,
        "<path d=\"{path}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\" \
         stroke-dasharray=\"{}\"><title>{}</title></path>",
        curve.colour,
        curve.dash,
        escape(&curve.name)
    );
}

/// One row below the chart, each entry with its median.
fn legend(out: &mut String, entries: Vec<(&Curve, String)>) {
    let step = (RIGHT + 100.0 - LEFT) / entries.len().max(1) as f64;
    for (index, (curve, text)) in entries.into_iter().enumerate() {
        let x = LEFT + step * index as f64;
        let _ = write!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"{}\" stroke-width=\"3\" \
             stroke-dasharray=\"{}\"/><text class=\"ink\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            x + 22.0,
            curve.colour,
            curve.dash,
            x + 28.0,
            HEIGHT - 6.0,
            escape(&text),
            y = HEIGHT - 10.0,
        );
    }
}

/// Percentiles of queries, from the middle out to the slowest, one chart per case.
pub(super) fn spectrum(out: &mut String, results: &Results) {
    let shown: Vec<&str> = cases(results, "query");
    if shown.is_empty() {
        return;
    }
    open(
        out,
        "Percentile spectrum",
        "Latency from the middle to the slowest request. Each step to the right is a tenth of the requests before it.",
    );
    out.push_str("<div class=\"pair\">");
    for case in shown {
        let found = measurements(results, "query", case);
        let curves: Vec<Curve> = found
            .into_iter()
            .filter(|measurement| !measurement.curve.is_empty())
            .map(|measurement| Curve {
                measurement,
                name: measurement.target.clone(),
                colour: colour(results, &measurement.target),
                dash: "",
            })
            .collect();
        if curves.is_empty() {
            continue;
        }
        let _ = write!(out, "<div><h3>{}</h3>", escape(case));
        percentiles(out, &curves);
        out.push_str("</div>");
    }
    out.push_str("</div>");
    close(out);
}

fn percentiles(out: &mut String, curves: &[Curve]) {
    let (right, bottom) = (440.0, 200.0);
    let values = || {
        curves
            .iter()
            .flat_map(|curve| curve.measurement.curve.iter().map(|(_, us)| *us))
    };
    let y = Axis::log(
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
        bottom,
        TOP,
    );
    // One step is a factor of ten of those that are slower: 0 %, 90 %, 99 %, …
    let last = 5.0;
    let x = |quantile: f64| {
        let steps = (-(1.0 - quantile).max(1e-9).log10()).min(last);
        LEFT + steps / last * (right - LEFT)
    };
    let _ = write!(out, "<svg viewBox=\"0 0 450 226\" role=\"img\">");
    axis::vertical(out, &y, (LEFT, right), time);
    for (quantile, label) in [
        (0.0, "0 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
        (0.99999, "max"),
    ] {
        let _ = write!(
            out,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{x:.1}\" y=\"218\" text-anchor=\"middle\">{label}</text>",
            x = x(quantile)
        );
    }
    for curve in curves {
        let mut path = String::new();
        for (index, (quantile, us)) in curve.measurement.curve.iter().enumerate() {
            let word = if index == 0 { 'M' } else { 'L' };
            let _ = write!(path, "{word}{:.1} {:.1}", x(*quantile), y.at(*us));
        }
        line(out, &path, curve);
    }
    out.push_str("</svg>");
}
