//! What happens to a pool from outside: new rules, a suspend, roles that changed, a server that has no room; and what
//! is told of it.

use std::{collections::HashSet, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    EndpointPool, PoolKey, PoolRules,
    closing::{Doomed, Goodbye},
    endpoint_pool::Shared,
    figures::{CloseReason, PoolFigures},
    lent::Lent,
    session::later,
    state::State,
};
use crate::ids::Generation;

/// How long the ceiling stays lowered after a server said that it has no room (53300): the sessions of others that
/// fill it live for seconds, and each try costs the server a fork.
const LOWERED_FOR: Duration = Duration::from_secs(5);

impl<C: Send + 'static> EndpointPool<C> {
    /// Puts other rules in force. Where fewer sessions may exist, idle ones are closed now and others as they come
    /// back.
    pub fn set_rules(&self, rules: PoolRules) {
        let rules = rules.at_least_one();
        let mut state = self.0.lock();
        let (old_ceiling, old_connects) = (state.ceiling, state.rules.connects_at_once);
        state.ceiling = rules.size;
        state.lowered_until = None;
        state.rules = rules;
        let (ceiling, connects) = (state.ceiling, state.rules.connects_at_once);
        let doomed = state.make_room();
        drop(state);
        self.0.grow(ceiling.saturating_sub(old_ceiling));
        self.0.shrink(old_ceiling.saturating_sub(ceiling));
        self.0.connects.grow(connects.saturating_sub(old_connects));
        self.0.connects.shrink(old_connects.saturating_sub(connects));
        self.0.bury(doomed);
        self.0.alarm.notify_one();
    }

    /// Closes all kept and resting sessions, and waits until they are gone: before the compute is suspended, and at
    /// the end. At most about a second. Cancel safe: it goes on in the background.
    pub async fn close_idle(&self) {
        let closing = self.begin_closing_idle();
        self.gone(closing).await;
    }

    /// The same, and those that are lent are closed when they come back, all but this one.
    pub async fn close_all_but(&self, spared: &mut Lent<C>) {
        {
            let mut state = self.0.lock();
            state.retire();
            spared.facts.slot.epoch = state.epoch;
        }
        self.close_idle().await;
    }

    /// Since when the idle session waits that was used longest ago, if there is one.
    pub fn idle_since(&self) -> Option<Instant> {
        self.0.lock().idle().map(|idle| idle.since).min()
    }

    /// Closes the idle session that was used longest ago, if there is one, and waits until it is gone. Cancel safe: it
    /// goes on in the background.
    pub async fn close_oldest_idle(&self) {
        let evicted = self.0.lock().evict();
        let closing = evicted.iter().map(|doomed| doomed.session.facts.id).collect();
        self.0.bury(evicted);
        self.gone(closing).await;
    }

    /// The same for the sessions in one database, which can neither be dropped nor renamed nor copied while any is
    /// there (55006). Those that are lent stay. Cancel safe: it goes on in the background.
    pub async fn close_database(&self, database: &Bytes) {
        let closing = self.begin_closing_database(database);
        self.gone(closing).await;
    }

    /// What the server lets its roles do, or what a session begins with, has changed: sessions that were opened before
    /// that go on for the clients that have them, as sessions of Postgres do, and reach nobody else. Those that rest are
    /// closed in the background, the others when their clients leave them.
    pub fn outdate(&self) {
        let doomed = self.0.lock().outdate();
        self.0.bury(doomed);
    }

    /// All sessions that are there are closed, idle ones in the background, lent ones when they come back.
    pub fn retire(&self) {
        let mut state = self.0.lock();
        state.retire();
        let doomed = state.doom_idle(CloseReason::Retired, |_, _| true);
        drop(state);
        self.0.bury(doomed);
    }

    /// Lends nothing from now on; who wants a session waits. Those that are lent stay so.
    pub fn pause(&self) {
        self.0.pause.begin();
    }

    /// Lends again.
    pub fn resume(&self) {
        self.0.pause.end();
    }

    /// A role has another credential now: its idle sessions that were opened with one that is `outdated` are closed, in
    /// the background.
    pub fn retire_credentials(&self, role: &str, outdated: impl Fn(u64) -> bool) {
        let is_outdated = |key: &PoolKey| key.role() == role && outdated(key.credential());
        let doomed = self
            .0
            .lock()
            .doom_idle(CloseReason::Retired, |key, _| is_outdated(key));
        self.0.bury(doomed);
    }

    /// The server has no room for one more session (53300): no more than those that are there are tried for some
    /// seconds. Whoever failed gives back its slot and its permit, and waits for a permit like everybody else.
    pub fn lower_to_live(&self) {
        let until = later(Instant::now(), LOWERED_FOR);
        let mut state = self.0.lock();
        let cut = state.lower(until);
        let plan = state.plan_sweep(until);
        drop(state);
        self.0.shrink(cut);
        self.0.follow(plan);
    }

    /// Whether any session of this key and generation is there: lent, kept or resting.
    pub fn has_live(&self, key: &PoolKey, generation: Generation) -> bool {
        self.0.lock().has_live(key, generation)
    }

    /// How many sessions are there: lent, kept and resting.
    pub fn live(&self) -> usize {
        self.0.lock().registered()
    }

    /// How things stand.
    pub fn figures(&self) -> PoolFigures {
        PoolFigures {
            waiting: self.waiting(),
            is_paused: self.0.pause.is_on(),
            waits: self.0.waits.figures(),
            ..self.0.lock().figures()
        }
    }

    /// Answers with all sessions that are on their way out.
    fn begin_closing_idle(&self) -> Vec<u64> {
        let mut state = self.0.lock();
        let doomed = state.doom_idle(CloseReason::Suspended, |_, _| true);
        // After a wake the server has room again.
        let grown = state.restore();
        let closing = state.closings(None);
        drop(state);
        self.0.grow(grown);
        self.0.bury(doomed);
        self.0.alarm.notify_one();
        closing
    }

    /// Answers with all sessions in the database that are on their way out.
    fn begin_closing_database(&self, database: &Bytes) -> Vec<u64> {
        let mut state = self.0.lock();
        let doomed = state.doom_idle(CloseReason::Database, |key, _| key.database() == database);
        let closing = state.closings(Some(database));
        drop(state);
        self.0.bury(doomed);
        closing
    }

    /// Waits until the sockets of these sessions are closed.
    async fn gone(&self, sessions: Vec<u64>) {
        let mut sessions: HashSet<u64> = sessions.into_iter().collect();
        loop {
            // Before the look, so that no end is missed in between.
            let mut one_more = std::pin::pin!(self.0.gone.notified());
            one_more.as_mut().enable();
            self.0.keep_closing(&mut sessions);
            if sessions.is_empty() {
                return;
            }
            one_more.await;
        }
    }
}

