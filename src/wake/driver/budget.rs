//! Wakes and awake computes, counted where they are decided: under the endpoint's lock, by whoever causes one.

use tokio::time::Instant;

use super::super::{
    idle::Weight,
    state::{Machine, Rules},
};
use crate::tenant::quota::{ClientPermit, OverLimit, Permit, WakeBudget};

/// Who asks for a lease.
#[derive(Clone, Copy)]
pub(in crate::wake) struct Client<'a> {
    /// What it counts in; `None`: pgwake itself, which nothing refuses.
    pub(in crate::wake) permit: Option<&'a ClientPermit>,
    pub(in crate::wake) weight: Weight,
    pub(in crate::wake) entry: Entry,
}

/// Whether an operator's order to let nobody in is about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in crate::wake) enum Entry {
    /// It comes.
    Comes,
    /// It was let in before, by another pgwake.
    IsIn,
}

/// What one endpoint's compute counts in.
pub(in crate::wake) struct Budget {
    /// `None`: a server that is always there is nobody's.
    budget: Option<WakeBudget>,
    /// It is awake, or about to be.
    awake: Option<Permit>,
}

impl Budget {
    pub(in crate::wake) fn new(budget: WakeBudget, rules: Rules) -> Self {
        Self {
            budget: rules.startable.then_some(budget),
            awake: None,
        }
    }

    /// Somebody asks for a lease. Where he is held, the place for that is returned; where he causes a wake, it is charged.
    pub(in crate::wake) fn asked(
        &mut self,
        machine: &Machine,
        Client { permit, weight, .. }: Client<'_>,
        now: Instant,
    ) -> Result<Option<Permit>, OverLimit> {
        let Some(client) = permit.filter(|_| machine.would_hold(weight, now)) else {
            return Ok(None);
        };
        // First: who finds no place causes no wake.
        let waits = Some(client.hold()?);
        let Some(budget) = &self.budget else {
            return Ok(waits);
        };
        if machine.waiting_counted() > 0 || !machine.would_wake(weight, now) {
            return Ok(waits);
        }
        // One that is being stopped is awake until it has stopped, and keeps its place for the next wake.
        let place = match &self.awake {
            Some(_) => None,
            None => budget.take()?,
        };
        client.take_wake()?;
        self.awake = self.awake.take().or(place);
        Ok(waits)
    }

    /// The machine has come to another state.
    pub(in crate::wake) fn follow(&mut self, machine: &Machine) {
        if machine.is_at_rest() {
            self.awake = None;
        } else if self.awake.is_none() && !machine.is_looking() {
            self.awake = self.budget.as_ref().and_then(WakeBudget::count);
        }
    }
}
