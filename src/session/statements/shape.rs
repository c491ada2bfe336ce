//! What a statement's rows and parameters look like, as Postgres describes them, in a few bytes.
//!
//! A client that has been told once reads all later rows by that. Two shapes are the same where Postgres would let a
//! plan of one answer for the other: by names and types of the columns, whatever table they come from and in whatever
//! format they are sent. It reads messages and compares; `exchange` says when.

use std::hash::{DefaultHasher, Hash, Hasher};

use crate::wire::extended;

/// Fingerprints of what Describe has told; 0 where it has not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::session) struct Shape {
    parameters: u64,
    rows: u64,
}

impl Shape {
    /// Most of a description that is looked at.
    pub(in crate::session) const SEEN_MAX: usize = 64 * 1024;

    /// What a ParameterDescription, RowDescription or NoData tells.
    pub(in crate::session) fn of(tag: u8, body: &[u8]) -> Self {
        let body = &body[..body.len().min(Self::SEEN_MAX)];
        let mut hasher = DefaultHasher::new();
        match tag {
            b't' => {
                body.hash(&mut hasher);
                Self {
                    parameters: known(hasher.finish()),
                    rows: 0,
                }
            }
            _ => {
                extended::columns(body).for_each(|column| column.hash(&mut hasher));
                tag.hash(&mut hasher);
                Self {
                    parameters: 0,
                    rows: known(hasher.finish()),
                }
            }
        }
    }

    /// Whether nothing has been told.
    pub(in crate::session) fn is_unknown(self) -> bool {
        self == Self::default()
    }

    /// Whether it is known what the rows are.
    pub(in crate::session) fn has_rows(self) -> bool {
        self.rows != 0
    }

    /// Whether everything is known.
    pub(in crate::session) fn is_whole(self) -> bool {
        self.parameters != 0 && self.rows != 0
    }

    /// Takes in what has been told now.
    pub(in crate::session) fn learn(&mut self, told: Self) {
        if told.parameters != 0 {
            self.parameters = told.parameters;
        }
        if told.rows != 0 {
            self.rows = told.rows;
        }
    }

    /// Whether a client that was told this reads rightly what comes from a statement of `there`'s shape. `None`: more
    /// of that one must be known.
    pub(in crate::session) fn fits(self, there: Self) -> Option<bool> {
        let parts = [(self.parameters, there.parameters), (self.rows, there.rows)];
        let told = parts.iter().filter(|(told, _)| *told != 0);
        if told.clone().any(|(_, there)| *there == 0) {
            return None;
        }
        Some(told.clone().all(|(told, there)| told == there))
    }
}

fn known(fingerprint: u64) -> u64 {
    fingerprint.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A RowDescription of such columns: name, table, type, format.
    fn rows(columns: &[(&str, u32, u32, u16)]) -> Shape {
        let mut body = u16::try_from(columns.len()).unwrap().to_be_bytes().to_vec();
        for (name, table, of, format) in columns {
            body.extend(name.as_bytes());
            body.push(0);
            body.extend(table.to_be_bytes());
            body.extend(1u16.to_be_bytes());
            body.extend(of.to_be_bytes());
            body.extend(4u16.to_be_bytes());
            body.extend(u32::MAX.to_be_bytes());
            body.extend(format.to_be_bytes());
        }
        Shape::of(b'T', &body)
    }

    #[test]
    fn a_shape_is_names_and_types() {
        let one = rows(&[("id", 7, 23, 0), ("word", 7, 25, 0)]);
        assert_eq!(one, rows(&[("id", 8, 23, 1), ("word", 8, 25, 0)]));
        for other in [
            rows(&[("id", 7, 23, 0)]),
            rows(&[("id", 7, 20, 0), ("word", 7, 25, 0)]),
            rows(&[("number", 7, 23, 0), ("word", 7, 25, 0)]),
            rows(&[("word", 7, 25, 0), ("id", 7, 23, 0)]),
            rows(&[]),
            Shape::of(b'n', b""),
        ] {
            assert_eq!(one.fits(other), Some(false), "{other:?}");
        }
    }

    #[test]
    fn what_was_not_told_fits_anything() {
        let mut told = Shape::default();
        let rows = rows(&[("id", 7, 23, 0)]);
        assert_eq!(told.fits(Shape::default()), Some(true));
        told.learn(rows);
        assert_eq!(told.fits(Shape::default()), None);
        let mut there = rows;
        assert_eq!(told.fits(there), Some(true));
        there.learn(Shape::of(b't', b"\0\x01\0\0\0\x17"));
        assert_eq!(told.fits(there), Some(true));
        told.learn(Shape::of(b't', b"\0\x01\0\0\0\x19"));
        assert_eq!(told.fits(there), Some(false));
    }

    #[test]
    fn half_a_description_is_no_danger() {
        for length in 0..=17 {
            let _ = Shape::of(b'T', &b"\0\x05id\0\0\0\0\x07\0\x01\0\0\0\x17\0\x04"[..length]);
        }
    }
}
