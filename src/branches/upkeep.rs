//! What happens to branches without anybody's asking: what a crash has left of some is cleared away, and those that nobody
//! uses for longer than their ttl are removed.
//!
//! When a branch was used last is written down by the clock on the wall, since pgwake may end in between. How long that is
//! ago, while it runs, is a matter of time that passes: a clock that is set moves all uses along.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{BranchError, BranchRecord, Branches};
use crate::compute;
use crate::ids::EndpointName;
use crate::shutdown::Phase;
use crate::store::BranchState;

/// How often it is looked for branches whose time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Uses are written down at most this often for each branch: a crash makes one look unused for so long.
const NOTED_EVERY: Duration = Duration::from_secs(60);
/// That pgwake runs is written down so often: who is killed more often than that keeps all branches.
const RUNNING_NOTED_EVERY: Duration = Duration::from_secs(5);
/// Where nobody knows how long pgwake did not run, a branch stays for so long, or for its ttl.
const GRACE: Duration = Duration::from_secs(300);
/// Clocks differ by less where none was set.
const STEP_MIN: Duration = Duration::from_secs(2);

impl Branches {
    /// Clears away what was left, then looks after all until the end. Cancel safe.
    pub async fn keep(self: Arc<Self>) {
        let mut shutdown = self.shutdown.clone();
        let mut notes = Notes::default();
        let keeping = async {
            self.make_up_for_absence().await;
            self.clear_up().await;
            let mut clocks = Clocks::now();
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                if let Some(step) = clocks.step(Clocks::now()) {
                    tracing::warn!("the clock was set: when branches were used goes with it");
                    self.change_uses(|record| step.of(record.used));
                    notes = Notes::default();
                }
                self.remove_expired().await;
                self.note_uses(&mut notes).await;
            }
        };
        tokio::select! {
            () = keeping => (),
            () = shutdown.reached(Phase::Draining) => (),
        }
        // What was used last is known after the restart.
        self.note_uses(&mut Notes::default()).await;
    }

    /// Nobody could use a branch while no pgwake ran: that is no time in which nobody has.
    async fn make_up_for_absence(&self) {
        let store = self.store.clone();
        let ran_until = spawn_blocking(move || store.ran_until()).await;
        let (ran_until, now) = (ran_until.ok().flatten(), SystemTime::now());
        self.change_uses(|record| match ran_until {
            Some(until) => used_but_for_absence(record, until, now),
            None => unused_no_longer(record, now),
        });
    }

    fn change_uses(&self, used: impl Fn(&BranchRecord) -> SystemTime) {
        for record in self.records().values_mut() {
            record.used = used(record);
        }
    }

    async fn clear_up(&self) {
        let names: Vec<EndpointName> = self.records().keys().cloned().collect();
        for name in names {
            let _turn = self.turn(&name).await;
            let record = self.records().get(&name).cloned();
            let cleared = match record {
                Some(record) if record.state == BranchState::Ready => {
                    let cleared = compute::remove_half_made(&record.data_dir).await;
                    cleared.map_err(|error| BranchError::of_copy(&name, error))
                }
                Some(record) => {
                    tracing::info!(branch = %name, "removing what an earlier pgwake has left of a branch");
                    self.take_away(&record).await
                }
                None => Ok(()),
            };
            if let Err(error) = cleared {
                tracing::warn!(branch = %name, %error, "what is left of a branch cannot be removed");
            }
        }
    }

    async fn remove_expired(self: &Arc<Self>) {
        let now = SystemTime::now();
        let expired = self.list().into_iter().filter(|record| is_expired(record, now));
        for record in expired.collect::<Vec<_>>() {
            let Ok(serving) = self.serving() else { return };
            let _turn = self.turn(&record.name).await;
            if serving.has_sessions(&record.name) {
                if let Some(record) = self.records().get_mut(&record.name) {
                    record.used = now;
                }
                continue;
            }
            // Somebody may have come while its turn was waited for.
            let record = self.find(&record.name);
            let Some(record) = record.filter(|record| is_expired(record, SystemTime::now())) else {
                continue;
            };
            tracing::info!(branch = %record.name, "nobody has used it for its ttl");
            let name = record.name.clone();
            if let Err(error) = self.delete_now(record).await {
                tracing::warn!(branch = %name, %error, "could not be removed");
            }
        }
    }

    /// Writes down when branches were used, where that has changed, and that pgwake runs: this only behind that, since what
    /// was made up for would be lost otherwise.
    async fn note_uses(&self, notes: &mut Notes) {
        let records = self.list().into_iter().filter(|record| record.ttl.is_some());
        let records: Vec<_> = records.map(|record| (record.name, record.used)).collect();
        let is_too_early = notes.tried.is_some_and(|at| at.elapsed() < RUNNING_NOTED_EVERY);
        if records.is_empty() || is_too_early {
            return;
        }
        let is_news = |(name, used): &&(EndpointName, SystemTime)| {
            let last = notes.uses.get(name);
            last.is_none_or(|last| used.duration_since(*last).unwrap_or_default() >= NOTED_EVERY)
        };
        let news: Vec<_> = records.iter().filter(is_news).cloned().collect();
        notes
            .uses
            .retain(|name, _| records.iter().any(|(kept, _)| kept == name));
        notes.tried = Some(Instant::now());
        let (store, uses) = (self.store.clone(), news.clone());
        let noting = spawn_blocking(move || {
            if !uses.is_empty() {
                store.note_branch_uses(&uses)?;
            }
            store.note_running()
        });
        if let Ok(Ok(())) = noting.await {
            notes.uses.extend(news);
        }
    }

    /// Its ttl begins anew; it is another one from now on where one is given.
    ///
    /// # Errors
    /// There is none, or it cannot be written down.
    pub async fn renew(
        &self,
        name: &EndpointName,
        ttl: Option<Option<Duration>>,
    ) -> Result<BranchRecord, BranchError> {
        let _turn = self.turn(name).await;
        let record = self.find(name);
        let mut record = record.ok_or_else(|| BranchError::None(name.to_string()))?;
        record.used = SystemTime::now();
        record.ttl = ttl.unwrap_or(record.ttl);
        self.put(record.clone()).await?;
        Ok(record)
    }
}

