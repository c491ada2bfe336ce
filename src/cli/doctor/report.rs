//! What is written: a line for each step with its time, and for the first thing that is wrong what it is and what to do.

use std::{fmt::Display, io::Write};

use tokio::time::Instant;

/// Where the steps go, and which one is under way.
pub(super) struct Report<'o> {
    out: &'o mut dyn Write,
    step: &'static str,
    since: Instant,
}

/// The first thing that is wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Trouble {
    /// What.
    pub(super) what: String,
    /// What the server said of it besides.
    pub(super) said: Vec<String>,
    /// What to do.
    pub(super) advice: Vec<String>,
}

impl Trouble {
    pub(super) fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            said: Vec::new(),
            advice: vec![advice.into()],
        }
    }
}

impl<'o> Report<'o> {
    pub(super) fn new(out: &'o mut dyn Write) -> Self {
        Self {
            out,
            step: "",
            since: Instant::now(),
        }
    }

    /// A step begins.
    pub(super) fn begin(&mut self, step: &'static str) {
        self.step = step;
        self.since = Instant::now();
    }

    /// It is right.
    pub(super) fn right(&mut self, what: impl Display) {
        self.step_line("ok   ", &what.to_string());
    }

    /// It is not.
    pub(super) fn wrong(&mut self, trouble: &Trouble) {
        self.step_line("WRONG", &trouble.what);
        for said in &trouble.said {
            self.beside("", said);
        }
        for advice in &trouble.advice {
            self.beside("do:", advice);
        }
    }

    /// Something worth knowing.
    pub(super) fn aside(&mut self, text: impl Display) {
        self.beside("note:", &text.to_string());
    }

    /// What the server says while it is waited for.
    pub(super) fn heard(&mut self, text: &str) {
        let after = self.since.elapsed().as_secs_f64();
        self.beside(&format!("{after:.1} s"), text);
    }

    fn beside(&mut self, what: &str, text: &str) {
        self.line(&format!("      {what:>6} {text}"));
    }

    pub(super) fn line(&mut self, text: &str) {
        // Nobody may be reading any more; the exit code says it in any case.
        let _ = writeln!(self.out, "{}", text.trim_end());
        let _ = self.out.flush();
    }

    fn step_line(&mut self, sign: &str, what: &str) {
        let took = self.since.elapsed().as_secs_f64() * 1000.0;
        let step = self.step;
        self.line(&format!("{sign} {step:12} {took:6.0} ms  {what}"));
    }
}
