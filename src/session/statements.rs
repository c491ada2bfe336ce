//! Prepared statements at protocol level, in transaction pooling: what a client calls them, and what a server
//! session calls them.
//!
//! A client's name stands for a [`Statement`], shared by all clients of an endpoint that prepared the same text with
//! the same types under the same settings. On a server session it has a name of pgwake's own, and is put there when
//! it is first needed. What changes here changes when a request is sent; an [`Effect`] undoes it where the server
//! ignored the request. It sends nothing: `exchange` does.

mod aliases;
mod effect;
mod long;
mod room;
mod shape;
mod texts;
mod unnamed;
mod unsettled;

use std::{mem, sync::Arc};

use foldhash::{HashMap, HashSet};

use super::profile::Profile;
use super::words::{CustomNames, Words};

use aliases::Aliases;
pub(super) use effect::{Effect, Subject};
use long::Long;
pub(super) use room::Held;
pub(super) use shape::Shape;
pub(super) use texts::{OWN_NAMES, ServerName, Statement, Texts, next_serial};
use unnamed::Unnamed;
pub(super) use unsettled::{Place, SqlPrepared, Unsettled};

/// The serial of an unnamed statement that nobody knows: what is on the session may be a stranger's.
pub(super) const UNKNOWN: u64 = u64::MAX;

/// A client that has had more names than eight times as many, and has few now, does not hold their places.
const PLACES_KEPT: usize = 8;

/// A name that a client gave.
pub(super) type Name = Arc<[u8]>;

/// A client's statements.
#[derive(Debug, Default)]
pub(super) struct Statements {
    named: HashMap<Name, Meaning>,
    unnamed: Option<Box<Unnamed>>,
    /// A small unnamed statement's memory, to be used again.
    spare: Option<Box<Unnamed>>,
    /// Those that are on one session alone, which they keep.
    long: Long,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) struct Meaning {
    pub(super) statement: Arc<Statement>,
    /// What the client was told of its rows and parameters.
    pub(super) told: Shape,
    /// SQL may find it under this name on its client's session.
    is_aliased: bool,
}

/// A statement that is used, by the name that its client gave it.
#[derive(Debug, Clone)]
pub(super) struct Used {
    pub(super) statement: Arc<Statement>,
    pub(super) name: Name,
    pub(super) told: Shape,
}

/// What a text shows of what it does to its session.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) words: Words,
    /// Custom settings that it may name.
    pub(super) names: CustomNames,
    /// The functions that were known then.
    pub(super) functions: u64,
}

impl Seen {
    /// Whether it does nothing to its session, as far as it shows.
    pub(super) fn shows_nothing(&self) -> bool {
        self.words == Words::NONE && self.names.is_empty()
    }
}

/// The statements on a server session.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// By a statement's number.
    on: HashMap<u64, On>,
    /// Counts uses.
    clock: u64,
    /// What [`Prepared::clock`] was when the present batch began: its statements are not evicted.
    batch: u64,
    /// The batch that uses all of them: there is nothing to look for in it.
    all_used: Option<u64>,
    /// Serial of the unnamed statement; 0: there is none.
    pub(super) unnamed: u64,
    /// Whether pgwake's own BEGIN is there.
    pub(super) begin: bool,
    /// Under names that clients gave; to be closed before another client uses the session.
    pub(super) aliases: Aliases,
    /// Postgres reads their texts anew where they are used next, under the settings of then: to be closed before another
    /// client uses the session.
    is_outdated: bool,
}

/// A statement on a server session.
#[derive(Debug, Default)]
struct On {
    /// When it was used last.
    used: u64,
    /// What the server has told of its rows and parameters.
    shape: Shape,
    /// It was put there under settings that are not its own: nobody uses it but the turn that did so.
    is_foreign: bool,
}

