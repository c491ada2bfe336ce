//! Permissions of a file as chmod writes them: `"0660"`.
//!
//! A plain number is refused: TOML would read `660` as decimal. Who calls: the tables of `file`.

use super::{
    problem::{Report, Spot, Wrong},
    read::Read,
    tree::{Node, Value},
};

/// Nine bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl Read for Mode {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let mode = match &node.value {
            Value::Text(text) => parse(text).ok_or_else(|| format!("{:?} is no mode of a file", &**text)),
            other => Err(format!("expected a mode, found {}", other.kind())),
        };
        let fix =
            "write octal digits in quotes: \"0660\" for the owner and the group, \"0666\" for everybody";
        report
            .note(spot, mode.map_err(|message| Wrong::new(message, fix)))
            .map(Self)
    }
}

/// Three octal digits, with or without a leading zero.
fn parse(text: &str) -> Option<u32> {
    let digits = text
        .strip_prefix('0')
        .filter(|rest| rest.len() == 3)
        .unwrap_or(text);
    let is_mode = digits.len() == 3 && digits.bytes().all(|digit| (b'0'..b'8').contains(&digit));
    is_mode.then(|| u32::from_str_radix(digits, 8).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_octal_digits_are_a_mode() {
        assert_eq!(parse("0660"), Some(0o660));
        assert_eq!(parse("777"), Some(0o777));
        for wrong in ["", "66", "0o660", "0680", "01777", "rw-rw----", "+660", "00660"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
