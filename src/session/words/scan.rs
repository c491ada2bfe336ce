//! One pass over a statement's bytes, in whatever pieces they come.
//!
//! A word is a letter, `_` or a byte of a character beyond ASCII, and what follows of these and of digits. Everything
//! else is a gap; also `$`, so that the words behind `$$` and `$tag$` are seen. Quotes and comments are not
//! followed, because they cannot be without knowing the session's settings: words in them count, but for those of
//! a comment that the statement begins with.

mod meaning;

use super::Words;
use super::arguments::Arguments;
use super::classes::{Block, Class};
use super::functions::FunctionWords;
use super::keyword::{Key, may_mean, place};
use super::names::CustomNames;
use super::naming::{Naming, Short};

/// Longest part of a word that is kept from one piece to the next: longer than any name in Postgres.
const WORD_BYTES_MAX: usize = 64;

/// What is looked at byte by byte.
#[derive(Clone, Copy, Debug)]
enum Watch {
    Nothing,
    Name(Naming),
    Call(Arguments),
    /// Behind `u&`: a string or an identifier with escapes.
    Escape,
}

/// A comment that may stand before a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comment {
    None,
    Line,
    Block,
}

/// The state between two pieces.
#[derive(Debug)]
pub(in crate::session) struct Scan {
    words: Words,
    names: CustomNames,
    /// A word whose end has not come yet.
    cut: Short<WORD_BYTES_MAX>,
    is_cut: bool,
    /// What the word before means.
    before: Key,
    /// What the word before the last comment means: it may be the one before.
    before_comment: Key,
    /// The last gap byte of interest, directly before.
    last: u8,
    /// No word of this statement has come.
    at_start: bool,
    /// No word at all has come: what looks like a comment is one.
    untouched: bool,
    comment: Comment,
    /// The SET of an UPDATE may come.
    updates: bool,
    watch: Watch,
    is_watching: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            words: Words::NONE,
            names: CustomNames::default(),
            cut: Short::EMPTY,
            is_cut: false,
            before: Key::Other,
            before_comment: Key::Other,
            last: 0,
            at_start: true,
            untouched: true,
            comment: Comment::None,
            updates: false,
            watch: Watch::Nothing,
            is_watching: false,
        }
    }
}

impl Scan {
    /// Looks at the next piece of a statement. `functions` are the same for all pieces.
    pub(in crate::session) fn feed(&mut self, bytes: &[u8], functions: Option<&FunctionWords>) {
        let mut at = 0;
        if self.is_cut {
            at = self.word_end(bytes, 0);
            bytes[..at].iter().for_each(|byte| self.cut.push(*byte));
            if at == bytes.len() {
                return;
            }
            self.end_cut(bytes[at], functions);
        }
        loop {
            if !self.is_watching {
                at = self.whole_words(bytes, at, functions);
            }
            at = self.word_start(bytes, at);
            if at == bytes.len() {
                return;
            }
            let start = at;
            at = self.word_end(bytes, start);
            if at == bytes.len() {
                self.is_cut = true;
                bytes[start..].iter().for_each(|byte| self.cut.push(*byte));
                return;
            }
            self.word(&bytes[start..at], bytes[at], functions);
        }
    }

    /// What has been seen of the statement so far.
    pub(in crate::session) fn words(&self) -> Words {
        self.words
    }

    /// The statement has ended. The scan is then as new, but for [`Self::take_names`].
    pub(in crate::session) fn finish(&mut self, functions: Option<&FunctionWords>) -> Words {
        if self.is_cut {
            self.end_cut(0, functions);
        }
        self.resolve_set();
        self.end_watch(0);
        self.before_comment = Key::Other;
        self.before = Key::Other;
        self.at_start = true;
        self.untouched = true;
        self.comment = Comment::None;
        self.updates = false;
        self.last = 0;
        std::mem::take(&mut self.words)
    }

    /// The custom settings that the statements since the last call name behind SET or RESET, or as the literal first
    /// argument of `set_config`; with [`Words::NAME_BOUND`] others come with Bind.
    pub(in crate::session) fn take_names(&mut self) -> CustomNames {
        std::mem::take(&mut self.names)
    }

    fn end_cut(&mut self, next: u8, functions: Option<&FunctionWords>) {
        let cut = std::mem::replace(&mut self.cut, Short::EMPTY);
        self.is_cut = false;
        self.word(cut.beginning(), next, functions);
    }

