//! The words that mean something, alone or together with the word before them.

use super::Words;

/// The longest word that is looked up.
pub(super) const KEYWORD_BYTES_MAX: usize = 40;

/// What a word means to the words behind it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Key {
    /// Nothing.
    #[default]
    Other,
    /// `set`, not of an UPDATE.
    Set,
    /// `reset`.
    Reset,
    /// `session`, `local`, `global`: between `set` or `create` and what it is about.
    Scope,
    /// `create`, `replace`.
    Create,
    /// `alter`, `drop`.
    Change,
    /// `into`.
    Into,
    /// `with`.
    With,
    /// `commit`.
    Commit,
    /// `constraint`, `event`: kinds of triggers.
    TriggerKind,
    /// A statement begins behind it: `begin`, `then`, `else`, `loop`, `execute`, `format`.
    Opener,
    /// `u`: behind it may come an identifier in Unicode escapes.
    Unicode,
    /// `set_config`.
    SetConfig,
}

/// What a word is, alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// It counts wherever it is.
    Word(Words),
    /// It counts where a statement begins.
    First(Words),
    /// It tells something about the words behind it.
    Key(Key),
    /// Both.
    Both(Words, Key),
    /// It counts behind one of certain words.
    After(After),
    /// `local`.
    Local,
    /// `transaction` or `constraints`: not about the session where `set` stands before it.
    Exempt,
    /// A SET behind it is not the statement: `update`, `alter`, `merge`.
    Updates,
    /// The view over settings: an update of it is a SET.
    SettingsView,
}

/// Words that count behind others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// `temp`.
    Temp,
    /// `hold`.
    Hold,
    /// `database`.
    Database,
    /// `function` and its like.
    Function,
    /// `role` and its like.
    Role,
    /// `system`.
    System,
}

/// How words begin that may end in any way.
const PG_TEMP: &[u8] = b"pg_temp";
const DBLINK_CONNECT: &[u8] = b"dblink_connect";

/// Looks up a word in lower case.
pub(super) fn look_up(word: &[u8]) -> Option<Found> {
    Some(match word {
        b"set" => Found::Key(Key::Set),
        b"reset" => Found::Key(Key::Reset),
        b"session" | b"global" => Found::Key(Key::Scope),
        b"local" => Found::Local,
        b"transaction" | b"constraints" => Found::Exempt,
        b"update" | b"merge" => Found::Updates,
        b"alter" | b"drop" => Found::Key(Key::Change),
        b"create" => Found::Both(Words::CREATE, Key::Create),
        b"replace" => Found::Key(Key::Create),
        b"into" => Found::Key(Key::Into),
        b"with" => Found::Key(Key::With),
        b"commit" => Found::Both(Words::COMMIT, Key::Commit),
        b"end" => Found::Word(Words::COMMIT),
        b"constraint" | b"event" => Found::Key(Key::TriggerKind),
        b"begin" | b"then" | b"else" | b"loop" | b"format" => Found::Key(Key::Opener),
        b"execute" => Found::Both(Words::EXECUTE, Key::Opener),
        b"u" => Found::Key(Key::Unicode),
        b"set_config" => Found::Key(Key::SetConfig),
        // Of pg_trgm: it sets one of that extension's settings.
        b"set_limit" => Found::Word(Words::SET_CONFIG),
        b"pg_settings" => Found::SettingsView,
        b"temp" | b"temporary" => Found::After(After::Temp),
        b"hold" => Found::After(After::Hold),
        b"database" => Found::After(After::Database),
        b"function" | b"procedure" | b"routine" | b"aggregate" | b"extension" | b"trigger" | b"rule" => {
            Found::After(After::Function)
        }
        b"role" | b"user" | b"group" => Found::After(After::Role),
        b"system" => Found::After(After::System),
        b"listen" => Found::First(Words::LISTEN),
        b"unlisten" => Found::First(Words::UNLISTEN),
        b"load" => Found::First(Words::LOAD),
        b"do" => Found::First(Words::DO),
        b"call" => Found::First(Words::CALL),
        b"grant" | b"revoke" | b"reassign" => Found::First(Words::GRANT),
        b"discard" => Found::First(Words::DISCARD),
        b"prepare" => Found::First(Words::PREPARE),
        b"deallocate" => Found::First(Words::DEALLOCATE),
        b"pg_advisory_lock"
        | b"pg_advisory_lock_shared"
        | b"pg_try_advisory_lock"
        | b"pg_try_advisory_lock_shared" => Found::Word(Words::ADVISORY),
        b"pg_advisory_unlock" | b"pg_advisory_unlock_shared" | b"pg_advisory_unlock_all" => {
            Found::Word(Words::ADVISORY_UNLOCK)
        }
        b"lastval" | b"currval" => Found::Word(Words::SEQUENCE_READ),
        b"pg_prepared_statements" | b"pg_prepared_statement" => Found::Word(Words::STATEMENTS_READ),
        b"nextval" | b"setval" => Found::Word(Words::NEXTVAL),
        b"setseed" => Found::Word(Words::SETSEED),
        b"seed" => Found::Word(Words::SEED),
        b"default" => Found::Word(Words::DEFAULT),
        b"query_to_xml"
        | b"query_to_xmlschema"
        | b"query_to_xml_and_xmlschema"
        | b"cursor_to_xml"
        | b"cursor_to_xmlschema"
        | b"ts_stat"
        | b"ts_rewrite" => Found::Word(Words::OBSCURE),
        b"pg_backup_start" | b"pg_start_backup" => Found::Word(Words::BACKUP),
        b"pg_backup_stop" | b"pg_stop_backup" => Found::Word(Words::BACKUP_END),
        b"pg_replication_origin_session_setup" => Found::Word(Words::ORIGIN),
        b"pg_create_physical_replication_slot"
        | b"pg_create_logical_replication_slot"
        | b"pg_copy_physical_replication_slot"
        | b"pg_copy_logical_replication_slot" => Found::Word(Words::SLOT),
        b"dynamic_library_path" | b"session_preload_libraries" => Found::Word(Words::HIDDEN_SETTING),
        word if word.starts_with(PG_TEMP) => Found::Word(Words::PG_TEMP),
        word if word.starts_with(DBLINK_CONNECT) => Found::Word(Words::DBLINK),
        _ => return None,
    })
}

