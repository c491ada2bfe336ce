//! The line of computes that are to be started: so many starts at once in the whole process, and the tenants take
//! turns by deficit round robin, so that one tenant's thousand sleeping endpoints do not keep another's one waiting.
//!
//! Plain data: `driver` locks it and starts who is called, the simulation runs it in virtual time. What a start costs is
//! how long the endpoint's last one took: a tenant whose computes start slowly has fewer turns, not longer ones.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use crate::ids::TenantName;

/// What a lane may spend each time that it is its turn: about what a compute with a little to recover takes.
pub(super) const QUANTUM: Duration = Duration::from_secs(1);
/// A start is never counted for less: ten quick ones cost the machine more than one slow one waits for its disk.
const COST_MIN: Duration = Duration::from_millis(250);
/// Nor for more, or a compute that once took a minute would be passed sixty times.
pub(super) const COST_MAX: Duration = Duration::from_secs(8);

/// Whose lane: a tenant's; `None`: pgwake's own.
pub(super) type Lane = Option<TenantName>;

/// A place in the line, to leave it by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    lane: Lane,
    number: u64,
}

/// Who waits to be started, and how many are being started.
#[derive(Debug)]
pub(super) struct Line<T> {
    at_once_max: usize,
    running: usize,
    numbers: u64,
    lanes: HashMap<Lane, Waiting<T>>,
    /// The lanes in which somebody waits, each once; the first is served next.
    order: VecDeque<Lane>,
    waiting: usize,
}

/// One lane; it is there only while somebody waits in it.
#[derive(Debug)]
struct Waiting<T> {
    entries: BTreeMap<u64, (Duration, T)>,
    /// What it may still spend.
    deficit: Duration,
    /// Whether it has had its quantum for this turn.
    is_served: bool,
}

impl<T> Line<T> {
    /// Nobody waits, and nothing is limited.
    pub(super) fn new() -> Self {
        Self {
            at_once_max: usize::MAX,
            running: 0,
            numbers: 0,
            lanes: HashMap::new(),
            order: VecDeque::new(),
            waiting: 0,
        }
    }

    /// So many at once from now on; those beyond it go on.
    pub(super) fn set_at_once_max(&mut self, max: usize) {
        self.at_once_max = max;
    }

    /// How many may be started at once.
    pub(super) fn at_once_max(&self) -> usize {
        self.at_once_max
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many are being started.
    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// One more waits, at the end of its lane.
    pub(super) fn enter(&mut self, lane: Lane, cost: Duration, what: T) -> Place {
        self.numbers += 1;
        self.waiting += 1;
        let number = self.numbers;
        let waiting = self.lanes.entry(lane.clone()).or_insert_with(|| {
            self.order.push_back(lane.clone());
            Waiting {
                entries: BTreeMap::new(),
                deficit: Duration::ZERO,
                is_served: false,
            }
        });
        let cost = cost.clamp(COST_MIN, COST_MAX);
        waiting.entries.insert(number, (cost, what));
        Place { lane, number }
    }

    /// One does not wait any more; nothing happens where it was called already.
    pub(super) fn leave(&mut self, place: &Place) {
        let Some(waiting) = self.lanes.get_mut(&place.lane) else {
            return;
        };
        if waiting.entries.remove(&place.number).is_some() {
            self.waiting -= 1;
        }
        if waiting.entries.is_empty() {
            self.lanes.remove(&place.lane);
            self.order.retain(|lane| *lane != place.lane);
        }
    }

    /// Calls the next, if another one may be started: it is being started until [`Line::ended`].
    pub(super) fn call(&mut self) -> Option<T> {
        if self.running >= self.at_once_max {
            return None;
        }
        let called = self.next()?;
        self.running += 1;
        Some(called)
    }

    /// A start has come to its end.
    pub(super) fn ended(&mut self) {
        self.running -= 1;
    }

    /// Comes to an end: each round gives every lane its quantum, and no start costs more than [`COST_MAX`].
    fn next(&mut self) -> Option<T> {
        loop {
            let lane = self.order.front()?;
            let waiting = self
                .lanes
                .get_mut(lane)
                .expect("a lane in the order is there, and somebody waits in it");
            if !waiting.is_served {
                waiting.is_served = true;
                waiting.deficit += QUANTUM;
            }
            if let Some(called) = waiting.spend() {
                self.waiting -= 1;
                if waiting.entries.is_empty() {
                    // What it did not spend is lost: who comes back later has saved nothing.
                    self.lanes.remove(lane);
                    self.order.pop_front();
                }
                return Some(called);
            }
            waiting.is_served = false;
            self.order.rotate_left(1);
        }
    }
}

impl<T> Waiting<T> {
    /// Its first, if it can pay for it.
    fn spend(&mut self) -> Option<T> {
        let first = self.entries.first_entry()?;
        self.deficit = self.deficit.checked_sub(first.get().0)?;
        Some(first.remove().1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn tenant(name: &str) -> Lane {
        Some(TenantName::parse(name).unwrap())
    }

    fn line(at_once_max: usize) -> Line<&'static str> {
        let mut line = Line::new();
        line.set_at_once_max(at_once_max);
        line
    }

    fn all(line: &mut Line<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| line.call().inspect(|_| line.ended())).collect()
    }

