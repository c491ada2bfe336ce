//! What happens to branches without anybody's asking: what a crash has left of some is cleared away, and those that nobody
//! uses for longer than their ttl are removed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{MissedTickBehavior, interval};

use super::{BranchError, BranchRecord, Branches};
use crate::compute;
use crate::ids::EndpointName;
use crate::shutdown::Phase;
use crate::store::BranchState;

/// How often it is looked for branches whose time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Uses are written down at most this often for each branch: a crash makes one look unused for so long.
const NOTED_EVERY: Duration = Duration::from_secs(60);

impl Branches {
    /// Clears away what was left, then looks after all until the end. Cancel safe.
    pub async fn keep(self: Arc<Self>) {
        let mut shutdown = self.shutdown.clone();
        let keeping = async {
            self.clear_up().await;
            let mut noted: Vec<(EndpointName, SystemTime)> = Vec::new();
            let mut ticks = interval(LOOK_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                self.remove_expired().await;
                self.note_uses(&mut noted).await;
            }
        };
        tokio::select! {
            () = keeping => (),
            () = shutdown.reached(Phase::Draining) => (),
        }
        // What was used last is known after the restart.
        for record in self.list().into_iter().filter(|record| record.ttl.is_some()) {
            let _ = self.put(record).await;
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

    async fn note_uses(&self, noted: &mut Vec<(EndpointName, SystemTime)>) {
        let records = self.list();
        noted.retain(|(name, _)| records.iter().any(|record| record.name == *name));
        for record in records.into_iter().filter(|record| record.ttl.is_some()) {
            let last = noted.iter_mut().find(|(name, _)| *name == record.name);
            let since = last.as_ref().map_or(record.made, |(_, last)| *last);
            if record.used.duration_since(since).unwrap_or_default() < NOTED_EVERY {
                continue;
            }
            match last {
                Some((_, last)) => *last = record.used,
                None => noted.push((record.name.clone(), record.used)),
            }
            let _turn = self.turn(&record.name).await;
            if let Some(record) = self.find(&record.name) {
                let _ = self.put(record).await;
            }
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