impl<C: Send + 'static> Shared<C> {
    /// Leaves only those whose sockets are still open.
    fn keep_closing(&self, sessions: &mut HashSet<u64>) {
        let state = self.lock();
        sessions.retain(|id| state.is_closing(*id));
    }
}

impl<C: Send + 'static> State<C> {
    /// Whether that session's socket is still open.
    pub(super) fn is_closing(&self, id: u64) -> bool {
        self.closings.contains_key(&id)
    }

    /// Sessions on their way out, of one database or of all.
    pub(super) fn closings(&self, database: Option<&Bytes>) -> Vec<u64> {
        let wanted = |key: &PoolKey| database.is_none_or(|database| key.database() == database);
        let closings = self.closings.iter().filter(|(_, key)| wanted(key));
        closings.map(|(id, _)| *id).collect()
    }

    /// All sessions are to be closed, those that are lent when they come back.
    pub(super) fn retire(&mut self) {
        self.epoch += 1;
        self.retired_in = self.epoch;
    }

    /// Only their own clients use the sessions that are there; those that rest are to be buried.
    pub(super) fn outdate(&mut self) -> Vec<Doomed<C>> {
        self.epoch += 1;
        let resting = self.registers.values_mut();
        let lent: Vec<_> = resting
            .flat_map(|register| register.take_where(|_| true))
            .collect();
        lent.into_iter()
            .filter_map(|pooled| self.doom(pooled, CloseReason::Retired, Goodbye::Said))
            .collect()
    }

    /// Lowers the ceiling to what exists. Answers by how much.
    fn lower(&mut self, until: Instant) -> usize {
        let cut = self.ceiling.saturating_sub(self.registered().max(1));
        self.ceiling -= cut;
        self.lowered_until = Some(until);
        cut
    }

    /// Lifts a lowered ceiling. Answers by how much.
    pub(super) fn restore(&mut self) -> usize {
        self.lowered_until = None;
        let grown = self.rules.size.saturating_sub(self.ceiling);
        self.ceiling += grown;
        grown
    }

    /// A login that was under way when the ceiling was lowered has had success: the server has room for it. Answers by
    /// how much the ceiling was lifted.
    pub(super) fn found_room(&mut self) -> usize {
        let ceiling = self.registered().min(self.rules.size);
        let grown = ceiling.saturating_sub(self.ceiling);
        self.ceiling += grown;
        grown
    }
}
