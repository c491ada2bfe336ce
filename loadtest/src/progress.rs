//! What a person sees while it runs: a bar on a terminal, a line per case elsewhere.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressStyle};

/// How far a run is.
pub(crate) struct Progress {
    bar: ProgressBar,
    is_terminal: bool,
}

impl Progress {
    /// Of a run with so many steps.
    pub(crate) fn begin(steps: u64) -> Self {
        let bar = ProgressBar::new(steps);
        let style = ProgressStyle::with_template("{bar:32.cyan/dim} {pos:>3}/{len} {elapsed:>4} {msg}");
        bar.set_style(style.expect("the template is right").progress_chars("━╸─"));
        Self {
            bar,
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// A step begins.
    pub(crate) fn step(&self, what: &str) {
        self.bar.inc(1);
        if self.is_terminal {
            self.bar.set_message(what.to_owned());
        } else {
            // Nobody may be reading; the run goes on.
            let _ = writeln!(io::stderr(), "{what}");
        }
    }

    pub(crate) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
