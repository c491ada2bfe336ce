//! What the machine does while others are started before it: it lines up, is called, or leaves where nobody wants it
//! woken any more. And how those who were held come in once it takes logins: in order, so many at once.

use tokio::time::Instant;

use super::{super::waiting::Ticket, Action, Machine, State};
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
        self.leave_line_if_unwanted(now);
    }

    pub(super) fn detached(&mut self, ticket: Ticket, until: Instant, now: Instant) {
        let was_waiting = self.waiting.leave(ticket);
        // Elsewhere it runs, or is being started.
        if was_waiting && matches!(self.state, State::Inspecting | State::InLine | State::Suspending) {
            self.wanted_until = self.wanted_until.max(Some(until));
        }
        self.leave_line_if_unwanted(now);
    }

    pub(super) fn leave_line_if_unwanted(&mut self, now: Instant) {
        self.wanted_until = self.wanted_until.filter(|until| *until > now);
        if matches!(self.state, State::InLine) && !self.is_wanted() {
            self.leave_line();
        }
    }

    /// Whether somebody waits for it to be started, or wants that without waiting.
    pub(super) fn is_wanted(&self) -> bool {
        !self.waiting.is_empty() || self.wanted_until.is_some()
    }

    pub(super) fn leave_line(&mut self) {
        self.act(Action::LeaveLine);
        self.sleep();
    }

    /// Whether it waits for its turn under this generation.
    pub(in crate::wake) fn is_in_line(&self, generation: Generation) -> bool {
        generation == self.generation && matches!(self.state, State::InLine)
    }

    pub(super) fn arrived(&mut self, generation: Generation, now: Instant) {
        self.change_leases(generation, |leases, _| leases.arrived());
        if generation == self.generation {
            self.let_in(now);
        }
    }

    /// Lets those who are held log in, in the order of arrival and no faster than the compute takes them: one more for
    /// each that has.
    pub(super) fn let_in(&mut self, now: Instant) {
        let State::Ready(mut leases) = self.state else {
            return;
        };
        while leases.arriving < self.rules.logins_at_once.max(1)
            && let Some(ticket) = self.waiting.take_first()
        {
            leases.grant_arriving(now);
            self.act(Action::Grant { ticket });
        }
        self.state = State::Ready(leases);
    }
}
