//! What each byte of a text is to the scan, and that of many bytes at once.
//!
//! Byte by byte, a processor guesses wrong where each word ends and where the next one begins. So the bytes are told
//! apart without a branch, in a form that compilers make vector instructions of, and the ends found by counting bits.

/// A byte of a word.
const INSIDE: u8 = 1;
/// It ends a gap, or may mean something in it.
const STOPS: u8 = 2;

/// Bytes that are told apart together.
const CHUNK: usize = 16;
const BLOCK: usize = 64;

/// What a byte is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Class(u8);

impl Class {
    const PLAIN: Self = Self(0);
    const LETTER: Self = Self(INSIDE | STOPS);
    const ALL: [Self; 256] = {
        let mut classes = [Self::PLAIN; 256];
        let mut byte = 0_u8;
        loop {
            classes[byte as usize] = Self::told(byte);
            if byte == u8::MAX {
                break classes;
            }
            byte += 1;
        }
    };

    /// Of this byte.
    #[inline]
    pub(super) fn of(byte: u8) -> Self {
        Self::ALL[usize::from(byte)]
    }

    /// A letter, `_`, or of a character beyond ASCII: a word may begin with it.
    pub(super) fn is_letter(self) -> bool {
        self == Self::LETTER
    }

    /// A letter, or a digit.
    pub(super) fn is_inside(self) -> bool {
        self.0 & INSIDE != 0
    }

    /// A letter, or a byte that may mean something in a gap.
    pub(super) fn stops(self) -> bool {
        self.0 & STOPS != 0
    }

    #[inline]
    const fn told(byte: u8) -> Self {
        let is_letter = byte.is_ascii_alphabetic() | matches!(byte, b'_' | 0x80..);
        let is_digit = byte.is_ascii_digit();
        let is_special = matches!(byte, b';' | b'-' | b'/' | b'*' | b'\n' | b'\r' | b'&');
        Self((is_letter | is_digit) as u8 | ((is_letter | is_special) as u8) << 1)
    }
}

/// The next bytes of a text.
pub(super) struct Block {
    /// Bit by bit, the first byte in the lowest.
    inside: u64,
    stops: u64,
    bytes: usize,
}

impl Block {
    /// Of the first bytes of these, at most 64.
    #[inline]
    pub(super) fn of(bytes: &[u8]) -> Self {
        let bytes = &bytes[..bytes.len().min(BLOCK)];
        let mut block = Self {
            inside: 0,
            stops: 0,
            bytes: bytes.len(),
        };
        let (chunks, rest) = bytes.as_chunks::<CHUNK>();
        for (index, chunk) in chunks.iter().enumerate() {
            block.tell(chunk, index);
        }
        if !rest.is_empty() {
            // What is not there is a gap.
            let mut padded = [0; CHUNK];
            padded[..rest.len()].copy_from_slice(rest);
            block.tell(&padded, chunks.len());
        }
        block
    }

    #[inline]
    fn tell(&mut self, chunk: &[u8; CHUNK], index: usize) {
        let mut classes = [0; CHUNK];
        for (class, byte) in classes.iter_mut().zip(chunk) {
            *class = Class::told(*byte).0;
        }
        self.inside |= bits(&classes, 0) << (index * CHUNK);
        self.stops |= bits(&classes, 1) << (index * CHUNK);
    }

    /// How many bytes it has.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// Where the next byte is, from `at` on, that ends a gap or may mean something in it. Its length: nowhere.
    #[inline]
    pub(super) fn next_stop(&self, at: usize) -> usize {
        self.next(self.stops, at)
    }

    /// Where the word ends that goes on at `at`. Its length: not within it.
    #[inline]
    pub(super) fn word_end(&self, at: usize) -> usize {
        self.next(!self.inside, at)
    }

    #[inline]
    fn next(&self, among: u64, at: usize) -> usize {
        if at >= self.bytes {
            return self.bytes;
        }
        (at + (among >> at).trailing_zeros() as usize).min(self.bytes)
    }
}

/// One bit of each byte, the first byte's in the lowest.
#[inline]
fn bits(bytes: &[u8; CHUNK], bit: u32) -> u64 {
    let (halves, _) = bytes.as_chunks::<8>();
    let of_half = |half: &[u8; 8]| {
        let ones = u64::from_le_bytes(*half) >> bit & 0x0101_0101_0101_0101;
        // The product's highest byte has them all, side by side.
        ones.wrapping_mul(0x0102_0408_1020_4080) >> 56
    };
    of_half(&halves[0]) | of_half(&halves[1]) << 8
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_byte_has_one_meaning() {
        for byte in 0..=u8::MAX {
            let is_letter = byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80;
            let class = Class::of(byte);
            assert_eq!(class.is_letter(), is_letter, "{byte:#04x}");
            assert_eq!(
                class.is_inside(),
                is_letter || byte.is_ascii_digit(),
                "{byte:#04x}"
            );
            assert_eq!(
                class.stops(),
                is_letter || b";-/*\n\r&".contains(&byte),
                "{byte:#04x}"
            );
        }
    }

    proptest! {
        #[test]
        fn many_at_once_are_what_each_is(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let block = Block::of(&bytes);
            let len = bytes.len().min(BLOCK);
            prop_assert_eq!(block.len(), len);
            for at in 0..=len {
                let found = |is: fn(Class) -> bool| {
                    let next = bytes[at..len].iter().position(|byte| is(Class::of(*byte)));
                    next.map_or(len, |next| at + next)
                };
                prop_assert_eq!(block.next_stop(at), found(Class::stops));
                prop_assert_eq!(block.word_end(at), found(|class| !class.is_inside()));
            }
        }
    }
}
