//! The line of computes that are to be started: so many starts at once in the whole process, and the tenants take
//! turns by deficit round robin, so that one tenant's thousand sleeping endpoints do not keep another's one waiting.
//!
//! Plain data: `driver` locks it and starts who is called, the simulation runs it in virtual time. What a start costs is
//! how long the endpoint's last one took: a tenant whose computes start slowly has fewer turns, not longer ones. Those that
//! run on this machine take room there too, until they have stopped.

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

/// What a start takes beside its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Takes {
    /// A place among the computes that run on this machine, until it has stopped.
    Room,
    /// Nothing: it runs elsewhere.
    Nothing,
}

/// A place in the line, to leave it by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    takes: Takes,
    lane: Lane,
    number: u64,
}

/// Who waits to be started, how many are being started, and how many run on this machine.
#[derive(Debug)]
pub(super) struct Line<T> {
    at_once_max: usize,
    running: usize,
    /// Most that run on this machine; more may have run before pgwake came.
    awake_max: usize,
    awake: usize,
    numbers: u64,
    /// Those who take room, and those who do not: who waits for room keeps nobody waiting who needs none.
    local: Queue<T>,
    remote: Queue<T>,
    /// Who of the two was called last.
    last: Takes,
}

/// Who waits, in lanes that take turns.
#[derive(Debug)]
struct Queue<T> {
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
            awake_max: usize::MAX,
            awake: 0,
            numbers: 0,
            local: Queue::new(),
            remote: Queue::new(),
            last: Takes::Nothing,
        }
    }

    /// So many at once from now on; those beyond it go on.
    pub(super) fn set_at_once_max(&mut self, max: usize) {
        self.at_once_max = max;
    }

    /// So many may run on this machine from now on; those beyond it go on.
    pub(super) fn set_awake_max(&mut self, max: usize) {
        self.awake_max = max;
    }

    /// How many may be started at once.
    pub(super) fn at_once_max(&self) -> usize {
        self.at_once_max
    }

    /// How many may run on this machine, where somebody waits because so many do.
    pub(super) fn full_at(&self) -> Option<usize> {
        (self.lacking() > 0).then_some(self.awake_max)
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.local.waiting + self.remote.waiting
    }

    /// How many are being started.
    #[cfg(test)]
    pub(super) fn running(&self) -> usize {
        self.running
    }

    /// How many run on this machine, or are about to.
    pub(super) fn awake(&self) -> usize {
        self.awake
    }

    /// How many would have to go for those who wait to have room: no more than may be started at once.
    pub(super) fn lacking(&self) -> usize {
        let wanted = self.local.waiting.min(self.at_once_max);
        if wanted == 0 {
            return 0;
        }
        self.awake.saturating_add(wanted).saturating_sub(self.awake_max)
    }

    /// One more waits, at the end of its lane.
    pub(super) fn enter(&mut self, lane: Lane, cost: Duration, takes: Takes, what: T) -> Place {
        self.numbers += 1;
        let number = self.numbers;
        let cost = cost.clamp(COST_MIN, COST_MAX);
        self.queue(takes).enter(lane.clone(), number, (cost, what));
        Place { takes, lane, number }
    }

    /// One does not wait any more; nothing happens where it was called already.
    pub(super) fn leave(&mut self, place: &Place) {
        self.queue(place.takes).leave(place);
    }

    /// Calls the next, if another one may be started: it is being started until [`Line::ended`], and where it takes room
    /// it has that until [`Line::gone`].
    pub(super) fn call(&mut self) -> Option<(T, Takes)> {
        if self.running >= self.at_once_max {
            return None;
        }
        let order = match self.last {
            Takes::Room => [Takes::Nothing, Takes::Room],
            Takes::Nothing => [Takes::Room, Takes::Nothing],
        };
        let called = order.into_iter().find_map(|takes| {
            let is_full = takes == Takes::Room && self.awake >= self.awake_max;
            let called = if is_full { None } else { self.queue(takes).next() };
            called.map(|called| (called, takes))
        })?;
        self.last = called.1;
        self.running += 1;
        if called.1 == Takes::Room {
            self.came();
        }
        Some(called)
    }

    /// A start has come to its end.
    pub(super) fn ended(&mut self) {
        self.running -= 1;
    }

    /// One runs on this machine, called or not.
    pub(super) fn came(&mut self) {
        self.awake += 1;
    }

    /// One does not run on this machine any more.
    pub(super) fn gone(&mut self) {
        self.awake -= 1;
    }

    fn queue(&mut self, takes: Takes) -> &mut Queue<T> {
        match takes {
            Takes::Room => &mut self.local,
            Takes::Nothing => &mut self.remote,
        }
    }
}

impl<T> Queue<T> {
    fn new() -> Self {
        Self {
            lanes: HashMap::new(),
            order: VecDeque::new(),
            waiting: 0,
        }
    }

