//! What the machine does while others are started before it: it lines up, is called, or leaves where nobody wants it
//! woken any more. And how those who were held come in once it takes logins: in order, so many at once.

use tokio::time::Instant;

use super::{
    super::{idle::Weight, waiting::Ticket},
    Action, Machine, State,
};
use crate::ids::Generation;

impl Machine {
    /// It is to be woken. A server that is always there is started by nobody, and waits for nobody.
    pub(super) fn line_up(&mut self) {
        self.generation = self.generation.next();
        self.state = State::InLine;
        let generation = self.generation;
        self.act(Action::LineUp { generation });
    }

    pub(super) fn called(&mut self, generation: Generation, now: Instant) {
        if self.is_in_line(generation) {
            self.wanted_until = None;
            self.start(now);
        }
    }

    pub(super) fn left(&mut self, ticket: Ticket, now: Instant) {
        self.waiting.leave(ticket);
        self.give_up_if_unwanted(now);
    }

    pub(super) fn detached(&mut self, ticket: Ticket, until: Instant, now: Instant) {
        let was_wanted = self.waiting.leave(ticket).is_some_and(Weight::counts);
        // Elsewhere it runs, or is being started.
        if was_wanted && matches!(self.state, State::Inspecting | State::InLine | State::Suspending) {
            self.wanted_until = self.wanted_until.max(Some(until));
        }
        self.give_up_if_unwanted(now);
    }

    /// It is not woken for those who do not count: they are told as soon as they alone are left. A start that is under way
    /// goes on, and so does a look.
    pub(super) fn give_up_if_unwanted(&mut self, now: Instant) {
        self.wanted_until = self.wanted_until.filter(|until| *until > now);
        match self.state {
            State::InLine if !self.is_wanted() => self.leave_line(),
            // At rest somebody waits only while it is frozen.
            State::Suspending | State::Asleep | State::Failed if !self.is_wanted() => self.refuse_ignored(),
            _ => (),
        }
    }

    /// Whether somebody who counts waits for it to be started, or wants that without waiting.
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.has_counted() || self.wanted_until.is_some()
    }

    pub(super) fn leave_line(&mut self) {
        self.act(Action::LeaveLine);
        self.sleep();
    }

    /// Whether it waits for its turn under this generation.
    pub(in crate::wake) fn is_in_line(&self, generation: Generation) -> bool {
        generation == self.generation && matches!(self.state, State::InLine)
    }

    pub(super) fn arrived(&mut self, generation: Generation) {
        self.change_leases(generation, |leases, _| leases.arrived());
        if generation == self.generation {
            self.let_in();
        }
    }

    /// Lets those who are held log in, in the order of arrival and no faster than the compute takes them: one more for
    /// each that has.
    pub(super) fn let_in(&mut self) {
        let State::Ready(mut leases) = self.state else {
            return;
        };
        while leases.arriving < self.rules.logins_at_once.max(1)
            && let Some((ticket, weight)) = self.waiting.take_first()
        {
            leases.grant_arriving(weight);
            self.act(Action::Grant { ticket });
        }
        self.state = State::Ready(leases);
    }
}