    #[test]
    fn a_thousand_of_one_tenant_do_not_keep_another_ones_one_waiting() {
        let mut line = line(2);
        for _ in 0..1000 {
            line.enter(tenant("acme"), SECOND, "acme");
        }
        assert_eq!(
            (line.call(), line.call(), line.call()),
            (Some("acme"), Some("acme"), None)
        );
        line.enter(tenant("zoo"), SECOND, "zoo");
        line.ended();
        let next: Vec<_> = all(&mut line).into_iter().take(2).collect();
        assert!(next.contains(&"zoo"), "{next:?}");
    }

    #[test]
    fn who_starts_slowly_has_fewer_turns() {
        let mut line = line(1);
        for _ in 0..20 {
            line.enter(tenant("slow"), 4 * SECOND, "slow");
            line.enter(tenant("quick"), SECOND, "quick");
        }
        let first: Vec<_> = all(&mut line).into_iter().take(15).collect();
        let slow = first.iter().filter(|name| **name == "slow").count();
        assert_eq!(slow, 3, "{first:?}");
    }

    #[test]
    fn within_a_lane_it_goes_by_arrival_and_who_leaves_is_not_called() {
        let mut line = line(1);
        line.enter(None, SECOND, "first");
        let second = line.enter(None, SECOND, "second");
        line.enter(None, SECOND, "third");
        line.leave(&second);
        line.leave(&second);
        assert_eq!(line.waiting(), 2);
        assert_eq!(all(&mut line), ["first", "third"]);
        assert_eq!(
            (line.waiting(), line.running(), line.lanes.len(), line.order.len()),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn a_lane_that_was_empty_has_saved_nothing() {
        let mut line = line(1);
        line.enter(tenant("acme"), COST_MIN, "acme");
        assert_eq!(all(&mut line), ["acme"]);
        for _ in 0..8 {
            line.enter(tenant("acme"), SECOND, "acme");
            line.enter(tenant("zoo"), SECOND, "zoo");
        }
        assert_eq!(all(&mut line)[..4], ["acme", "zoo", "acme", "zoo"]);
    }

    #[test]
    fn fewer_at_once_hold_for_the_next() {
        let mut line = line(3);
        for _ in 0..5 {
            line.enter(None, SECOND, "one");
        }
        while line.call().is_some() {}
        line.set_at_once_max(1);
        line.ended();
        line.ended();
        assert_eq!(line.call(), None);
        line.ended();
        assert_eq!((line.call(), line.running()), (Some("one"), 1));
    }
}
