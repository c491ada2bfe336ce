//! Wakes and awake computes, counted where they are decided: under the endpoint's lock, by whoever causes one.

use tokio::time::Instant;

use super::super::state::{Machine, Rules};
use crate::tenant::quota::{ClientPermit, OverLimit, Permit, WakeBudget};

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

    /// Somebody asks for a lease, beside `held` who wait for one. Where he is held, the place for that is returned; where
    /// he causes a wake, it is charged. Without a client it is pgwake's own, which nothing refuses.
    pub(in crate::wake) fn asked(
        &mut self,
        machine: &Machine,
        held: usize,
        client: Option<&ClientPermit>,
        now: Instant,
    ) -> Result<Option<Permit>, OverLimit> {
        let Some(client) = client.filter(|_| machine.would_hold(now)) else {
            return Ok(None);
        };
        // First: who finds no place causes no wake.
        let waits = Some(client.hold()?);
        let Some(budget) = &self.budget else {
            return Ok(waits);
        };
        if held > 0 || !machine.would_wake(now) {
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
