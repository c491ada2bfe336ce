//! One pass over a statement's bytes, in whatever pieces they come.
//!
//! A word is a letter, `_` or a byte of a character beyond ASCII, and what follows of these and of digits. Everything
//! else is a gap; also `$`, so that the words behind `$$` and `$tag$` are seen. Quotes and comments are not
//! followed, because they cannot be without knowing the session's settings: words in them count, but for those of
//! a comment that the statement begins with.

use super::Words;
use super::arguments::Arguments;
use super::functions::FunctionWords;
use super::keyword::{After, Found, KEYWORD_BYTES_MAX, Key, look_up, may_mean, place};
use super::names::CustomNames;
use super::naming::{Kind, Naming, Short};

/// Longest part of a word that is kept from one piece to the next: longer than any name in Postgres.
const WORD_BYTES_MAX: usize = 64;

/// What a byte is: of a word where this bit is set.
const INSIDE: u8 = 1;
/// It ends a gap, or may mean something in it.
const STOPS: u8 = 2;
const PLAIN: u8 = 0;
const DIGIT: u8 = INSIDE;
const SPECIAL: u8 = STOPS;
const LETTER: u8 = INSIDE | STOPS;

const CLASSES: [u8; 256] = {
    let mut classes = [PLAIN; 256];
    let mut byte = 0_u8;
    loop {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => LETTER,
            b'0'..=b'9' => DIGIT,
            b';' | b'-' | b'/' | b'*' | b'\n' | b'\r' | b'&' => SPECIAL,
            _ => PLAIN,
        };
        if byte == u8::MAX {
            break classes;
        }
        byte += 1;
    }
};

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

    /// Where the next word begins; sees the gap before it.
    #[inline]
    fn word_start(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while at < bytes.len() {
            let byte = bytes[at];
            let class = CLASSES[usize::from(byte)];
            if class & STOPS != 0 {
                if class == LETTER {
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
        let outside = |byte: &u8| CLASSES[usize::from(*byte)] & INSIDE == 0;
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

    /// Whether a statement begins here, as far as one can see.
    fn begins(&self) -> bool {
        self.at_start && self.comment == Comment::None
    }

    fn keyword(&mut self, word: &[u8]) {
        let mut lower = [0; KEYWORD_BYTES_MAX];
        let lower = &mut lower[..word.len()];
        lower.copy_from_slice(word);
        lower.make_ascii_lowercase();
        let found = look_up(lower);
        let before = std::mem::take(&mut self.before);
        if before == Key::Set {
            match found {
                Some(Found::Local) => {
                    self.words |= Words::SET_LOCAL;
                    // One statement sets once: the word in its value is no other SET.
                    self.updates = true;
                }
                Some(Found::Exempt) => self.updates = true,
                _ => self.words |= Words::SET_SESSION,
            }
        }
        let opens = self.begins() || before == Key::Opener;
        match found {
            None | Some(Found::Exempt) => (),
            Some(Found::Local) => self.before = Key::Scope,
            Some(Found::Word(words)) => self.words |= words,
            Some(Found::First(words)) if opens => self.words |= words,
            Some(Found::First(_)) => (),
            Some(Found::Key(key)) => self.key(key, before),
            Some(Found::Both(words, key)) => {
                self.words |= words;
                self.key(key, before);
            }
            Some(Found::After(after)) => self.after(after, before),
            Some(Found::Updates) => self.updates = true,
            Some(Found::SettingsView) if self.updates => self.words |= Words::SET_CONFIG,
            Some(Found::SettingsView) => self.words |= Words::SETTINGS_VIEW,
        }
    }

    fn key(&mut self, key: Key, before: Key) {
        match key {
            // Where a statement begins it is one, whatever stands in a comment before it.
            Key::Set if self.updates && !self.at_start => return,
            Key::Set => self.begin_watch(Watch::Name(Naming::new(Kind::Set, self.begins()))),
            Key::Reset => self.begin_watch(Watch::Name(Naming::new(Kind::Reset, self.begins()))),
            Key::SetConfig if matches!(self.watch, Watch::Call(_)) => {
                self.words |= Words::SET_CONFIG | Words::NAME_UNSEEN
            }
            Key::SetConfig => self.begin_watch(Watch::Call(Arguments::START)),
            // What comes is another statement than the UPDATE before.
            Key::Opener => self.updates = false,
            Key::Change if before == Key::Commit => self.words |= Words::ON_COMMIT_DROP,
            Key::Change => self.updates = true,
            _ => (),
        }
        self.before = key;
    }

    fn after(&mut self, after: After, before: Key) {
        let is_behind = |keys: &[Key]| keys.contains(&before) || keys.contains(&self.before_comment);
        let defines = is_behind(&[Key::Create, Key::Change]);
        self.words |= match after {
            After::Temp if is_behind(&[Key::Create, Key::Into, Key::Scope]) => Words::TEMP,
            After::Hold if is_behind(&[Key::With]) => Words::HOLD,
            After::Database if defines => Words::DATABASE,
            After::Function if defines || is_behind(&[Key::TriggerKind]) => Words::FUNCTION_DDL,
            After::Role if defines => Words::ROLE_DDL,
            After::System if is_behind(&[Key::Change]) => Words::ALTER_SYSTEM,
            _ => Words::NONE,
        };
    }

    /// `set` was the last word of a statement.
    fn resolve_set(&mut self) {
        if self.before == Key::Set {
            self.words |= Words::SET_SESSION;
            self.before = Key::Other;
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
