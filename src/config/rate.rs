//! Rates as operators write them: `"20/s"`, `"300/min"`, `"1000/h"`.
//!
//! A whole period's worth may come at once. Who calls: the tables of `file`, and `cli` to show a rate.

use std::{fmt, time::Duration};

use super::{
    problem::{Report, Spot, Wrong},
    read::Read,
    tree::Node,
    value::read_text,
};

const PERIODS: [(&str, Duration); 3] = [
    ("s", Duration::from_secs(1)),
    ("min", Duration::from_secs(60)),
    ("h", Duration::from_secs(3600)),
];
/// More in one period is no limit that anybody means.
const COUNT_MAX: u32 = 1_000_000_000;

const EXAMPLES: &str = "write how many in which time, such as \"20/s\", \"300/min\" or \"1000/h\"";

/// So many in that time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; never 0.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

impl Read for Rate {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let text = read_text(node, spot, "a rate in quotes, such as \"20/s\"", report)?;
        report.note(spot, parse(text))
    }
}

fn parse(text: &str) -> Result<Rate, Wrong> {
    let wrong = |fix: &str| Wrong::new(format!("{text:?} is not a rate"), fix);
    let (count, unit) = text.split_once('/').ok_or_else(|| wrong(EXAMPLES))?;
    let digits = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
    let period = PERIODS.iter().find(|(name, _)| *name == unit);
    let (true, Some((_, per))) = (digits, period) else {
        return Err(match unit {
            "m" | "minute" if digits => wrong(&format!("write \"{count}/min\"")),
            "sec" | "second" if digits => wrong(&format!("write \"{count}/s\"")),
            "hour" if digits => wrong(&format!("write \"{count}/h\"")),
            _ => wrong(EXAMPLES),
        });
    };
    match count.parse() {
        Ok(count @ 1..=COUNT_MAX) => Ok(Rate { count, per: *per }),
        Ok(0) => Err(wrong("write at least 1")),
        _ => Err(wrong(&format!("write at most {COUNT_MAX}"))),
    }
}

/// A rate as it is written.
#[derive(Debug, Clone, Copy)]
pub struct RateText(pub Rate);

impl fmt::Display for RateText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rate { count, per } = self.0;
        match PERIODS.iter().find(|(_, period)| *period == per) {
            Some((name, _)) => write!(f, "{count}/{name}"),
            None => write!(f, "{count}/{} s", per.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_whole_numbers_in_a_period() {
        for (text, count, seconds) in [("20/s", 20, 1), ("300/min", 300, 60), ("1/h", 1, 3600)] {
            let per = Duration::from_secs(seconds);
            assert_eq!(parse(text), Ok(Rate { count, per }));
            assert_eq!(RateText(Rate { count, per }).to_string(), text);
        }
    }

    #[test]
    fn what_is_no_rate_is_told_what_to_write() {
        for (text, fix) in [
            ("20", EXAMPLES),
            ("/s", EXAMPLES),
            ("-1/s", EXAMPLES),
            ("1.5/s", EXAMPLES),
            ("20/day", EXAMPLES),
            ("20/m", "write \"20/min\""),
            ("20/sec", "write \"20/s\""),
            ("0/s", "write at least 1"),
            ("99999999999/s", "write at most 1000000000"),
        ] {
            let wrong = Wrong::new(format!("{text:?} is not a rate"), fix);
            assert_eq!(parse(text), Err(wrong), "{text}");
        }
    }
}
