//! One HTML file that shows a run: no script from elsewhere, no font, no picture; charts are SVG inside.
//!
//! It reads results and nothing else, so that a report can be made again at any time.

mod axis;
mod bars;
mod curves;
mod phases;
mod storm;
mod style;
mod table;

use std::fmt::Write as _;

use crate::{
    figures,
    results::{Measurement, Results},
    target::Part,
};

/// Colours by target: the subject, the baseline, the server itself, others.
fn colour(results: &Results, target: &str) -> &'static str {
    let part = results
        .targets
        .iter()
        .find(|shown| shown.name == target)
        .map(|shown| shown.part);
    match part {
        Some(Part::Subject) => "var(--subject)",
        Some(Part::Baseline) => "var(--baseline)",
        Some(Part::Direct) => "var(--direct)",
        None => "var(--other)",
    }
}

/// Text that may stand in HTML.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The whole page.
pub(crate) fn page(results: &Results) -> String {
    let mut out = String::with_capacity(256 * 1024);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>pgwake, measured</title><style>{}</style></head><body><main>",
        style::SHEET
    );
    head(&mut out, results);
    verdicts(&mut out, results);
    bars::section(&mut out, results);
    curves::connects(&mut out, results);
    curves::spectrum(&mut out, results);
    storm::section(&mut out, results);
    phases::section(&mut out, results);
    bars::neighbours(&mut out, results);
    table::section(&mut out, results);
    table::setup(&mut out, results);
    out.push_str("</main></body></html>\n");
    out
}

fn head(out: &mut String, results: &Results) {
    let machine = &results.machine;
    let _ = write!(
        out,
        "<header><h1>pgwake, measured</h1><p class=\"lead\">{} · {} cores · {:.0} GiB · Linux {} · load {:.2} \
         at the start{}</p><p class=\"legend\">",
        escape(&machine.processor),
        machine.cores,
        machine.memory_gib,
        escape(&machine.kernel),
        machine.load,
        match machine.commit.as_str() {
            "" => String::new(),
            commit => format!(" · commit {}", escape(commit)),
        }
    );
    for target in &results.targets {
        let _ = write!(
            out,
            "<span><i style=\"background:{}\"></i>{} <small>{}</small></span>",
            colour(results, &target.name),
            escape(&target.name),
            escape(&target.version)
        );
    }
    out.push_str("</p>");
    for note in &results.notes {
        let _ = write!(out, "<p class=\"note\">{}</p>", escape(note));
    }
    out.push_str("</header>");
}

fn verdicts(out: &mut String, results: &Results) {
    open(
        out,
        "Targets",
        "What pgwake has set itself, as medians of alternated rounds. Missed is missed.",
    );
    out.push_str("<table class=\"verdicts\"><tr><th></th><th>target</th><th>measured</th><th></th></tr>");
    for figure in figures::all(results) {
        let verdict = figure.verdict();
        let _ = write!(
            out,
            "<tr class=\"{}\"><td>{}</td><td>{}</td><td>{}</td><td><b>{verdict}</b></td></tr>",
            verdict.replace(' ', "-"),
            escape(figure.what),
            escape(&figure.target),
            escape(figure.measured.as_deref().unwrap_or("–")),
        );
    }
    out.push_str("</table>");
    close(out);
}

fn open(out: &mut String, title: &str, lead: &str) {
    let _ = write!(
        out,
        "<section><h2>{}</h2><p class=\"lead\">{}</p>",
        escape(title),
        escape(lead)
    );
}

fn close(out: &mut String) {
    out.push_str("</section>");
}

/// Scenarios and cases in the order in which they were measured.
fn cases<'a>(results: &'a Results, scenario: &str) -> Vec<&'a str> {
    let mut cases: Vec<&str> = Vec::new();
    for measurement in results.measurements.iter().filter(|m| m.scenario == scenario) {
        if !cases.contains(&measurement.case.as_str()) {
            cases.push(&measurement.case);
        }
    }
    cases
}

/// All targets' measurements of a case.
fn measurements<'a>(results: &'a Results, scenario: &str, case: &str) -> Vec<&'a Measurement> {
    results
        .measurements
        .iter()
        .filter(|m| m.scenario == scenario && m.case == case)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        machine::Machine,
        results::{Storm, TargetShown},
        value,
    };

    fn measured(scenario: &str, case: &str, target: &str, factor: f64) -> Measurement {
        let mut measurement = Measurement::new(scenario, case, target);
        for (key, number) in [
            (value::CPU, 15.0),
            (value::RATE, 9000.0),
            (value::P50, 100.0),
            (value::P99, 400.0),
        ] {
            measurement.samples.insert(key.into(), vec![number * factor; 3]);
        }
        measurement.answered = 3;
        measurement.curve = vec![(0.5, 100.0 * factor), (0.99, 400.0), (1.0, 900.0)];
        measurement
    }

    fn results() -> Results {
        let shown = |name: &str, part| TargetShown {
            name: name.into(),
            part,
            version: "1 <beta>".into(),
            configuration: "key = \"value\"".into(),
        };
        let mut results = Results {
            targets: vec![shown("pgwake", Part::Subject), shown("PgBouncer", Part::Baseline)],
            ..Results::new(&[], Machine::look())
        };
        let case = "pgbench select simple, plain, 64 clients";
        results.measurements.push(measured("query", case, "pgwake", 0.9));
        results
            .measurements
            .push(measured("query", case, "PgBouncer", 1.0));
        results
            .measurements
            .push(measured("connect", "tls, 4 at a time", "pgwake", 1.0));
        let mut failing = Measurement::new("query", "select 1 simple, tls, 1 clients", "pgwake");
        failing.errors = BTreeMap::from([("28P01".to_owned(), 7)]);
        failing.words = BTreeMap::from([("28P01".to_owned(), "28P01: <no>".to_owned())]);
        results.measurements.push(failing);
        let mut storm = measured("storm", "10 clients", "pgwake", 1.0);
        storm.storm = Some(Storm {
            clients: vec![(0.0, 60.0), (0.1, 70.0)],
            marks: vec![("ready".into(), 50.0)],
        });
        results.measurements.push(storm);
        let mut wake = measured("wake", "one client", "pgwake", 1.0);
        wake.phases = vec![("boot".into(), 40.0), ("first answer".into(), 2.0)];
        results.measurements.push(wake);
        results
    }

    #[test]
    fn the_page_shows_everything_and_asks_nobody_for_anything() {
        let results = results();
        let page = page(&results);
        for word in [
            "pgwake",
            "PgBouncer",
            "0.90",
            "met",
            "not measured",
            "boot",
            "ready",
            "Percentile",
        ] {
            assert!(page.contains(word), "{word}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
        assert!(page.matches("<svg").count() >= 5);
        for outside in ["http://", "https://", "src=", "@import", "NaN", "inf"] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("1 &lt;beta&gt;") && !page.contains("<no>"));
    }

    #[test]
    fn a_target_that_fails_is_reported_as_failing() {
        let page = page(&results());
        assert!(page.contains("failed: 28P01 × 7"));
    }

    #[test]
    fn results_are_the_same_after_they_were_written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let results = results();
        results.write(folder.path()).unwrap();
        let read = Results::read(&folder.path().join("results.json")).unwrap();
        assert_eq!(page(&read), page(&results));
        let log = std::fs::read_to_string(folder.path().join("results.hlog")).unwrap();
        assert!(log.starts_with('#'));
    }
}
