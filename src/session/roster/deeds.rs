//! What clients have done, added up for those who look: sums that never fall, whoever leaves and whatever is forgotten.
//!
//! Plain data. Called by `roster`, under its lock for those who look.

use std::{collections::HashMap, ops::AddAssign, time::Duration};

use crate::ids::EndpointName;

/// What has passed between clients and their servers, or between them and pgwake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Passed {
    /// Bytes from them.
    pub bytes_in: u64,
    /// Bytes to them.
    pub bytes_out: u64,
    /// What they asked: each Query, Execute and FunctionCall.
    pub queries: u64,
}

impl AddAssign for Passed {
    fn add_assign(&mut self, other: Self) {
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.queries += other.queries;
    }
}

/// What clients have done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deeds {
    /// Bytes, and what they asked.
    pub passed: Passed,
    /// How often they began to work: turns of transaction pooling, and what is one in session pooling.
    pub turns: u64,
    /// How long they have worked, each pause within a transaction included.
    pub active: Duration,
    /// How long they have waited for their compute or a server session.
    pub waiting: Duration,
}

impl AddAssign for Deeds {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.turns += other.turns;
        self.active += other.active;
        self.waiting += other.waiting;
    }
}

impl Deeds {
    /// The more of each.
    fn or_more(self, other: Self) -> Self {
        Self {
            passed: Passed {
                bytes_in: self.passed.bytes_in.max(other.passed.bytes_in),
                bytes_out: self.passed.bytes_out.max(other.passed.bytes_out),
                queries: self.passed.queries.max(other.passed.queries),
            },
            turns: self.turns.max(other.turns),
            active: self.active.max(other.active),
            waiting: self.waiting.max(other.waiting),
        }
    }
}

/// What all clients have done so far.
#[derive(Debug, Clone, Default)]
pub struct Done {
    /// At each endpoint.
    pub by_endpoint: HashMap<EndpointName, Deeds>,
    /// Everywhere, also where there is no endpoint any more.
    pub all: Deeds,
}

/// What was told to those who look: the next one is not told less.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: Done,
    /// What was done at endpoints that are forgotten.
    forgotten: Deeds,
}

impl Told {
    /// What was done at each endpoint by now. Whoever looks may see somebody who leaves among those who have left and among
    /// those who are here: then it is told too early, and never taken back.
    pub(super) fn next(&mut self, mut by_endpoint: HashMap<EndpointName, Deeds>) -> Done {
        let mut all = self.forgotten;
        for (name, deeds) in &mut by_endpoint {
            all += *deeds;
            let last = self.last.by_endpoint.get(name).copied();
            *deeds = deeds.or_more(last.unwrap_or_default());
        }
        let all = all.or_more(self.last.all);
        self.last = Done { by_endpoint, all };
        self.last.clone()
    }

    /// There is no such endpoint any more, and this is what was done there.
    pub(super) fn forget(&mut self, endpoint: &EndpointName, deeds: Deeds) {
        self.forgotten += deeds;
        self.last.by_endpoint.remove(endpoint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_never_told_as_less() {
        let deeds = |turns| Deeds {
            turns,
            ..Deeds::default()
        };
        let [shop, old] = ["shop", "old"].map(|name| EndpointName::parse(name).unwrap());
        let mut told = Told::default();
        let mut next = |done: &[(&EndpointName, u64)]| {
            let done = done.iter().map(|(name, turns)| ((*name).clone(), deeds(*turns)));
            let done = told.next(done.collect());
            let of = |name| done.by_endpoint.get(name).map(|deeds: &Deeds| deeds.turns);
            (of(&shop), of(&old), done.all.turns)
        };
        assert_eq!(next(&[(&shop, 3), (&old, 10)]), (Some(3), Some(10), 13));
        // Somebody was seen twice.
        assert_eq!(next(&[(&shop, 2), (&old, 10)]), (Some(3), Some(10), 13));
        told.forget(&old, deeds(10));
        let mut next = |done: &[(&EndpointName, u64)]| {
            let done = done.iter().map(|(name, turns)| ((*name).clone(), deeds(*turns)));
            told.next(done.collect()).all.turns
        };
        assert_eq!(next(&[(&shop, 4)]), 14);
        assert_eq!(next(&[(&shop, 4), (&old, 1)]), 15, "it has come again");
    }
}