impl Statements {
    /// What a name stands for.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Arc<Statement>> {
        self.named.get(name).map(|meaning| &meaning.statement)
    }

    /// The same with all that is known of it, to be kept.
    pub(super) fn use_of(&self, name: &[u8]) -> Option<Used> {
        let (name, meaning) = self.named.get_key_value(name)?;
        Some(Used {
            statement: meaning.statement.clone(),
            name: name.clone(),
            told: meaning.told,
        })
    }

    /// For a statement that does not suit these settings. Postgres reads a text anew where it is used under another search_path,
    /// and keeps to that: where nothing else has been set since, it is as if it had been prepared there.
    pub(super) fn read_anew(&mut self, used: &mut Used, profile: &Arc<Profile>) {
        let statement = &used.statement;
        if !statement.under.differs_by_path(profile) {
            return;
        }
        used.statement = statement.settled(profile.clone());
        if let Some(meaning) = self.named.get_mut(&used.name) {
            meaning.statement = used.statement.clone();
        }
    }

    /// The client has been told this of the statement that it calls so, the first time.
    pub(super) fn tell(&mut self, name: &[u8], statement: &Statement, shape: Shape) {
        if let Some(meaning) = self.named.get_mut(name)
            && meaning.statement.id == statement.id
        {
            meaning.told.learn(shape);
        }
    }

    /// How many names there are.
    pub(super) fn len(&self) -> usize {
        self.named.len()
    }

    /// The numbers of all that have a name on sessions.
    fn ids(&self) -> HashSet<u64> {
        let moved = self.unnamed.as_deref().and_then(|unnamed| unnamed.moved.as_ref());
        let named = self.named.values().map(|meaning| &meaning.statement);
        named.chain(moved).map(|statement| statement.id).collect()
    }

    /// A name stands for a statement from now on.
    pub(super) fn name(&mut self, name: &[u8], statement: Arc<Statement>) -> Name {
        let name: Name = name.into();
        let told = Shape::default();
        let meaning = Meaning {
            statement,
            told,
            is_aliased: false,
        };
        self.named.insert(name.clone(), meaning);
        name
    }

    /// SQL finds a statement under this name from now on.
    pub(super) fn alias(&mut self, name: &[u8]) {
        if let Some(meaning) = self.named.get_mut(name) {
            meaning.is_aliased = true;
        }
    }

    /// Whether SQL may find a statement under this name.
    pub(super) fn is_aliased(&self, name: &[u8]) -> bool {
        self.named.get(name).is_some_and(|meaning| meaning.is_aliased)
    }

    /// A name will stand for what only the session has. `None`: there are too many of these to know when they are gone.
    pub(super) fn prepare_long(&mut self, name: &Name) -> Option<Effect> {
        let is_known = self.long.prepares(name.clone());
        is_known.then(|| Effect::LongPrepared(name.clone()))
    }

    /// All of the one has been looked at that was sent last.
    pub(super) fn see_long(&mut self, seen: Seen) {
        self.long.see_last(seen);
    }

    /// Whether a name stands for one of these.
    pub(super) fn is_long(&self, name: &[u8]) -> bool {
        self.long.has(name)
    }

    /// Whether there are any.
    pub(super) fn has_long_named(&self) -> bool {
        !self.long.is_empty()
    }

    /// What one of them shows; without a name: what all of them do.
    pub(super) fn seen_of_long(&self, name: Option<&[u8]>) -> Seen {
        self.long.seen(name)
    }

    /// A name stands for nothing any more.
    pub(super) fn unname(&mut self, name: &[u8]) -> Effect {
        let Some((name, meaning)) = self.named.remove_entry(name) else {
            return Effect::Closed(name.into(), None);
        };
        if self.named.capacity() / 8 > self.named.len().max(PLACES_KEPT) {
            self.named.shrink_to(2 * self.named.len());
        }
        Effect::Closed(name, Some(meaning))
    }

    /// The same by a Close, which takes away what SQL calls so, too: from what is sent behind it on.
    pub(super) fn close(&mut self, name: &[u8], session: &mut Prepared) -> Effect {
        match (self.unname(name), session.aliases.remove(name)) {
            (Effect::Closed(_, meaning), Some(alias)) => Effect::ClosedWithAlias(alias, meaning),
            (effect, _) => effect,
        }
    }

    /// DISCARD ALL or DEALLOCATE ALL.
    pub(super) fn forget_named(&mut self) {
        self.named = HashMap::default();
        self.long.all_gone();
    }
}

impl Prepared {
    /// Whether a statement is there; if so, it counts as used now.
    pub(super) fn uses(&mut self, id: u64) -> bool {
        self.clock += 1;
        match self.on.get_mut(&id) {
            Some(on) => {
                on.used = self.clock;
                true
            }
            None => false,
        }
    }

    /// What is known of a statement's shape, if it is there.
    pub(super) fn shape(&self, id: u64) -> Option<Shape> {
        self.on.get(&id).map(|on| on.shape)
    }

    /// The server has told a statement's shape, or a part of it.
    pub(super) fn learn(&mut self, id: u64, shape: Shape) {
        if let Some(on) = self.on.get_mut(&id) {
            on.shape.learn(shape);
        }
    }

