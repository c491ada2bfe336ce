//! What a client's session carries from one turn to the next: settings, role, statements of SQL's PREPARE.
//!
//! Asked of Postgres (`capture`), compared, and brought to another server session (`apply`). What cannot be moved is
//! in [`Pins`]. No I/O: bytes to send and messages that came; the turn sends and reads. Which settings there are
//! and what they mean is not known here.

pub(super) mod apply;
pub(super) mod capture;
pub(super) mod functions;
pub(super) mod pins;
mod repeat;

use std::{
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Arc, LazyLock},
};

use super::reported::Reported;
use super::statements::Name;
use super::words::{CustomNames, FunctionWords, Words};
pub(super) use pins::Pins;

/// The setting that every session has its own of, and that is in no pool's key.
pub(super) const APPLICATION_NAME: &[u8] = b"application_name";

/// Fingerprints mean nothing outside this process, and no client can aim at one.
static FINGERPRINTS: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// What a session carries beyond what it was started with. Immutable, shared, quick to compare.
#[derive(Debug)]
pub(super) struct Profile {
    /// Sorted by name; custom settings in lower case.
    settings: Vec<Setting>,
    session_authorization: Option<Box<[u8]>>,
    role: Option<Box<[u8]>>,
    /// Sorted by name.
    statements: Vec<Statement>,
    fingerprint: u64,
    settings_fingerprint: u64,
    parser_fingerprint: u64,
}

/// Where Postgres looks for what names mean.
const SEARCH_PATH: &[u8] = b"search_path";

/// A setting and its value, as Postgres tells it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Setting {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// A statement of SQL's PREPARE.
#[derive(Debug, Clone)]
pub(super) struct Statement {
    name: Box<[u8]>,
    /// The PREPARE; `None` where it cannot be said again.
    text: Option<Box<[u8]>>,
    /// What it was prepared under: literals took their values then. Settings alone; equal ones are shared.
    under: Arc<Profile>,
}

impl PartialEq for Statement {
    fn eq(&self, other: &Self) -> bool {
        let settings = |statement: &Self| statement.under.settings_fingerprint;
        self.name == other.name && self.text == other.text && settings(self) == settings(other)
    }
}

impl Eq for Statement {}

impl Hash for Statement {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.name, &self.text, self.under.settings_fingerprint).hash(state);
    }
}

/// What a server session carries.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    /// Its own state, which may be its client's but for application_name.
    pub(super) profile: Arc<Profile>,
    /// What the last client left in it.
    pub(super) pins: Pins,
    /// More may be set than Postgres shows: custom settings whose names nobody saw. No client but the last one may
    /// find them.
    pub(super) hides: bool,
}

impl Profile {
    /// Of a session that has only been started, by a client with this application_name.
    pub(super) fn of_startup(application_name: &[u8]) -> Arc<Self> {
        Arc::new(Self::new(
            vec![Setting::new(APPLICATION_NAME, application_name)],
            None,
            None,
        ))
    }

    fn new(
        mut settings: Vec<Setting>,
        session_authorization: Option<Box<[u8]>>,
        role: Option<Box<[u8]>>,
    ) -> Self {
        settings.sort_by(|one, other| one.name.cmp(&other.name));
        let matters: Vec<_> = settings.iter().filter(|setting| setting.matters()).collect();
        let settings_fingerprint = FINGERPRINTS.hash_one((&matters, &session_authorization, &role));
        let built_in = matters.iter().filter(|setting| !setting.is_custom());
        let built_in: Vec<_> = built_in.collect();
        let parser_fingerprint = FINGERPRINTS.hash_one((&built_in, &session_authorization, &role));
        let mut profile = Self {
            settings,
            session_authorization,
            role,
            statements: Vec::new(),
            fingerprint: 0,
            settings_fingerprint,
            parser_fingerprint,
        };
        profile.fingerprint = profile.whole_fingerprint();
        profile
    }

    /// The same without statements.
    fn settings_only(&self) -> Self {
        let settings = self.settings.clone();
        Self::new(settings, self.session_authorization.clone(), self.role.clone())
    }