    /// Sees the words that have come as a whole, with the gaps before them, until something is watched. Says how far it
    /// came: a word or a gap begins there.
    #[inline]
    fn whole_words(&mut self, bytes: &[u8], mut at: usize, functions: Option<&FunctionWords>) -> usize {
        while at < bytes.len() {
            let rest = &bytes[at..];
            let block = Block::of(rest);
            let mut seen = 0;
            loop {
                let start = block.next_stop(seen);
                if start == block.len() {
                    at += start;
                    break;
                }
                if Class::of(rest[start]).is_letter() {
                    seen = block.word_end(start);
                    if seen == block.len() {
                        // It may go on behind the block: the next one begins with it.
                        if start == 0 || seen == rest.len() {
                            return at + start;
                        }
                        at += start;
                        break;
                    }
                    self.word(&rest[start..seen], rest[seen], functions);
                } else {
                    seen = start + 1;
                    self.special(rest[start]);
                    if self.is_watching {
                        self.watched(rest[start]);
                    }
                }
                if self.is_watching {
                    return at + seen;
                }
            }
        }
        at
    }

    /// Where the next word begins; sees the gap before it.
    #[inline]
    fn word_start(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while at < bytes.len() {
            let byte = bytes[at];
            let class = Class::of(byte);
            if class.stops() {
                if class.is_letter() {
                    break;
                }
                self.special(byte);
            }
            if self.is_watching {
                self.watched(byte);
            }
            at += 1;
        }
        at
    }

    /// Where the word ends that goes on at `at`.
    #[inline]
    fn word_end(&mut self, bytes: &[u8], at: usize) -> usize {
        let outside = |byte: &u8| !Class::of(*byte).is_inside();
        let rest = bytes.get(at..).unwrap_or_default();
        let end = at + rest.iter().position(outside).unwrap_or(rest.len());
        if self.is_watching {
            bytes[at..end].iter().for_each(|byte| self.watched(*byte));
        }
        end
    }

    /// A gap's byte that may mean something.
    #[inline(never)]
    fn special(&mut self, byte: u8) {
        match (self.last, byte) {
            (_, b';') => {
                self.resolve_set();
                self.at_start = true;
                self.updates = false;
                self.before = Key::Other;
                self.before_comment = Key::Other;
            }
            // Either ends a line for Postgres.
            (_, b'\n' | b'\r') if self.comment == Comment::Line => self.comment = Comment::None,
            (b'*', b'/') if self.comment == Comment::Block => self.comment = Comment::None,
            (b'-', b'-') | (b'/', b'*') => {
                if self.at_start && self.comment == Comment::None {
                    self.comment = if byte == b'-' {
                        Comment::Line
                    } else {
                        Comment::Block
                    };
                }
                if self.before != Key::Other {
                    self.before_comment = self.before;
                }
            }
            (_, b'&') if self.before == Key::Unicode => {
                self.words |= Words::OBSCURE;
                self.begin_watch(Watch::Escape);
            }
            _ => (),
        }
        self.last = byte;
    }

    /// A word, and the byte behind it; 0: none.
    #[inline]
    fn word(&mut self, word: &[u8], next: u8, functions: Option<&FunctionWords>) {
        self.last = 0;
        let in_comment = self.comment != Comment::None;
        if in_comment && self.untouched {
            return;
        }
        let place = place(word);
        if let Some(effect) = functions.and_then(|functions| functions.look_up(word, place)) {
            self.words |= if next == b'(' {
                effect.words
            } else {
                effect.words_of_mention()
            };
            self.names.extend(&effect.names);
        }
        if may_mean(word, place) {
            self.keyword(word);
        } else {
            if self.before == Key::Set {
                self.words |= Words::SET_SESSION;
            }
            self.before = Key::Other;
        }
        if !in_comment {
            self.at_start = false;
            self.untouched = false;
        }
    }

    fn watched(&mut self, byte: u8) {
        let goes_on = match &mut self.watch {
            Watch::Nothing => return,
            Watch::Name(naming) => naming.goes_on(byte),
            Watch::Call(arguments) => arguments.goes_on(byte),
            Watch::Escape => byte == b'&',
        };
        if !goes_on {
            self.end_watch(byte);
        }
    }

    fn begin_watch(&mut self, watch: Watch) {
        self.end_watch(0);
        self.watch = watch;
        self.is_watching = true;
    }

    #[cold]
    fn end_watch(&mut self, end: u8) {
        self.is_watching = false;
        match std::mem::replace(&mut self.watch, Watch::Nothing) {
            Watch::Nothing => (),
            // It may be any function's.
            Watch::Escape if end == b'"' => self.words |= Words::NAME_UNSEEN,
            Watch::Escape => (),
            Watch::Name(naming) => {
                self.words |= naming.words(end);
                if let Some(name) = naming.name(end) {
                    self.names.insert(name);
                }
            }
            Watch::Call(arguments) => {
                let (words, name) = arguments.result();
                self.words |= words;
                if let Some(name) = name {
                    self.names.insert(name);
                }
            }
        }
    }
}