    /// A statement is put there.
    pub(super) fn put(&mut self, id: u64) {
        self.clock += 1;
        let used = self.clock;
        self.on.insert(
            id,
            On {
                used,
                ..On::default()
            },
        );
    }

    /// The same under settings that are not its own.
    pub(super) fn put_foreign(&mut self, id: u64) {
        self.put(id);
        if let Some(on) = self.on.get_mut(&id) {
            on.is_foreign = true;
        }
    }

    /// Whether it was put there so.
    pub(super) fn is_foreign(&self, id: u64) -> bool {
        self.on.get(&id).is_some_and(|on| on.is_foreign)
    }

    /// The server says that it is not there.
    pub(super) fn lost(&mut self, id: u64) {
        self.on.remove(&id);
    }

    /// A batch of requests ends: its statements may be evicted for those of the next.
    pub(super) fn end_batch(&mut self) {
        self.batch = self.clock;
    }

    /// Takes out those that were used longest ago, until there is room for one more among `max`; none that the present batch
    /// uses.
    pub(super) fn evict(&mut self, max: usize) -> Vec<u64> {
        let over = (self.on.len() + 1).saturating_sub(max);
        if over == 0 || self.all_used == Some(self.batch) {
            return Vec::new();
        }
        let old = self.on.iter().filter(|(_, on)| on.used <= self.batch);
        let mut old: Vec<_> = old.map(|(id, on)| (on.used, *id)).collect();
        if over < old.len() {
            old.select_nth_unstable(over);
            old.truncate(over);
        }
        if old.is_empty() {
            self.all_used = Some(self.batch);
        }
        old.iter().for_each(|(_, id)| _ = self.on.remove(id));
        old.into_iter().map(|(_, id)| id).collect()
    }

    /// Whether there are statements that are none of this client's.
    pub(super) fn shows_others(&self, own: &Statements) -> bool {
        let own = own.ids();
        self.begin || self.on.keys().any(|id| !own.contains(id))
    }

    /// Takes out those with numbers, which an error may leave there.
    pub(super) fn evict_others(&mut self, own: &Statements) -> Vec<u64> {
        let own = own.ids();
        let others = self.on.extract_if(|id, _| !own.contains(id));
        others.map(|(id, _)| id).collect()
    }

    /// Takes out all of them; what the server calls them.
    pub(super) fn take_others(&mut self, own: &Statements) -> Vec<Vec<u8>> {
        let others = self.evict_others(own).into_iter();
        let mut names: Vec<_> = others.map(|id| ServerName::of(id).as_bytes().to_vec()).collect();
        if mem::take(&mut self.begin) {
            names.push(OWN_NAMES.begin.to_vec());
        }
        names
    }

    /// Its client has had Postgres forget what it had made of their texts.
    pub(super) fn outdate(&mut self) {
        self.is_outdated = true;
    }

    /// Takes them out where that is so.
    pub(super) fn take_outdated(&mut self) -> Vec<ServerName> {
        if !mem::take(&mut self.is_outdated) {
            return Vec::new();
        }
        self.on.drain().map(|(id, _)| ServerName::of(id)).collect()
    }

    /// The server has none any more. Says whether it had some.
    pub(super) fn forget_all(&mut self) -> bool {
        let had_some = self.begin || !self.on.is_empty();
        self.forget_named();
        had_some
    }

    /// DISCARD ALL or DEALLOCATE ALL: everybody's are gone.
    pub(super) fn forget_named(&mut self) {
        self.on.clear();
        self.aliases = Aliases::default();
        (self.begin, self.is_outdated) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client that had closed 900 statements held 120 KB for as long as it was connected.
    #[test]
    fn a_client_that_has_few_names_again_holds_no_places_for_many() {
        let (mut client, texts) = (Statements::default(), Arc::new(Texts::default()));
        let statement = texts.statement(b"select 1\0\0\0", &Profile::of_startup(b"x"), Seen::default());
        let name = |number: u32| number.to_string().into_bytes();
        for number in 0..900 {
            client.name(&name(number), statement.clone());
        }
        (10..900).for_each(|number| drop(client.unname(&name(number))));
        assert!(client.named.capacity() < 128, "{}", client.named.capacity());
        assert_eq!(client.len(), 10);
        assert!((0..10).all(|number| client.get(&name(number)).is_some()));
    }
}
