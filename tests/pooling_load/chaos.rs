//! What may befall a compute and its sessions at any time, done on purpose and counted.

use std::collections::BTreeMap;

use pgwake::wake::SuspendOrder;
use rand::{RngExt, rngs::StdRng};
use rustix::process::Signal;
use tokio::{sync::RwLock, time::sleep};

use super::{chance::up_to, client::bounded, course::Course, pooled::Pooled};
use crate::harness::processes;

/// One misfortune.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blow {
    /// An administrator ends one server session.
    EndOne,
    /// An administrator ends all of them.
    EndAll,
    /// A backend is killed: Postgres ends all others and recovers by itself.
    KillBackend,
    /// The postmaster is killed: its backends are orphans.
    KillPostmaster,
    /// All of its processes are killed.
    KillAll,
    /// Nobody asks for anything until it sleeps.
    Suspend,
    /// An operator orders it to be suspended, whoever is there; in use it is not.
    Order,
    /// Nobody asks for anything for a moment: it may be about to fall asleep when they come back.
    Lull,
}

/// Deals blows while the test goes on.
pub(super) struct Chaos<'a> {
    pub(super) pooled: &'a Pooled,
    /// Held for reading by whoever is about to work: so that it can be made quiet.
    pub(super) traffic: &'a RwLock<()>,
    /// What may happen; twice in the list is twice as often.
    pub(super) blows: &'a [Blow],
    /// The longest rest between two blows, in milliseconds.
    pub(super) rest_millis: u64,
    pub(super) random: StdRng,
    pub(super) course: &'a Course,
}

impl Chaos<'_> {
    /// Gives how often each blow hit something.
    pub(super) async fn reign(mut self) -> BTreeMap<Blow, usize> {
        let mut hits = BTreeMap::new();
        while self.course.goes_on() {
            // Not to wait for anything: some work is to be done between two blows.
            sleep(up_to(&mut self.random, self.rest_millis)).await;
            let blow = self.blows[self.random.random_range(0..self.blows.len())];
            if self.deal(blow).await {
                *hits.entry(blow).or_default() += 1;
                if blow != Blow::Lull {
                    self.course.struck();
                }
            }
        }
        hits
    }

    /// Says whether there was anything to hit.
    async fn deal(&mut self, blow: Blow) -> bool {
        match blow {
            Blow::EndOne => self.end_sessions("order by random() limit 1").await,
            Blow::EndAll => self.end_sessions("").await,
            Blow::KillBackend => self.kill(1, |command| command.contains(": postgres postgres ")),
            Blow::KillPostmaster => self.kill(1, |command| !command.starts_with("postgres: ")),
            Blow::KillAll => self.kill(usize::MAX, |_| true),
            Blow::Suspend => {
                let _quiet = bounded("a quiet moment", self.traffic.write()).await;
                self.pooled.asleep().await;
                true
            }
            Blow::Order => self.pooled.order_suspend() == SuspendOrder::Begun,
            Blow::Lull => {
                let _quiet = bounded("a quiet moment", self.traffic.write()).await;
                sleep(up_to(&mut self.random, 200)).await;
                true
            }
        }
    }

    async fn end_sessions(&self, which: &str) -> bool {
        let Some(beside) = bounded("a session beside", self.pooled.beside()).await else {
            return false;
        };
        let sql = format!(
            "select pg_terminate_backend(pid) from (select pid from pg_stat_activity \
             where backend_type = 'client backend' and pid <> pg_backend_pid() {which}) as victims"
        );
        let ended = bounded("an end of sessions", beside.query(&sql, &[])).await;
        ended.is_ok_and(|ended| !ended.is_empty())
    }

    /// Kills at most so many of those processes.
    fn kill(&mut self, count_max: usize, is_victim: impl Fn(&str) -> bool) -> bool {
        let mut victims = self.pooled.processes();
        victims.retain(|process| is_victim(&process.command));
        while victims.len() > count_max {
            victims.swap_remove(self.random.random_range(0..victims.len()));
        }
        for victim in &victims {
            processes::signal(victim.pid, Signal::KILL);
        }
        !victims.is_empty()
    }
}
