//! A reader that cannot leave the message it was given: every step checks what is left.

/// Reads one message's body from its start.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

/// The body ended before what it should contain, or a text has no end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("message is shorter than what it should contain")]
pub struct TooShort;

impl<'a> Cursor<'a> {
    /// A reader of `body`, which is one message without its header.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], TooShort> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(TooShort)?;
        self.rest = tail;
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    /// None is left.
    pub fn u8(&mut self) -> Result<u8, TooShort> {
        Ok(self.bytes(1)?[0])
    }

    /// Two bytes, network order.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn i16(&mut self) -> Result<i16, TooShort> {
        let bytes = self.bytes(2)?;
        Ok(i16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// Four bytes, network order.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn i32(&mut self) -> Result<i32, TooShort> {
        let bytes = self.bytes(4)?;
        Ok(i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// A text up to its NUL, without it.
    ///
    /// # Errors
    /// There is no NUL in what is left.
    pub fn text(&mut self) -> Result<&'a [u8], TooShort> {
        let end = self.rest.iter().position(|b| *b == 0).ok_or(TooShort)?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut cursor = Cursor::new(b"ab\0\x00\x01");
        assert_eq!(cursor.text(), Ok(&b"ab"[..]));
        assert_eq!(cursor.i32(), Err(TooShort));
        assert_eq!(cursor.i16(), Ok(1));
        assert_eq!(cursor.u8(), Err(TooShort));
        assert_eq!(cursor.text(), Err(TooShort));
        assert!(cursor.is_at_end());
    }
}