    fn with_statements(mut self, mut statements: Vec<Statement>) -> Self {
        statements.sort_by(|one, other| one.name.cmp(&other.name));
        self.statements = statements;
        self.fingerprint = self.whole_fingerprint();
        self
    }

    /// The same with another value of one setting.
    fn with_setting(&self, name: &[u8], value: &[u8]) -> Self {
        let others = self.settings.iter().filter(|setting| *setting.name != *name);
        let settings = others.cloned().chain([Setting::new(name, value)]).collect();
        Self::new(settings, self.session_authorization.clone(), self.role.clone())
            .with_statements(self.statements.clone())
    }

    /// The same as it was while the server reported other values than `now`: of what was set for a transaction alone.
    pub(super) fn as_reported(self: &Arc<Self>, then: &Reported, now: &Reported) -> Arc<Self> {
        let mut differing = then.other_meaning(now).peekable();
        if differing.peek().is_none() {
            return self.clone();
        }
        let others = |profile: Self, (name, value): (&[u8], &[u8])| profile.with_setting(name, value);
        Arc::new(differing.fold(self.settings_only(), others))
    }

    /// Without the statements at these places.
    pub(super) fn without_statements(&self, places: &[usize]) -> Self {
        let statements = self.statements.iter().enumerate();
        let kept = statements.filter(|(place, _)| !places.contains(place));
        self.settings_only()
            .with_statements(kept.map(|(_, statement)| statement.clone()).collect())
    }

    fn whole_fingerprint(&self) -> u64 {
        FINGERPRINTS.hash_one((
            &self.settings,
            &self.session_authorization,
            &self.role,
            &self.statements,
        ))
    }

    /// Whether both carry the same.
    pub(super) fn is_same(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        Arc::ptr_eq(self, other) || (self.fingerprint == other.fingerprint && self.equals(other))
    }

    fn equals(&self, other: &Self) -> bool {
        self.settings == other.settings
            && self.session_authorization == other.session_authorization
            && self.role == other.role
            && self.statements == other.statements
    }

    /// Says which sessions give a statement the same meaning when it is parsed: equal under equal settings and roles.
    pub(super) fn settings_fingerprint(&self) -> u64 {
        self.settings_fingerprint
    }

    /// The same for a statement without string constants: what its names and operators mean depends on Postgres' own
    /// settings and on roles alone.
    pub(super) fn parser_fingerprint(&self) -> u64 {
        self.parser_fingerprint
    }

    /// Whether the search_path alone makes a difference to what a statement means.
    pub(super) fn differs_by_path(&self, other: &Self) -> bool {
        let matters = |setting: &&Setting| setting.matters() && *setting.name != *SEARCH_PATH;
        let (own, others) = (self.settings.iter(), other.settings.iter());
        own.filter(matters).eq(others.filter(matters))
            && (&self.session_authorization, &self.role) == (&other.session_authorization, &other.role)
            && self.setting(SEARCH_PATH) != other.setting(SEARCH_PATH)
    }

    /// The same without custom settings of other names than these: whoever else has prepared a statement has had some that are
    /// none of its client's.
    pub(super) fn with_names_of(self: &Arc<Self>, names: &CustomNames) -> Arc<Self> {
        let is_known = |setting: &&Setting| !setting.is_custom() || names.contains(&setting.name);
        if self.settings.iter().all(|setting| is_known(&setting)) {
            return self.clone();
        }
        let settings = self.settings.iter().filter(is_known).cloned().collect();
        Arc::new(Self::new(
            settings,
            self.session_authorization.clone(),
            self.role.clone(),
        ))
    }

    /// A setting's value; `None` where it is what the session was started with.
    pub(super) fn setting(&self, name: &[u8]) -> Option<&[u8]> {
        let at = self
            .settings
            .binary_search_by(|setting| (*setting.name).cmp(name));
        at.ok().map(|at| &*self.settings[at].value)
    }

    /// Whether SQL has prepared a statement of this name.
    pub(super) fn has_statement(&self, name: &[u8]) -> bool {
        self.statement(name).is_some()
    }

