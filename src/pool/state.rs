//! Where every server session of an endpoint is: lent, kept, resting, or on its way out.
//!
//! What is under the endpoint's lock. It decides, and does no I/O: sessions that are to be closed are handed back to
//! be buried without the lock. Who calls: `endpoint_pool`, `sweep` and `closing`.

use std::{
    collections::{BTreeMap, HashMap},
    hash::BuildHasherDefault,
};

use tokio::time::Instant;

use super::{
    PoolKey, PoolRules,
    closing::{Doomed, Goodbye},
    figures::{CloseReason, Counts},
    kept::{Kept, Ticket},
    key::{KeyHasher, Startup},
    register::{Idle, Pooled, Register},
    rights::Slot,
    session::{Fresh, PooledSession},
    sweep::SweepPlan,
};
use crate::ids::Generation;
use crate::runtime::threads::Mark;

/// How many resting sessions are looked at for one that suits, and how many kept ones that suit for one that is here.
const LOOKS_MAX: usize = 8;

/// All sessions of an endpoint.
pub(super) struct State<C: Send + 'static> {
    pub(super) rules: PoolRules,
    /// How many sessions may exist now: `rules.size`, or less while the server has no room.
    pub(super) ceiling: usize,
    /// Until when the ceiling is lower.
    pub(super) lowered_until: Option<Instant>,
    /// How often all sessions were retired or outdated.
    pub(super) epoch: u64,
    /// The epoch in which all were retired last: sessions of earlier ones are closed. Those between it and the present
    /// one are outdated: their clients keep them, and nobody else gets them.
    pub(super) retired_in: u64,
    /// When the sweeper looks again; `None`: there is none.
    pub(super) next_sweep: Option<Instant>,
    pub(super) counts: Counts,
    /// Who waits for a slot.
    pub(super) slot_waiting: usize,
    /// How many of them nobody has been closed for yet.
    slot_unserved: usize,
    pub(super) registers: HashMap<PoolKey, Register<C>, BuildHasherDefault<KeyHasher>>,
    pub(super) variants: HashMap<Startup, Variant>,
    pub(super) kept: Kept<(Idle, Pooled<C>)>,
    /// Sessions whose sockets are still open, by their ids.
    pub(super) closings: BTreeMap<u64, PoolKey>,
    /// Sessions in the registers.
    registered: usize,
    last_number: u64,
}

/// Where a session goes that comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// To the client that used it.
    Kept,
    /// To anybody.
    Resting,
}

/// What is to be done after a session came back.
pub(super) struct Back<C> {
    /// What it is found by if it is kept; there may be nothing behind it.
    pub(super) ticket: Ticket,
    pub(super) doomed: Vec<Doomed<C>>,
    pub(super) plan: SweepPlan,
}

/// One set of startup settings.
pub(super) struct Variant {
    /// Lower came earlier.
    number: u64,
    registers: usize,
}

