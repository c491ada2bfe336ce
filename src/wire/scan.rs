//! Looks at messages as they pass: headers always, the first bytes of a body where somebody wants them.
//!
//! It holds nothing back and copies nothing but up to [`PREFIX_BYTES`] of messages that are looked at. Bytes may
//! come in any pieces: one at a time and all at once give the same.

/// As much of a body as is ever looked at: command tags have at most 64 bytes (COMPLETION_TAG_BUFSIZE), an
/// ErrorResponse has its severity and SQLSTATE in its first fields.
pub const PREFIX_BYTES: usize = 96;

/// What to do with a message whose tag is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interest {
    /// Only that it came.
    Pass,
    /// The first bytes of its body.
    Prefix,
}

/// Who looks.
pub trait Observer {
    /// A message begins: called once its header is complete. `length` counts itself, not the tag.
    fn begins(&mut self, tag: u8) -> Interest;
    /// A message that was of interest is through; `prefix` has the first bytes of its body.
    fn prefix(&mut self, tag: u8, prefix: &[u8]);
    /// Whether a message may have this tag.
    fn allows(&self, tag: u8) -> bool;
}

/// What breaks the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A tag that no message has; nothing of that message has passed.
    Tag(u8),
    /// A length below 4.
    Length,
}

/// Where a direction stands between two messages or inside one.
#[derive(Debug)]
pub struct Scanner {
    header: [u8; 5],
    header_have: usize,
    body_left: usize,
    prefix: [u8; PREFIX_BYTES],
    prefix_have: usize,
    interest: Interest,
}

impl Default for Scanner {
    fn default() -> Self {
        Self {
            header: [0; 5],
            header_have: 0,
            body_left: 0,
            prefix: [0; PREFIX_BYTES],
            prefix_have: 0,
            interest: Interest::Pass,
        }
    }
}

impl Scanner {
    /// Whether everything so far was whole messages.
    pub fn is_between_messages(&self) -> bool {
        self.header_have == 0
    }

    /// Looks at the next bytes of the stream.
    ///
    /// # Errors
    /// How many of `bytes` may still pass, and what is wrong behind them.
    pub fn scan(&mut self, bytes: &[u8], observer: &mut impl Observer) -> Result<(), (usize, Broken)> {
        let mut at = 0;
        while at < bytes.len() {
            if self.header_have < 5 {
                if self.header_have == 0 && !observer.allows(bytes[at]) {
                    return Err((at, Broken::Tag(bytes[at])));
                }
                let count = (5 - self.header_have).min(bytes.len() - at);
                self.header[self.header_have..self.header_have + count]
                    .copy_from_slice(&bytes[at..at + count]);
                self.header_have += count;
                at += count;
                if self.header_have < 5 {
                    break;
                }
                self.begin(observer).map_err(|broken| (at - count, broken))?;
            }
            let count = self.body_left.min(bytes.len() - at);
            self.look(&bytes[at..at + count]);
            self.body_left -= count;
            at += count;
            if self.body_left == 0 {
                self.end(observer);
            }
        }
        Ok(())
    }

    fn begin(&mut self, observer: &mut impl Observer) -> Result<(), Broken> {
        let [tag, a, b, c, d] = self.header;
        let length = i64::from(i32::from_be_bytes([a, b, c, d]));
        self.body_left = usize::try_from(length - 4).map_err(|_| Broken::Length)?;
        self.prefix_have = 0;
        self.interest = observer.begins(tag);
        Ok(())
    }

    fn look(&mut self, part: &[u8]) {
        if self.interest == Interest::Prefix {
            let count = part.len().min(PREFIX_BYTES - self.prefix_have);
            self.prefix[self.prefix_have..self.prefix_have + count].copy_from_slice(&part[..count]);
            self.prefix_have += count;
        }
    }

    fn end(&mut self, observer: &mut impl Observer) {
        self.header_have = 0;
        if self.interest == Interest::Prefix {
            observer.prefix(self.header[0], &self.prefix[..self.prefix_have]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default, Debug, PartialEq)]
    struct Seen(Vec<(u8, Vec<u8>)>);

    impl Observer for Seen {
        fn begins(&mut self, tag: u8) -> Interest {
            self.0.push((tag, vec![]));
            if tag == b'D' {
                Interest::Pass
            } else {
                Interest::Prefix
            }
        }
        fn prefix(&mut self, tag: u8, prefix: &[u8]) {
            self.0.push((tag, prefix.to_vec()));
        }
        fn allows(&self, tag: u8) -> bool {
            tag.is_ascii_alphabetic()
        }
    }

    fn messages(bodies: &[(u8, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (tag, body) in bodies {
            bytes.push(*tag);
            bytes.extend(i32::try_from(body.len() + 4).unwrap().to_be_bytes());
            bytes.extend(body);
        }
        bytes
    }

    #[test]
    fn a_bad_tag_is_found_before_any_of_its_bytes_passed() {
        let mut bytes = messages(&[(b'Q', b"a\0".to_vec())]);
        let good = bytes.len();
        bytes.extend(b"\x01\0\0\0\x04");
        let mut scanner = Scanner::default();
        assert_eq!(
            scanner.scan(&bytes, &mut Seen::default()),
            Err((good, Broken::Tag(1)))
        );
        let mut scanner = Scanner::default();
        assert_eq!(
            scanner.scan(b"Q\0\0\0\x03", &mut Seen::default()),
            Err((0, Broken::Length))
        );
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            bodies in proptest::collection::vec((prop_oneof![Just(b'Q'), Just(b'D'), Just(b'Z')],
                proptest::collection::vec(any::<u8>(), 0..200)), 0..8),
            cuts in proptest::collection::vec(1..30_usize, 0..60),
        ) {
            let bytes = messages(&bodies);
            let (mut whole, mut scanner) = (Seen::default(), Scanner::default());
            scanner.scan(&bytes, &mut whole).unwrap();
            prop_assert!(scanner.is_between_messages());
            let (mut pieces, mut scanner) = (Seen::default(), Scanner::default());
            let mut rest = &bytes[..];
            for cut in cuts.into_iter().chain(std::iter::repeat(1)) {
                if rest.is_empty() { break; }
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                scanner.scan(head, &mut pieces).unwrap();
                rest = tail;
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Scanner::default().scan(&bytes, &mut Seen::default());
        }
    }
}