    fn statement(&self, name: &[u8]) -> Option<&Statement> {
        let by_name = |statement: &Statement| (*statement.name).cmp(name);
        let at = self.statements.binary_search_by(by_name);
        at.ok().map(|at| &self.statements[at])
    }

    /// The names of statements that SQL has prepared and `other` has not.
    pub(super) fn lacking_in(self: &Arc<Self>, other: &Arc<Self>) -> Vec<Name> {
        if Arc::ptr_eq(self, other) {
            return Vec::new();
        }
        let missing = self.statements.iter();
        let missing = missing.filter(|statement| !other.has_statement(&statement.name));
        missing.map(|statement| Name::from(&*statement.name)).collect()
    }

    /// The statement that SQL has prepared under this name: its text, and what it was prepared under.
    pub(super) fn prepared(&self, name: &[u8]) -> Option<(&[u8], &Arc<Self>)> {
        let statement = self.statement(name)?;
        Some((statement.text.as_deref()?, &statement.under))
    }

    /// The same with those statements of `other` that have these names.
    pub(super) fn with_statements_of(self: &Arc<Self>, other: &Self, names: &[Name]) -> Arc<Self> {
        if names.is_empty() {
            return self.clone();
        }
        let is_named = |statement: &&Statement| names.iter().any(|name| **name == *statement.name);
        let added = other.statements.iter().filter(is_named);
        let statements = self.statements.iter().chain(added).cloned().collect();
        Arc::new(self.settings_only().with_statements(statements))
    }

    /// The custom settings among them: a server session that this profile was brought to has had their names.
    pub(super) fn names(&self) -> CustomNames {
        let mut names = CustomNames::default();
        self.settings
            .iter()
            .for_each(|setting| names.insert(&setting.name));
        names
    }

    /// What SQL's EXECUTE may run: to be added to the words of a statement that says EXECUTE.
    pub(super) fn statement_words(&self, functions: Option<&FunctionWords>) -> Words {
        let texts = self
            .statements
            .iter()
            .filter_map(|statement| statement.text.as_deref());
        // A PREPARE within it is no other PREPARE.
        texts.fold(Words::NONE, |words, text| words | Words::of(text, functions))
    }

    /// To be added to the words of every statement: with this search_path, `CREATE TABLE` may make a temporary one.
    pub(super) fn standing_words(&self) -> Words {
        let path = self.setting(SEARCH_PATH).unwrap_or_default();
        let names_temp = path.windows(7).any(|part| part.eq_ignore_ascii_case(b"pg_temp"));
        if names_temp { Words::PG_TEMP } else { Words::NONE }
    }

    /// How much memory it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let mut seen = Vec::new();
        let mut bytes = self.settings_bytes();
        for Statement { name, text, under } in &self.statements {
            bytes += name.len() + text.as_deref().map_or(0, <[u8]>::len);
            if !seen.contains(&under.fingerprint) {
                seen.push(under.fingerprint);
                bytes += under.settings_bytes();
            }
        }
        bytes
    }

    fn settings_bytes(&self) -> usize {
        let bytes = |setting: &Setting| setting.name.len() + setting.value.len();
        self.settings.iter().map(bytes).sum()
    }
}

impl Setting {
    fn new(name: &[u8], value: &[u8]) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }

    fn is_custom(&self) -> bool {
        self.name.contains(&b'.')
    }

    /// Whether it can matter to what a statement means.
    fn matters(&self) -> bool {
        let is_bare_name = self.value.is_empty() && self.name.contains(&b'.');
        !(matches!(
            &*self.name,
            b"application_name" | b"client_min_messages" | b"work_mem"
        ) || self.name.ends_with(b"_timeout")
            || is_bare_name)
    }
}

impl Carried {
    /// By a session that has only been started. What its application_name is matters only where it is not `profile`'s.
    pub(super) fn fresh(profile: Arc<Profile>) -> Self {
        Self {
            profile,
            pins: Pins::NONE,
            hides: false,
        }
    }
}

#[cfg(test)]
mod tests;