impl<C: Send + 'static> State<C> {
    pub(super) fn new(rules: PoolRules) -> Self {
        Self {
            ceiling: rules.size,
            rules,
            lowered_until: None,
            epoch: 0,
            retired_in: 0,
            next_sweep: None,
            counts: Counts::default(),
            slot_waiting: 0,
            slot_unserved: 0,
            registers: HashMap::default(),
            variants: HashMap::new(),
            kept: Kept::new(),
            closings: BTreeMap::new(),
            registered: 0,
            last_number: 0,
        }
    }

    /// Takes a fresh session in and lends it.
    pub(super) fn adopt(&mut self, key: &PoolKey, slot: Slot, fresh: Fresh<C>) -> Pooled<C> {
        let session = Box::new(PooledSession::new(self.number(), key, slot, fresh));
        self.counts.adopted += 1;
        self.registered += 1;
        if !self.registers.contains_key(key) {
            let number = self.number();
            let startup = key.shared_startup().clone();
            let variant = self.variants.entry(startup);
            variant.or_insert(Variant { number, registers: 0 }).registers += 1;
        }
        let register = self.registers.entry(key.clone()).or_insert_with(Register::new);
        register.hand_in(session)
    }

    /// Takes a lent session back, unless its time is over.
    pub(super) fn give_back(&mut self, pooled: Pooled<C>, stay: Stay, now: Instant) -> Back<C> {
        let number = self.number();
        let ends = pooled.session().facts.age.end(self.rules.lifetime);
        let reason = match stay {
            Stay::Kept => None,
            Stay::Resting => self.is_outdated(pooled.session()).then_some(CloseReason::Retired),
        };
        if let Some(reason) = reason.or_else(|| self.must_go(pooled.session(), now, ends)) {
            return Back {
                ticket: Ticket::NOTHING,
                doomed: self.doom(pooled, reason, Goodbye::Said).into_iter().collect(),
                plan: SweepPlan::AsPlanned,
            };
        }
        let idle = Idle {
            number,
            since: now,
            age: pooled.session().facts.age,
            spared_until: pooled.session().facts.spared_until,
            thread: pooled.session().facts.thread,
        };
        let ticket = match stay {
            Stay::Kept => self.kept.push(number, (idle, pooled)),
            Stay::Resting => {
                self.register_of(&pooled).put_to_rest(pooled, idle);
                Ticket::NOTHING
            }
        };
        let due = self.due(now, ends);
        Back {
            ticket,
            doomed: self.make_room(),
            plan: self.plan_sweep(due),
        }
    }

    /// Puts a kept session to rest, if it is still there; an outdated one is to be buried.
    pub(super) fn rest_kept(&mut self, ticket: &Ticket) -> Option<Doomed<C>> {
        let (mut idle, pooled) = self.kept.take(ticket)?;
        if self.is_outdated(pooled.session()) {
            return self.doom(pooled, CloseReason::Retired, Goodbye::Said);
        }
        idle.number = self.number();
        idle.spared_until = None;
        self.register_of(&pooled).put_to_rest(pooled, idle);
        None
    }

    /// Lends a kept session, if it is still there.
    pub(super) fn take_kept(&mut self, ticket: &Ticket) -> Option<Pooled<C>> {
        let (_, pooled) = self.kept.take(ticket)?;
        self.counts.kept_taken += 1;
        Some(pooled)
    }

    /// Lends the resting session of this key that was used last and suits; of the last few rather one that was polled on this
    /// thread.
    pub(super) fn take_resting(&mut self, key: &PoolKey, suits: &impl Fn(&C) -> bool) -> Option<Pooled<C>> {
        let register = self.registers.get_mut(key)?;
        let here = Mark::here();
        let found = register.take_latest_of(LOOKS_MAX, suits, |idle| idle.thread == here);
        self.counts.resting_taken += u64::from(found.is_some());
        found
    }

    /// Lends the session of this key that has been kept longest and suits; of the first few rather one that is polled on
    /// this thread.
    pub(super) fn steal(&mut self, key: &PoolKey, suits: &impl Fn(&C) -> bool) -> Option<Pooled<C>> {
        let suits = |session: &PooledSession<C>| {
            session.key() == key && !self.is_outdated(session) && suits(&session.carried)
        };
        let kept = self
            .kept
            .iter()
            .map(|(ticket, (_, pooled))| (ticket, pooled.session()));
        let mut suitable = kept.filter(|(_, session)| suits(session)).take(LOOKS_MAX);
        let (first, session) = suitable.next()?;
        let here = Mark::here();
        let is_here = |session: &PooledSession<C>| session.facts.thread == here;
        let other = match is_here(session) {
            true => None,
            false => suitable.find(|(_, session)| is_here(session)),
        };
        let ticket = other.map_or(first, |(ticket, _)| ticket);
        drop(suitable);
        let (_, pooled) = self.kept.take(&ticket)?;
        self.counts.stolen += 1;
        Some(pooled)
    }

    /// Whether one is kept that has this key and suits.
    pub(super) fn keeps(&self, key: &PoolKey, suits: &impl Fn(&C) -> bool) -> bool {
        let mut kept = self.kept.iter().map(|(_, (_, pooled))| pooled.session());
        kept.any(|session| session.key() == key && suits(&session.carried))
    }

    /// Takes a lent session out of the register, to be buried.
    pub(super) fn doom(
        &mut self,
        mut pooled: Pooled<C>,
        reason: CloseReason,
        goodbye: Goodbye,
    ) -> Option<Doomed<C>> {
        let session = pooled.take_out()?;
        drop(pooled);
        self.strike(session.key(), session.generation(), reason);
        self.closings.insert(session.facts.id, session.key().clone());
        Some(Doomed { session, goodbye })
    }

    /// Notes that a lent session is not in the register any more.
    pub(super) fn strike(&mut self, key: &PoolKey, generation: Generation, reason: CloseReason) {
        self.counts.count_closed(reason);
        // Its slot goes to who waits for one, unless the limit was lowered: then it goes.
        if self.registered <= self.ceiling {
            self.slot_unserved = self.slot_unserved.saturating_sub(1);
        }
        self.registered -= 1;
        let Some(register) = self.registers.get_mut(key) else {
            return;
        };
        register.left(generation);
        if register.total() > 0 {
            return;
        }
        self.registers.remove(key);
        if let Some(variant) = self.variants.get_mut(key.shared_startup()) {
            variant.registers -= 1;
            if variant.registers == 0 {
                self.variants.remove(key.shared_startup());
            }
        }
    }

    /// Takes all idle sessions that are picked, to be buried.
    pub(super) fn doom_idle(
        &mut self,
        reason: CloseReason,
        pick: impl Fn(&PoolKey, &Idle) -> bool,
    ) -> Vec<Doomed<C>> {
        let kept = self.kept.iter();
        let tickets: Vec<Ticket> = kept
            .filter(|(_, (idle, pooled))| pick(pooled.session().key(), idle))
            .map(|(ticket, _)| ticket)
            .collect();
        let mut lent: Vec<Pooled<C>> = Vec::new();
        for ticket in tickets {
            lent.extend(self.kept.take(&ticket).map(|(_, pooled)| pooled));
        }
        for (key, register) in &mut self.registers {
            lent.extend(register.take_where(|idle| pick(key, idle)));
        }
        lent.into_iter()
            .filter_map(|pooled| self.doom(pooled, reason, Goodbye::Said))
            .collect()
    }

    /// Takes the idle sessions that were used least recently, where there are too many or somebody waits for a slot.
    pub(super) fn make_room(&mut self) -> Vec<Doomed<C>> {
        let mut doomed = Vec::new();
        while self.registered > self.ceiling || self.slot_unserved > 0 {
            match self.evict() {
                Some(evicted) => doomed.push(evicted),
                None => break,
            }
        }
        doomed
    }

    /// Takes the idle session that was used least recently.
    pub(super) fn evict(&mut self) -> Option<Doomed<C>> {
        let oldest_kept = self.oldest_kept(Instant::now());
        let resting = self.registers.iter();
        let oldest_resting = resting
            .filter_map(|(key, register)| Some((register.resting().back()?.number, key)))
            .min_by_key(|(number, _)| *number);
        let pooled = match (oldest_kept, oldest_resting) {
            (kept, Some((number, key)))
                if kept
                    .as_ref()
                    .is_none_or(|(_, kept, is_spared)| *is_spared || number < *kept) =>
            {
                let key = key.clone();
                let register = self.registers.get_mut(&key)?;
                register.take_where(|idle| idle.number == number).pop()?
            }
            (kept, _) => self.kept.take(&kept?.0)?.1,
        };
        self.doom(pooled, CloseReason::Evicted, Goodbye::Said)
    }

    /// The session that was kept first, with its number, and whether it is spared: then all are.
    fn oldest_kept(&self, now: Instant) -> Option<(Ticket, u64, bool)> {
        let is_free = |idle: &Idle| idle.spared_until.is_none_or(|until| until <= now);
        let free = self.kept.iter().find(|(_, (idle, _))| is_free(idle));
        let is_spared = free.is_none();
        let (ticket, (idle, _)) = free.or_else(|| self.kept.iter().next())?;
        Some((ticket, idle.number, is_spared))
    }

    /// Somebody waits for a slot from now on.
    pub(super) fn slot_wanted(&mut self) {
        self.slot_waiting += 1;
        self.slot_unserved += 1;
    }

    /// Somebody has got one, or has given up.
    pub(super) fn slot_settled(&mut self) {
        self.slot_waiting -= 1;
        self.slot_unserved = self.slot_unserved.min(self.slot_waiting);
    }

    /// A session's socket is closed.
    pub(super) fn closed(&mut self, id: u64) {
        self.closings.remove(&id);
    }

    pub(super) fn registered(&self) -> usize {
        self.registered
    }

    pub(super) fn has_live(&self, key: &PoolKey, generation: Generation) -> bool {
        self.registers
            .get(key)
            .is_some_and(|register| register.has(generation))
    }

    /// Everything that waits for anybody, seen from outside.
    pub(super) fn idle(&self) -> impl Iterator<Item = &Idle> {
        let kept = self.kept.iter().map(|(_, (idle, _))| idle);
        kept.chain(self.registers.values().flat_map(Register::resting))
    }

    /// Whether it was opened before something changed that a new one would begin with.
    fn is_outdated(&self, session: &PooledSession<C>) -> bool {
        session.facts.slot.epoch != self.epoch
    }

    /// Why a lent session, whose time ends then, is not to stay.
    fn must_go(&self, session: &PooledSession<C>, now: Instant, ends: Instant) -> Option<CloseReason> {
        if session.facts.slot.epoch < self.retired_in {
            return Some(CloseReason::Retired);
        }
        if now >= ends {
            return Some(CloseReason::Lifetime);
        }
        self.is_variant_too_many(session.key())
            .then_some(CloseReason::Variants)
    }

    /// Whether there are too many different startup settings, and these are among the youngest.
    fn is_variant_too_many(&self, key: &PoolKey) -> bool {
        let most = self.rules.startup_variants_max;
        if self.variants.len() <= most {
            return false;
        }
        let Some(ours) = self.variants.get(key.shared_startup()) else {
            return true;
        };
        let older = self
            .variants
            .values()
            .filter(|variant| variant.number < ours.number);
        older.count() >= most
    }

    fn register_of(&mut self, pooled: &Pooled<C>) -> &mut Register<C> {
        let register = self.registers.get_mut(pooled.session().key());
        register.expect("a session that is not on its way out is in its register")
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }
}
