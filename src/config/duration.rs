//! Durations as operators write them: `"5m"`, `"1m30s"`, `"250ms"`, and `"never"` where that is an answer.
//!
//! Whole numbers with units only. A bare number is refused with what to write instead: seconds for one reader
//! are milliseconds for the next. Who calls: `config` itself, and `cli` for durations among its arguments.

use std::{fmt, time::Duration};

use super::{
    problem::{Report, Spot, Wrong},
    read::Read,
    tree::{Node, Value},
};

/// Longest first, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// The longest duration that is believed: a timer beyond a year is a slip of the unit.
const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

const EXAMPLES: &str =
    "write a whole number with a unit of ms, s, m, h or d, such as \"5m\", \"1m30s\" or \"250ms\"";

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {fix}")]
pub struct DurationError {
    message: String,
    fix: String,
}

/// Parses a duration: whole numbers with the units `ms`, `s`, `m`, `h`, `d`, the longest first, each once.
///
/// # Errors
/// [`DurationError`] says what is wrong and what to write instead.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let wrong = |message: &str, fix: &str| DurationError {
        message: message.to_owned(),
        fix: fix.to_owned(),
    };
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong("a number without a unit", &format!("write \"{text}s\"")));
    }
    let mut total: u64 = 0;
    let mut units_left = UNITS.as_slice();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let known = units_left.iter().position(|(name, _)| *name == unit);
        let (Ok(number), Some(index)) = (number.parse::<u64>(), known) else {
            return Err(wrong(&format!("{text:?} is not a duration"), EXAMPLES));
        };
        let part = number.checked_mul(units_left[index].1);
        total = part.and_then(|part| total.checked_add(part)).unwrap_or(u64::MAX);
        units_left = &units_left[index + 1..];
        rest = after;
    }
    if text.is_empty() {
        return Err(wrong("an empty text is not a duration", EXAMPLES));
    }
    match Duration::from_millis(total) {
        duration if duration > DURATION_MAX => Err(wrong("longer than a year", "write at most \"366d\"")),
        duration => Ok(duration),
    }
}

/// A duration as [`parse_duration`] reads it; what is below a millisecond is left out.
#[derive(Debug, Clone, Copy)]
pub struct DurationText(pub Duration);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if rest == 0 {
            return f.write_str("0s");
        }
        for (name, millis) in UNITS {
            if rest >= millis {
                write!(f, "{}{name}", rest / millis)?;
                rest %= millis;
            }
        }
        Ok(())
    }
}

impl Read for Duration {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let parsed = match &node.value {
            Value::Text(text) => parse_duration(text).map_err(|e| Wrong::new(e.message, e.fix)),
            Value::Integer(number) => {
                let fix = format!("write \"{}s\"", number.trim_start_matches(['-', '+']));
                Err(Wrong::new("a number without a unit", fix))
            }
            other => Err(Wrong::new(
                format!("expected a duration, found {}", other.kind()),
                EXAMPLES,
            )),
        };
        report.note(spot, parsed)
    }
}

/// A duration or `"never"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SuspendAfter(pub(crate) Option<Duration>);

impl Read for SuspendAfter {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        match &node.value {
            Value::Text(text) if text.as_str() == "never" => Some(Self(None)),
            _ => Duration::read(node, spot, report).map(|duration| Self(Some(duration))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_whole_numbers_with_units_the_longest_first() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("5m", 300_000),
            ("1m30s", 90_000),
            ("1d2h3m4s5ms", 93_784_005),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_millis(millis), "{text}");
            assert_eq!(DurationText(duration).to_string(), text);
        }
        for text in [
            "",
            "s",
            "1.5s",
            "5 m",
            "30s1m",
            "1m1m",
            "-1s",
            "5min",
            "99999999999999999999s",
            "400d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_bare_number_is_refused_with_the_fix() {
        let error = parse_duration("300").unwrap_err();
        assert_eq!(error.to_string(), "a number without a unit: write \"300s\"");
    }
}