    fn enter(&mut self, lane: Lane, number: u64, entry: (Duration, T)) {
        self.waiting += 1;
        let waiting = self.lanes.entry(lane.clone()).or_insert_with(|| {
            self.order.push_back(lane);
            Waiting {
                entries: BTreeMap::new(),
                deficit: Duration::ZERO,
                is_served: false,
            }
        });
        waiting.entries.insert(number, entry);
    }

    fn leave(&mut self, place: &Place) {
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

    fn call(line: &mut Line<&'static str>) -> Option<&'static str> {
        line.call().map(|(called, _)| called)
    }

    fn all(line: &mut Line<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| call(line).inspect(|_| line.ended())).collect()
    }

    #[test]
    fn a_thousand_of_one_tenant_do_not_keep_another_ones_one_waiting() {
        let mut line = line(2);
        for _ in 0..1000 {
            line.enter(tenant("acme"), SECOND, Takes::Nothing, "acme");
        }
        assert_eq!(
            (call(&mut line), call(&mut line), call(&mut line)),
            (Some("acme"), Some("acme"), None)
        );
        line.enter(tenant("zoo"), SECOND, Takes::Nothing, "zoo");
        line.ended();
        let next: Vec<_> = all(&mut line).into_iter().take(2).collect();
        assert!(next.contains(&"zoo"), "{next:?}");
    }

    #[test]
    fn who_starts_slowly_has_fewer_turns() {
        let mut line = line(1);
        for _ in 0..20 {
            line.enter(tenant("slow"), 4 * SECOND, Takes::Nothing, "slow");
            line.enter(tenant("quick"), SECOND, Takes::Nothing, "quick");
        }
        let first: Vec<_> = all(&mut line).into_iter().take(15).collect();
        let slow = first.iter().filter(|name| **name == "slow").count();
        assert_eq!(slow, 3, "{first:?}");
    }

    #[test]
    fn within_a_lane_it_goes_by_arrival_and_who_leaves_is_not_called() {
        let mut line = line(1);
        line.enter(None, SECOND, Takes::Nothing, "first");
        let second = line.enter(None, SECOND, Takes::Nothing, "second");
        line.enter(None, SECOND, Takes::Nothing, "third");
        line.leave(&second);
        line.leave(&second);
        assert_eq!(line.waiting(), 2);
        assert_eq!(all(&mut line), ["first", "third"]);
        assert_eq!(
            (
                line.waiting(),
                line.running(),
                line.remote.lanes.len(),
                line.remote.order.len()
            ),
            (0, 0, 0, 0)
        );
    }

    #[test]
    fn a_lane_that_was_empty_has_saved_nothing() {
        let mut line = line(1);
        line.enter(tenant("acme"), COST_MIN, Takes::Nothing, "acme");
        assert_eq!(all(&mut line), ["acme"]);
        for _ in 0..8 {
            line.enter(tenant("acme"), SECOND, Takes::Nothing, "acme");
            line.enter(tenant("zoo"), SECOND, Takes::Nothing, "zoo");
        }
        assert_eq!(all(&mut line)[..4], ["acme", "zoo", "acme", "zoo"]);
    }

    #[test]
    fn fewer_at_once_hold_for_the_next() {
        let mut line = line(3);
        for _ in 0..5 {
            line.enter(None, SECOND, Takes::Nothing, "one");
        }
        while line.call().is_some() {}
        line.set_at_once_max(1);
        line.ended();
        line.ended();
        assert_eq!(call(&mut line), None);
        line.ended();
        assert_eq!((call(&mut line), line.running()), (Some("one"), 1));
    }

    #[test]
    fn who_waits_for_room_keeps_nobody_waiting_who_needs_none() {
        let mut line = line(8);
        line.set_awake_max(2);
        for name in ["first", "second", "third", "fourth"] {
            line.enter(None, SECOND, Takes::Room, name);
        }
        line.enter(None, SECOND, Takes::Nothing, "elsewhere");
        let mut called: Vec<_> = std::iter::from_fn(|| call(&mut line)).collect();
        called.sort_unstable();
        assert_eq!(called, ["elsewhere", "first", "second"]);
        assert_eq!((line.awake(), line.lacking(), line.full_at()), (2, 2, Some(2)));
        line.ended();
        assert_eq!(call(&mut line), None, "it is started, and runs");
        line.gone();
        assert_eq!(call(&mut line), Some("third"));
        // One that ran before pgwake came has no room to wait for.
        line.came();
        assert_eq!((line.awake(), line.lacking()), (3, 2));
        line.set_awake_max(4);
        assert_eq!(call(&mut line), Some("fourth"));
        assert_eq!((line.lacking(), line.full_at()), (0, None));
    }

    #[test]
    fn no_more_need_to_go_than_may_be_started() {
        let mut line = line(1);
        line.set_awake_max(3);
        (0..3).for_each(|_| line.came());
        for _ in 0..5 {
            line.enter(None, SECOND, Takes::Room, "one");
        }
        assert_eq!(line.lacking(), 1);
    }
}