fn is_expired(record: &BranchRecord, now: SystemTime) -> bool {
    let unused = now.duration_since(record.used).unwrap_or_default();
    record.ttl.is_some_and(|ttl| unused > ttl)
}

/// When a branch was used last, had there been no time without a pgwake.
fn used_but_for_absence(record: &BranchRecord, ran_until: SystemTime, now: SystemTime) -> SystemTime {
    let absence = now.duration_since(ran_until).unwrap_or_default();
    // A clock that went back meanwhile makes no use one of tomorrow.
    record.used.checked_add(absence).map_or(now, |used| used.min(now))
}

/// The same where nobody knows how long there was none.
fn unused_no_longer(record: &BranchRecord, now: SystemTime) -> SystemTime {
    let Some(ttl) = record.ttl else {
        return record.used;
    };
    let grace = now.checked_sub(ttl.saturating_sub(GRACE));
    grace.map_or(record.used, |grace| grace.max(record.used))
}

/// What is written down.
#[derive(Debug, Default)]
struct Notes {
    /// When each branch was used last.
    uses: HashMap<EndpointName, SystemTime>,
    /// When it was tried last to write that down, and that pgwake runs.
    tried: Option<Instant>,
}

/// Two clocks at the same moment: one that is set, and one that only goes on.
#[derive(Debug, Clone, Copy)]
struct Clocks {
    wall: SystemTime,
    steady: Instant,
}

/// By how much the clock on the wall was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Forward(Duration),
    Back(Duration),
}

