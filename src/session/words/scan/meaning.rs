//! What a keyword says of its statement, by the words before it.

use super::{Comment, Scan, Watch};
use crate::session::words::Words;
use crate::session::words::arguments::Arguments;
use crate::session::words::keyword::{After, Found, KEYWORD_BYTES_MAX, Key, look_up};
use crate::session::words::naming::{Kind, Naming};

impl Scan {
    /// Whether a statement begins here, as far as one can see.
    fn begins(&self) -> bool {
        self.at_start && self.comment == Comment::None
    }

    pub(super) fn keyword(&mut self, word: &[u8]) {
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
    pub(super) fn resolve_set(&mut self) {
        if self.before == Key::Set {
            self.words |= Words::SET_SESSION;
            self.before = Key::Other;
        }
    }
}
