//! One scope's limits, and what it has used of them.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use arc_swap::{ArcSwap, ArcSwapOption};
use governor::{
    Quota as Cells, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use super::{
    Standing,
    count::Count,
    over::{OverLimit, Scope, Used},
    pace::{Pace, PaceUsed, nanoseconds},
};
use crate::config::{Quota, Rate};
use crate::ids::TenantName;

/// What there may be only so many of at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Clients that have logged in.
    Clients,
    /// Server sessions.
    ServerSessions,
    /// Clients that wait for a compute.
    Held,
    /// Computes that are awake.
    Awake,
}

/// What may happen only so often, and is asked for beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rated {
    /// Logins.
    Connects,
    /// Wakes.
    Wakes,
}

/// What may go on only so fast, and is counted as it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paced {
    /// Transactions.
    Transactions,
    /// Bytes that clients send.
    BytesIn,
    /// Bytes that clients get.
    BytesOut,
}

/// One scope.
#[derive(Debug)]
pub(super) struct Account {
    scope: Scope,
    since: Instant,
    rules: ArcSwap<Quota>,
    counts: [Count; 4],
    rates: [ArcSwapOption<Limiter>; 2],
    paces: [Pace; 3],
}

/// tokio's clock, so that paused time works.
#[derive(Debug, Clone, Copy)]
struct Since(Instant);

impl Clock for Since {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::from(nanoseconds(self.0.elapsed()))
    }
}

#[derive(Debug)]
struct Limiter {
    rate: Rate,
    /// What says whether all of it is there again: a whole period after it was last used.
    cells: RateLimiter<NotKeyed, InMemoryState, Since, NoOpMiddleware<Nanos>>,
    used: Pace,
}

impl Limiter {
    fn new(rate: Rate, since: Instant) -> Self {
        let count = NonZeroU32::new(rate.count).unwrap_or(NonZeroU32::MIN);
        let each = (rate.per / count.get()).max(Duration::from_nanos(1));
        let cells = Cells::with_period(each).expect("a nanosecond is no zero");
        let used = Pace::default();
        used.set(u64::from(count.get()), rate.per, 0);
        Self {
            rate,
            cells: RateLimiter::direct_with_clock(cells.allow_burst(count), Since(since)),
            used,
        }
    }
}

impl Account {
    /// With nothing used and no limit.
    pub(super) fn new(scope: Scope, since: Instant) -> Self {
        Self {
            scope,
            since,
            rules: ArcSwap::default(),
            counts: std::array::from_fn(|_| Count::new()),
            rates: std::array::from_fn(|_| ArcSwapOption::empty()),
            paces: std::array::from_fn(|_| Pace::default()),
        }
    }

    /// Puts these in force; what is used stays used.
    pub(super) fn set_rules(&self, rules: &Quota) {
        let counts = [
            (Counted::Clients, rules.clients_max),
            (Counted::ServerSessions, rules.server_sessions_max),
            (Counted::Held, rules.held_clients_max),
            (Counted::Awake, rules.computes_awake_max),
        ];
        for (counted, max) in counts {
            self.counts[counted as usize].set_max(max);
        }
        for (rated, rate) in [(Rated::Connects, rules.connects), (Rated::Wakes, rules.wakes)] {
            let limiter = &self.rates[rated as usize];
            if limiter.load().as_ref().map(|limiter| limiter.rate) != rate {
                limiter.store(rate.map(|rate| Arc::new(Limiter::new(rate, self.since))));
            }
        }
        let transactions = rules.transactions.map(|rate| (u64::from(rate.count), rate.per));
        let bytes =
            |rate: Option<crate::config::ByteRate>| rate.map(|rate| (rate.0 as u64, Duration::from_secs(1)));
        let paces = [
            (Paced::Transactions, transactions),
            (Paced::BytesIn, bytes(rules.bytes_in)),
            (Paced::BytesOut, bytes(rules.bytes_out)),
        ];
        for (paced, limit) in paces {
            let (count, period) = limit.unwrap_or((0, Duration::from_secs(1)));
            self.paces[paced as usize].set(count, period, self.now());
        }
        self.rules.store(Arc::new(rules.clone()));
    }

    /// The tenant, where it is a tenant's.
    pub(super) fn tenant(&self) -> Option<&TenantName> {
        match &self.scope {
            Scope::Tenant(name) => Some(name),
            _ => None,
        }
    }

    /// What holds now.
    pub(super) fn rules(&self) -> Arc<Quota> {
        self.rules.load_full()
    }

    /// One more.
    pub(super) fn take(&self, counted: Counted, standing: Standing) -> Result<(), OverLimit> {
        let reserved = match (counted, standing) {
            (Counted::Clients, Standing::Usual) => self.rules.load().operator_reserve,
            _ => 0,
        };
        self.counts[counted as usize]
            .take(reserved)
            .map_err(|(max, used)| {
                let used = Used::Count { max, reserved, used };
                OverLimit::new(self.scope.clone(), counted.into(), used)
            })
    }

    /// One more in any case.
    pub(super) fn count(&self, counted: Counted) {
        self.counts[counted as usize].add();
    }

    /// One less.
    pub(super) fn give_back(&self, counted: Counted) {
        self.counts[counted as usize].give_back();
    }

    /// Whose it is.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// How much of a rate is used up, where there is a limit.
    pub(super) fn rate_used(&self, rated: Rated) -> Option<PaceUsed> {
        let limiter = self.rates[rated as usize].load();
        limiter.as_ref()?.used.used(self.now())
    }

    /// How many there are.
    pub(super) fn used(&self, counted: Counted) -> usize {
        self.counts[counted as usize].used()
    }

    /// One happens.
    pub(super) fn take_rated(&self, rated: Rated) -> Result<(), OverLimit> {
        let limiter = self.rates[rated as usize].load();
        let Some(limiter) = &*limiter else {
            return Ok(());
        };
        match limiter.cells.check() {
            Ok(()) => {
                limiter.used.charge(1, self.now());
                Ok(())
            }
            Err(not_until) => {
                let after = not_until.wait_time_from(Since(self.since).now());
                let used = Used::Rate {
                    rate: limiter.rate,
                    after,
                };
                Err(OverLimit::new(self.scope.clone(), rated.into(), used))
            }
        }
    }

    /// One happens, of what is charged otherwise as it happens.
    pub(super) fn take_paced(&self, paced: Paced) -> Result<(), OverLimit> {
        self.pace(paced).take(self.now()).map_err(|after| {
            let rate = self.rules.load().transactions;
            let used = match rate {
                Some(rate) => Used::Rate { rate, after },
                None => Used::Nothing,
            };
            OverLimit::new(self.scope.clone(), paced.into(), used)
        })
    }

    /// How fast that may go on.
    pub(super) fn pace(&self, paced: Paced) -> &Pace {
        &self.paces[paced as usize]
    }

    /// On the clock of its paces.
    pub(super) fn now(&self) -> u64 {
        nanoseconds(self.since.elapsed())
    }

    /// Whether nothing is used of any limit, so that a new one would be the same.
    pub(super) fn is_fresh(&self) -> bool {
        let now = self.now();
        let rates = |rate: &ArcSwapOption<Limiter>| match &*rate.load() {
            Some(limiter) => limiter.used.is_fresh(now),
            None => true,
        };
        self.counts.iter().all(|count| count.used() == 0)
            && self.rates.iter().all(rates)
            && self.paces.iter().all(|pace| pace.is_fresh(now))
    }
}
