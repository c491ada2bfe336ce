//! A wake as a waterfall: what a client waits for, one after another.

use std::fmt::Write as _;

use super::{
    axis::{self, Axis},
    close, colour, escape, open,
};
use crate::{
    results::Results,
    value::{self, number},
};

const LEFT: f64 = 112.0;
const RIGHT: f64 = 880.0;
const ROW: f64 = 22.0;

pub(super) fn section(out: &mut String, results: &Results) {
    let wakes: Vec<_> = results
        .measurements
        .iter()
        .filter(|m| !m.phases.is_empty())
        .collect();
    if wakes.is_empty() {
        return;
    }
    open(
        out,
        "Phases of a wake",
        "Medians, one below another, for one client that comes to a sleeping compute; below it a server's own start.",
    );
    let total = |phases: &[(String, f64)]| phases.iter().map(|(_, ms)| ms).sum::<f64>();
    let most = wakes.iter().map(|m| total(&m.phases)).fold(0.0, f64::max);
    for measurement in wakes {
        let took = measurement
            .median(value::TOOK)
            .unwrap_or_else(|| total(&measurement.phases));
        let _ = write!(
            out,
            "<h3>{} <small>median {} ms to the first answer</small></h3>",
            escape(&measurement.target),
            number(took)
        );
        let bottom = ROW * measurement.phases.len() as f64 + 6.0;
        let x = Axis::linear(most, LEFT, RIGHT);
        let _ = write!(out, "<svg viewBox=\"0 0 960 {:.0}\" role=\"img\">", bottom + 24.0);
        axis::horizontal(out, &x, (0.0, bottom), "", |ms| format!("{} ms", number(ms)));
        let mut at = 0.0;
        for (row, (phase, ms)) in measurement.phases.iter().enumerate() {
            let y = ROW * row as f64 + 4.0;
            let _ = write!(
                out,
                "<text class=\"ink\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text><rect x=\"{:.1}\" \
                 y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" rx=\"2\" fill=\"{}\"/><text class=\"strong\" \
                 x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 10.0,
                y + 12.5,
                escape(phase),
                x.at(at),
                (x.at(at + ms) - x.at(at)).max(1.5),
                ROW - 6.0,
                colour(results, &measurement.target),
                x.at(at + ms) + 6.0,
                y + 12.5,
                number(*ms)
            );
            at += ms;
        }
        out.push_str("</svg>");
    }
    close(out);
}