impl Clocks {
    fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            steady: Instant::now(),
        }
    }

    /// How the one was set since the last time.
    fn step(&mut self, now: Self) -> Option<Step> {
        let before = std::mem::replace(self, now);
        let expected = before.wall + (now.steady - before.steady);
        let step = match now.wall.duration_since(expected) {
            Ok(ahead) => Step::Forward(ahead),
            Err(behind) => Step::Back(behind.duration()),
        };
        let (Step::Forward(by) | Step::Back(by)) = step;
        (by >= STEP_MIN).then_some(step)
    }
}

impl Step {
    fn of(self, time: SystemTime) -> SystemTime {
        match self {
            Self::Forward(by) => time.checked_add(by),
            Self::Back(by) => time.checked_sub(by),
        }
        .unwrap_or(time)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn record(used: SystemTime, ttl: Option<Duration>) -> BranchRecord {
        BranchRecord {
            name: EndpointName::parse_any("shop-main--task").unwrap(),
            data_dir: PathBuf::new(),
            state: BranchState::Ready,
            made: used,
            used,
            ttl,
            bytes: 0,
        }
    }

    #[test]
    fn a_clock_that_is_set_makes_nothing_unused() {
        let start = Clocks::now();
        let after = |steady: Duration, wall: Duration| Clocks {
            wall: start.wall + wall,
            steady: start.steady + steady,
        };
        let second = Duration::from_secs(1);
        let mut clocks = start;
        assert_eq!(clocks.step(after(second, second * 2)), None);
        assert_eq!(
            clocks.step(after(second * 2, HOUR * 2 + second * 3)),
            Some(Step::Forward(HOUR * 2))
        );
        assert_eq!(
            clocks.step(after(second * 3, HOUR + second * 4)),
            Some(Step::Back(HOUR))
        );
        assert_eq!(
            clocks.step(after(second * 4, HOUR + second * 5)),
            None,
            "it is told once"
        );

        let used = record(start.wall, Some(HOUR));
        let now = start.wall + HOUR * 2;
        assert!(is_expired(&used, now));
        let moved = record(Step::Forward(HOUR * 2).of(used.used), Some(HOUR));
        assert!(!is_expired(&moved, now));
        assert_eq!(Step::Back(HOUR * 2).of(moved.used), used.used);
    }

    #[test]
    fn a_time_without_a_pgwake_is_no_time_in_which_nobody_came() {
        let now = SystemTime::now();
        let of = |used_ago: Duration, ran_ago: Duration| {
            let used = used_but_for_absence(&record(now - used_ago, Some(HOUR)), now - ran_ago, now);
            now.duration_since(used).unwrap()
        };
        assert_eq!(of(HOUR * 5, HOUR * 4), HOUR, "all of its ttl had passed before");
        assert_eq!(of(HOUR * 5, HOUR * 5), Duration::ZERO);
        assert_eq!(of(HOUR, Duration::ZERO), HOUR, "a restart that took no time");
        assert_eq!(of(HOUR, HOUR * 2), Duration::ZERO);
        let of_tomorrow = record(now + HOUR, Some(HOUR));
        assert_eq!(used_but_for_absence(&of_tomorrow, now + HOUR, now), now);
    }

    #[test]
    fn who_could_not_be_used_while_pgwake_was_away_stays_for_a_while() {
        let now = SystemTime::now();
        let of = |ago: Duration, ttl| {
            let used = unused_no_longer(&record(now - ago, ttl), now);
            now.duration_since(used).unwrap()
        };
        assert_eq!(
            of(HOUR * 5, Some(HOUR)),
            HOUR - GRACE,
            "it has been away for longer than the ttl"
        );
        assert_eq!(of(HOUR / 2, Some(HOUR)), HOUR / 2);
        assert_eq!(
            of(HOUR * 5, Some(GRACE / 2)),
            Duration::ZERO,
            "its ttl is shorter"
        );
        assert_eq!(of(HOUR * 5, None), HOUR * 5);
    }
}
