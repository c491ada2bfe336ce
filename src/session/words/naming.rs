//! The name behind SET or RESET, where it is a custom setting's: `app . "tenant_id"` as `app.tenant_id`.

use super::names::NAME_BYTES_MAX;

/// A short text that is collected without allocating.
#[derive(Clone, Copy, Debug)]
pub(super) struct Short<const MAX: usize> {
    bytes: [u8; MAX],
    len: usize,
}

impl<const MAX: usize> Short<MAX> {
    pub(super) const EMPTY: Self = Self {
        bytes: [0; MAX],
        len: 0,
    };

    /// Adds a byte; beyond `MAX` only its length is counted.
    pub(super) fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
        }
        self.len += 1;
    }

    /// As much as there is room for.
    pub(super) fn beginning(&self) -> &[u8] {
        &self.bytes[..self.len.min(MAX)]
    }

    /// `None`: it was too long.
    pub(super) fn text(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len)
    }
}

/// Collects the name from the bytes behind the word SET or RESET.
#[derive(Clone, Copy, Debug)]
pub(super) struct Naming {
    name: Short<NAME_BYTES_MAX>,
    last: u8,
    in_word: bool,
}

impl Naming {
    pub(super) const START: Self = Self {
        name: Short::EMPTY,
        last: 0,
        in_word: false,
    };

    /// Takes the next byte. `false`: the name has ended before it.
    pub(super) fn goes_on(&mut self, byte: u8) -> bool {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'$' | 0x80.. => {
                if !self.in_word && self.last != b'.' && self.last != 0 {
                    // A second word without a dot: `SET SESSION app.x`, or the name was whole.
                    if !self.is_scope() {
                        return false;
                    }
                    self.name = Short::EMPTY;
                }
                self.in_word = true;
            }
            b'.' => self.in_word = false,
            b' ' | b'\t' | b'\n' | b'\r' | b'\x0b' | b'\x0c' | b'"' => {
                self.in_word = false;
                return true;
            }
            _ => return false,
        }
        self.last = byte;
        self.name.push(byte);
        true
    }

    fn is_scope(&self) -> bool {
        let name = self.name.text().unwrap_or_default();
        name.eq_ignore_ascii_case(b"session") || name.eq_ignore_ascii_case(b"local")
    }

    /// What was collected; `None`: it is too long.
    pub(super) fn name(&self) -> Option<&[u8]> {
        self.name.text()
    }
}
