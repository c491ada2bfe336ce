//! What sessions do with an endpoint: ask for leases, leave, work, rest, and give back.

use std::{
    sync::{Arc, MutexGuard},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{sync::oneshot, time::Instant};

use super::{
    super::{
        Admission,
        error::WakeError,
        idle::{Holding, Weight},
        lease::{Awake, AwakeLease, Waiting},
        state::{Event, Refusal},
        waiting::Ticket,
    },
    Driver,
    budget::{Client, Entry},
    inner::{Held, Inner, Verdict},
};
use crate::ids::Generation;

/// How a lease was held when it was dropped.
#[derive(Clone, Copy)]
pub(in crate::wake) struct Dropped {
    pub(in crate::wake) weight: Weight,
    pub(in crate::wake) holding: Holding,
    /// Its holder never logged in.
    pub(in crate::wake) was_arriving: bool,
    /// Where its holder worked.
    pub(in crate::wake) server_process: i32,
}

impl Driver {
    /// Asks for a lease. Where the compute is awake this is a lock, a step and nothing else.
    pub(in crate::wake) fn ask(self: &Arc<Self>, deadline: Instant, client: Client<'_>) -> Waiting {
        self.ask_under(self.lock(), deadline, client)
    }

    pub(super) fn ask_under(
        self: &Arc<Self>,
        mut inner: MutexGuard<'_, Inner>,
        deadline: Instant,
        client: Client<'_>,
    ) -> Waiting {
        let now = Instant::now();
        let weight = client.weight;
        if inner.admission == Admission::Disabled && client.entry == Entry::Comes {
            let (wake, others) = (inner.wake, inner.held.len());
            drop(inner);
            let error = self.error(Refusal::Disabled, Duration::ZERO, wake, others);
            return Waiting::answered(self.clone(), Err(error));
        }
        let place = match inner.charge(client, now) {
            Ok(place) => place,
            Err(over) => {
                drop(inner);
                return Waiting::answered(self.clone(), Err(WakeError::OverLimit(over)));
            }
        };
        let ticket = inner.next_ticket();
        match inner.ask((ticket, weight), deadline, now) {
            Verdict::Granted(awake) => {
                self.finish(inner);
                let lease = AwakeLease::warm(self.clone(), awake, weight);
                Waiting::answered(self.clone(), Ok(lease))
            }
            Verdict::Refused(refusal) => {
                let (wake, others) = (inner.wake, inner.held.len());
                self.finish(inner);
                let error = self.error(refusal, Duration::ZERO, wake, others);
                Waiting::answered(self.clone(), Err(error))
            }
            Verdict::Held => {
                let (sender, answer) = oneshot::channel();
                inner.held.insert(
                    ticket,
                    Held {
                        since: now,
                        weight,
                        answer: sender,
                        _place: place,
                    },
                );
                self.finish(inner);
                Waiting::held(self.clone(), ticket, answer)
            }
        }
    }

    /// A lease if there is one at once; wakes nothing.
    pub(in crate::wake) fn lease_now(self: &Arc<Self>, client: Client<'_>) -> Option<AwakeLease> {
        let mut inner = self.lock();
        if let Some(awake) = inner.grant_at_once(client.weight) {
            drop(inner);
            return Some(AwakeLease::warm(self.clone(), awake, client.weight));
        }
        let now = Instant::now();
        inner.machine.awake()?;
        if inner.machine.would_hold(client.weight, now) {
            return None;
        }
        self.ask_under(inner, now, client).now_or_never()?.ok()
    }

    /// One who waited left, and it is to be woken all the same.
    pub(in crate::wake) fn detach(self: &Arc<Self>, ticket: Ticket, until: Instant) {
        self.leave_by(ticket, Event::Detached { ticket, until });
    }

    /// One who waited left, or has its answer.
    pub(in crate::wake) fn leave(self: &Arc<Self>, ticket: Ticket) {
        self.leave_by(ticket, Event::Left { ticket });
    }

    fn leave_by(self: &Arc<Self>, ticket: Ticket, event: Event) {
        let mut inner = self.lock();
        let held = inner.held.remove(&ticket);
        if held.is_some() {
            inner.step(event);
        }
        self.finish(inner);
        drop(held);
    }

    /// A lease is held otherwise from now on.
    pub(in crate::wake) fn change_holding(self: &Arc<Self>, lease: &AwakeLease, holding: Holding) {
        let mut inner = self.lock();
        if lease.replace_holding(holding) == holding {
            return;
        }
        let (generation, weight) = (lease.generation(), lease.weight());
        if weight.counts() {
            inner.note_own(generation, lease.server_process(), holding);
        }
        if lease.take_arrival() {
            inner.step(Event::Arrived { generation });
        }
        inner.step(match holding {
            Holding::Active => Event::Resumed { generation, weight },
            Holding::Resting => Event::Rested { generation, weight },
        });
        self.finish(inner);
    }

    /// Whoever holds it, and does not count, works at a process of the server.
    pub(in crate::wake) fn note_process(self: &Arc<Self>, lease: &AwakeLease) {
        let (generation, process) = (lease.generation(), lease.server_process());
        self.lock().note_own(generation, process, Holding::Resting);
    }

    /// Whoever holds it has logged in.
    pub(in crate::wake) fn note_arrival(self: &Arc<Self>, lease: &AwakeLease) {
        let mut inner = self.lock();
        if lease.take_arrival() {
            let generation = lease.generation();
            inner.step(Event::Arrived { generation });
        }
        self.finish(inner);
    }

    /// A lease was dropped, by one who was still `arriving` or not.
    pub(in crate::wake) fn take_back(self: &Arc<Self>, generation: Generation, lease: Dropped) {
        let mut inner = self.lock();
        let Dropped { weight, holding, .. } = lease;
        inner.note_own(generation, lease.server_process, Holding::Active);
        if lease.was_arriving {
            inner.step(Event::Arrived { generation });
        } else if holding == Holding::Active && inner.machine.give_back_at_once(generation, weight) {
            return;
        }
        inner.step(Event::Returned {
            generation,
            weight,
            holding,
        });
        self.finish(inner);
    }
}

impl Inner {
    /// See [`Machine::grant_at_once`](super::super::state::Machine::grant_at_once).
    fn grant_at_once(&mut self, weight: Weight) -> Option<Arc<Awake>> {
        if self.admission == Admission::Disabled {
            return None;
        }
        let awake = self.awake.as_ref()?;
        self.machine.grant_at_once(weight).then(|| awake.clone())
    }

    /// A lease of this generation, whose holder works at this process of the server, keeps the compute from no sleep from now
    /// on, as one that rests; or does.
    fn note_own(&mut self, generation: Generation, process: i32, holding: Holding) {
        let is_current = self
            .awake
            .as_ref()
            .is_some_and(|awake| awake.generation == generation);
        match holding {
            _ if !is_current || process == 0 => false,
            Holding::Resting => self.own.insert(process),
            Holding::Active => !self.own.is_empty() && self.own.remove(&process),
        };
    }
}
