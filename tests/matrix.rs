//! Every driver suite at every place, and the drivers' and Postgres' own tests: what takes too long to run each time.
//!
//! `make test-drivers` and `make test-fidelity` call it; `cargo test` alone does not. It prints one table, and ends
//! with 1 where anything differs:
//!
//! ```text
//! cargo test --test matrix -- drivers|fidelity [--place PLACE]… [SUITE]…
//! cargo test --test matrix -- stage PLACE        # until its input ends, for a look by hand
//! ```
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, unused_imports, reason = "the other tests use more of it")]
mod harness;
#[expect(dead_code, reason = "the short form belongs to the other tests")]
mod suites;

mod fidelity;

use std::{
    io::Write,
    process::ExitCode,
    time::{Duration, Instant},
};

use suites::{
    catalogue::{Length, SUITES, Suite},
    place::{ALL, Place, Stage},
};

/// A line of the table.
struct Line {
    suite: String,
    place: Place,
    /// What was done, in the words of who did it.
    did: String,
    differences: usize,
    took: Duration,
}

/// Prints at once, also into a pipe.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).unwrap();
}

// Servers are ended with the thread that started them: everything is started here.
#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        return usage();
    };
    let (places, names) = match chosen(rest) {
        Ok(chosen) => chosen,
        Err(problem) => {
            say(&problem);
            return usage();
        }
    };
    let lines = match command.as_str() {
        "drivers" => drivers(&places, &names).await,
        "fidelity" => fidelity::run(&places, &names).await,
        "stage" => return stage(&names).await,
        _ => return usage(),
    };
    table(&lines);
    let differences: usize = lines.iter().map(|line| line.differences).sum();
    ExitCode::from(u8::from(differences > 0 || lines.is_empty()))
}

fn usage() -> ExitCode {
    say(
        "usage: drivers|fidelity [--place direct|session|transaction|transaction-<sessions>]… [SUITE]…, or stage PLACE",
    );
    ExitCode::from(64)
}

/// The places and the names among the arguments; all places where none is named.
fn chosen(arguments: &[String]) -> Result<(Vec<Place>, Vec<String>), String> {
    let (mut places, mut names) = (Vec::new(), Vec::new());
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--place" {
            places.push(rest.next().ok_or("--place of what?")?.parse()?);
        } else {
            names.push(argument.clone());
        }
    }
    if places.is_empty() {
        places = ALL.to_vec();
    }
    Ok((places, names))
}

/// Whether this one was asked for.
fn wanted(name: &str, names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|wanted| wanted == name)
}

async fn drivers(places: &[Place], names: &[String]) -> Vec<Line> {
    let mut lines = Vec::new();
    for suite in SUITES.iter().filter(|suite| wanted(suite.name, names)) {
        for place in places {
            lines.push(one(*suite, *place).await);
        }
    }
    lines
}

async fn one(suite: Suite, place: Place) -> Line {
    say(&format!("== {} at {place}", suite.name));
    let stage = Stage::start(place).await;
    let began = Instant::now();
    let finished = suite.run(&stage, Length::Long).await;
    let count = |word: &str| {
        finished
            .output
            .lines()
            .filter(|line| line.starts_with(word))
            .count()
    };
    let (fine, differences) = (count("ok "), count("DIFFERS "));
    let clean = finished.status.success() && fine > 0 && differences == 0;
    if !clean {
        say(&finished.output);
        say(&finished.errors);
    }
    Line {
        suite: suite.name.to_owned(),
        place,
        did: format!("{} steps", fine + differences),
        // A suite that ends without a word of what differs has one difference all the same.
        differences: if clean { 0 } else { differences.max(1) },
        took: began.elapsed(),
    }
}

fn table(lines: &[Line]) {
    say(&format!(
        "\n{:<24}{:<16}{:<44}{:>12}{:>9}",
        "suite", "place", "did", "differences", "seconds"
    ));
    for line in lines {
        say(&format!(
            "{:<24}{:<16}{:<44}{:>12}{:>9.1}",
            line.suite,
            line.place.to_string(),
            line.did,
            line.differences,
            line.took.as_secs_f32()
        ));
    }
}

/// Keeps a place up and says how to reach it.
async fn stage(names: &[String]) -> ExitCode {
    let place = names.first().map(|name| name.parse::<Place>());
    let Some(Ok(place)) = place else {
        return usage();
    };
    let stage = Stage::start(place).await;
    for (name, value) in stage.variables() {
        say(&format!("export {name}='{}'", value.replace('\'', "'\\''")));
    }
    say("# Ctrl-D ends it.");
    let ended = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    ended.await.unwrap().unwrap();
    ExitCode::SUCCESS
}