/// Where a word stands in a [`Filter`]: by its length and three of its letters, whatever their case.
#[inline]
pub(super) const fn place(word: &[u8]) -> usize {
    let len = word.len();
    // Letters differ from capitals in this bit; what it does to other bytes is the same on both sides.
    let letters = [word[0] | 32, word[len / 2] | 32, word[len - 1] | 32, len as u8];
    (u32::from_le_bytes(letters).wrapping_mul(0x9e37_79b1) >> 20) as usize
}

/// Says of most words that they are not among those that were added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filter([u64; 64]);

impl Filter {
    pub(super) const EMPTY: Self = Self([0; 64]);

    pub(super) const fn add(&mut self, word: &[u8]) {
        let place = place(word);
        self.0[place / 64] |= 1 << (place % 64);
    }

    /// Whether a word of this place may be among them.
    #[inline]
    pub(super) fn may_have(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }
}

/// Every word of [`look_up`] but those that are told by their beginning.
const KEYWORDS: &[&str] = &[
    "set",
    "reset",
    "session",
    "global",
    "local",
    "transaction",
    "constraints",
    "update",
    "merge",
    "alter",
    "drop",
    "create",
    "replace",
    "into",
    "with",
    "commit",
    "end",
    "constraint",
    "event",
    "begin",
    "then",
    "else",
    "loop",
    "format",
    "execute",
    "u",
    "set_config",
    "set_limit",
    "pg_settings",
    "temp",
    "temporary",
    "hold",
    "database",
    "function",
    "procedure",
    "routine",
    "aggregate",
    "extension",
    "trigger",
    "rule",
    "role",
    "user",
    "group",
    "system",
    "listen",
    "unlisten",
    "load",
    "do",
    "call",
    "grant",
    "revoke",
    "reassign",
    "discard",
    "prepare",
    "deallocate",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_advisory_unlock_all",
    "lastval",
    "pg_prepared_statements",
    "pg_prepared_statement",
    "currval",
    "nextval",
    "setval",
    "setseed",
    "seed",
    "default",
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "cursor_to_xml",
    "cursor_to_xmlschema",
    "ts_stat",
    "ts_rewrite",
    "pg_backup_start",
    "pg_start_backup",
    "pg_backup_stop",
    "pg_stop_backup",
    "pg_replication_origin_session_setup",
    "pg_create_physical_replication_slot",
    "pg_create_logical_replication_slot",
    "pg_copy_physical_replication_slot",
    "pg_copy_logical_replication_slot",
    "dynamic_library_path",
    "session_preload_libraries",
];

static FILTER: Filter = {
    let mut filter = Filter::EMPTY;
    let mut at = 0;
    while at < KEYWORDS.len() {
        filter.add(KEYWORDS[at].as_bytes());
        at += 1;
    }
    filter
};

/// Whether a word, which stands at `place`, may be one that means something.
#[inline]
pub(super) fn may_mean(word: &[u8], place: usize) -> bool {
    let begins = |with: &[u8]| {
        word.get(..with.len())
            .is_some_and(|part| part.eq_ignore_ascii_case(with))
    };
    word.len() <= KEYWORD_BYTES_MAX
        && (FILTER.may_have(place)
            || match word[0] | 32 {
                b'p' => begins(PG_TEMP),
                b'd' => begins(DBLINK_CONNECT),
                _ => false,
            })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_passes_the_filter_and_is_found() {
        for word in KEYWORDS {
            assert!(look_up(word.as_bytes()).is_some(), "{word}");
            let upper = word.to_uppercase();
            assert!(may_mean(upper.as_bytes(), place(upper.as_bytes())), "{word}");
        }
    }

    #[test]
    fn words_told_by_their_beginning_are_found_whatever_their_end_and_their_case() {
        for word in [
            "pg_temp",
            "PG_TEMP_17",
            "pg_Temporary",
            "dblink_connect",
            "DBLINK_CONNECT_U",
        ] {
            assert!(may_mean(word.as_bytes(), place(word.as_bytes())), "{word}");
            assert!(look_up(word.to_lowercase().as_bytes()).is_some(), "{word}");
        }
        for word in ["pg_tem", "pgbench_accounts", "pg_", "dblink_connec", "d", "dbl"] {
            assert!(!may_mean(word.as_bytes(), place(word.as_bytes())), "{word}");
        }
    }

    #[test]
    fn every_word_that_is_looked_up_is_in_the_filter() {
        let source = include_str!("keyword.rs");
        let table = source.split("Some(match word {").nth(1).unwrap();
        let table = table.split("if word.starts_with").next().unwrap();
        let words: Vec<_> = table
            .split("b\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert_eq!(words.len(), KEYWORDS.len(), "{words:?}");
        assert!(words.iter().all(|word| KEYWORDS.contains(word)), "{words:?}");
    }
}
