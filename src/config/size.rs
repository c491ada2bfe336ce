//! Sizes in bytes as operators write them: `"64KiB"`, `"1MiB"`, and a plain number of bytes.
//!
//! Whole numbers with one binary unit only. `MB` is a million bytes for one reader and 1,048,576 for the next, so
//! it is refused with what to write instead. Who calls: the tables of `file`, and `cli` to show a size.

use std::fmt;

use super::{
    problem::{Report, Spot, Wrong},
    read::Read,
    tree::{Node, Value},
};

/// Largest first, in bytes.
const UNITS: [(&str, usize); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

const EXAMPLES: &str =
    "write a whole number of bytes, alone or with a unit of KiB, MiB or GiB, such as \"64KiB\"";

/// A size from `LEAST` to `MOST` bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size<const LEAST: usize, const MOST: usize>(pub(crate) usize);

impl<const LEAST: usize, const MOST: usize> Read for Size<LEAST, MOST> {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let parsed = match &node.value {
            Value::Text(text) => parse_size(text),
            Value::Integer(text) => parse_size(text),
            other => Err(Wrong::new(
                format!("expected a size, found {}", other.kind()),
                EXAMPLES,
            )),
        };
        let bytes = report.note(spot, parsed)?;
        if (LEAST..=MOST).contains(&bytes) {
            return Some(Self(bytes));
        }
        let (least, most) = (SizeText(LEAST), SizeText(MOST));
        let message = format!("{} is not between {least} and {most}", SizeText(bytes));
        let fix = format!("write a size from \"{least}\" to \"{most}\"");
        report.add(spot, Wrong::new(message, fix));
        None
    }
}

/// Whole bytes; what is more than a machine can count is as much as it can.
pub(crate) fn parse_size(text: &str) -> Result<usize, Wrong> {
    let wrong = |fix: String| Wrong::new(format!("{text:?} is not a size"), fix);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(wrong(EXAMPLES.to_owned()));
    }
    let bytes = match UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, bytes)) => *bytes,
        None if unit.is_empty() => 1,
        None => return Err(wrong(meant(number, unit))),
    };
    // All digits, so that it can only be too large.
    let number = number.parse::<usize>().unwrap_or(usize::MAX);
    Ok(number.saturating_mul(bytes))
}

/// What to write instead of a number with another unit.
fn meant(number: &str, unit: &str) -> String {
    let unit = unit.trim_start().to_ascii_lowercase();
    if matches!(unit.as_str(), "b" | "byte" | "bytes") {
        return format!("write {number}");
    }
    let first = |(name, _): &&(&str, usize)| {
        let name = name.to_ascii_lowercase();
        unit == name || unit == name[..1] || unit == format!("{}b", &name[..1])
    };
    match UNITS.iter().find(first) {
        Some((name, _)) => format!("write \"{number}{name}\""),
        None => EXAMPLES.to_owned(),
    }
}

/// A number of bytes with the largest unit that needs no fraction.
#[derive(Debug, Clone, Copy)]
pub struct SizeText(pub usize);

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, bytes): &&(&str, usize)| self.0 > 0 && self.0.is_multiple_of(*bytes);
        match UNITS.iter().find(fits) {
            Some((name, bytes)) => write!(f, "{}{name}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_bytes_or_have_one_binary_unit() {
        for (text, bytes, shown) in [
            ("0", 0, "0"),
            ("512", 512, "512"),
            ("1536", 1536, "1536"),
            ("2048", 2048, "2KiB"),
            ("64KiB", 65_536, "64KiB"),
            ("1MiB", 1_048_576, "1MiB"),
            ("3GiB", 3_221_225_472, "3GiB"),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
            assert_eq!(SizeText(bytes).to_string(), shown);
        }
        assert_eq!(parse_size("99999999999999999999GiB"), Ok(usize::MAX));
    }

    #[test]
    fn other_units_are_refused_with_what_was_most_likely_meant() {
        for (text, fix) in [
            ("64kB", "write \"64KiB\""),
            ("1MB", "write \"1MiB\""),
            ("1 MiB", "write \"1MiB\""),
            ("2g", "write \"2GiB\""),
            ("512B", "write 512"),
            ("1.5MiB", EXAMPLES),
            ("1TB", EXAMPLES),
            ("KiB", EXAMPLES),
            ("-1", EXAMPLES),
            ("", EXAMPLES),
            ("1Mé", EXAMPLES),
        ] {
            let wrong = Wrong::new(format!("{text:?} is not a size"), fix);
            assert_eq!(parse_size(text), Err(wrong), "{text}");
        }
    }
}
