//! Storms: who is held when, when the server was started and ready, and when each client had its answer.

use std::fmt::Write as _;

use super::{
    axis::{self, Axis},
    close, escape, open,
};
use crate::{
    results::{Results, Storm},
    value::{self, number},
};

const LEFT: f64 = 62.0;
const RIGHT: f64 = 940.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 210.0;

pub(super) fn section(out: &mut String, results: &Results) {
    let storms: Vec<_> = results
        .measurements
        .iter()
        .filter_map(|m| Some((m, m.storm.as_ref()?)))
        .collect();
    if storms.is_empty() {
        return;
    }
    open(
        out,
        "Storms",
        "Many clients at once on a sleeping compute. The area is how many wait for their first answer, each dot one \
         client's answer; TLS and login of all of them are inside.",
    );
    for (measurement, storm) in storms {
        let starts = measurement.median(value::STARTS).unwrap_or(0.0);
        let _ = write!(
            out,
            "<h3>{}: {} <small>{} start{} · {} answered · {} failed</small></h3>",
            escape(&measurement.target),
            escape(&measurement.case),
            number(starts),
            if starts == 1.0 { "" } else { "s" },
            measurement.answered,
            measurement.errors.values().sum::<u64>()
        );
        timeline(out, storm);
    }
    close(out);
}

fn timeline(out: &mut String, storm: &Storm) {
    let answers = || storm.clients.iter().map(|(_, answered)| *answered);
    let marks = || storm.marks.iter().map(|(_, at)| *at);
    let x = Axis::linear(answers().chain(marks()).fold(0.0, f64::max), LEFT, RIGHT);
    let y = Axis::linear(storm.clients.len() as f64, BOTTOM, TOP);
    let _ = write!(out, "<svg viewBox=\"0 0 960 236\" role=\"img\">");
    axis::vertical(out, &y, (LEFT, RIGHT), number);
    axis::horizontal(out, &x, (TOP, BOTTOM), "", |ms| format!("{} ms", number(ms)));
    let mut path = format!("M{LEFT} {BOTTOM}");
    let mut held = 0.0;
    for (at, step) in steps(storm) {
        let _ = write!(path, "L{:.1} {:.1}", x.at(at), y.at(held));
        held += step;
        let _ = write!(path, "L{:.1} {:.1}", x.at(at), y.at(held));
    }
    let _ = write!(
        out,
        "<path d=\"{path}Z\" fill=\"var(--subject)\" fill-opacity=\".18\" stroke=\"var(--subject)\"/>"
    );
    dots(out, storm, &x, &y);
    for (what, at) in &storm.marks {
        let x = x.at(*at);
        let _ = write!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{BOTTOM}\" stroke=\"var(--baseline)\" \
             stroke-width=\"1.5\"/><text class=\"strong\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"start\">{} \
             {:.0} ms</text>",
            TOP - 16.0,
            x + 5.0,
            TOP - 8.0,
            escape(what),
            at
        );
    }
    out.push_str("</svg>");
}

/// Moments, and how many more (or fewer) are held from then on.
fn steps(storm: &Storm) -> Vec<(f64, f64)> {
    let mut steps: Vec<(f64, f64)> = storm
        .clients
        .iter()
        .flat_map(|(came, answered)| [(*came, 1.0), (*answered, -1.0)])
        .collect();
    steps.sort_by(|a, b| a.0.total_cmp(&b.0));
    steps
}

/// In the order of their answers, from below.
fn dots(out: &mut String, storm: &Storm, x: &Axis, y: &Axis) {
    let mut answers: Vec<f64> = storm.clients.iter().map(|(_, answered)| *answered).collect();
    answers.sort_by(f64::total_cmp);
    let radius = if answers.len() > 200 { 1.1 } else { 2.6 };
    out.push_str("<g fill=\"var(--subject)\">");
    for (index, answered) in answers.iter().enumerate() {
        let _ = write!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius}\"/>",
            x.at(*answered),
            y.at(index as f64 + 0.5)
        );
    }
    out.push_str("</g>");
}
