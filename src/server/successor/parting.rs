//! What a pgwake that was replaced still says to its successor: which computes its own clients do not use any more, and
//! whether a cancel was for one of them.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use super::Succession;
use crate::ids::EndpointName;
use crate::succession::{Channel, NAMES_MAX, Word};

/// How often it is looked which computes nobody uses any more.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long idle server sessions may take to end before a compute is let go.
const CLOSING_TIMEOUT: Duration = Duration::from_secs(1);

/// Most cancels that are under way at the same time; further ones wait.
const CANCELS_MAX: usize = 64;

impl Succession {
    /// Says which computes are in use, and then what becomes of that. Ends with the successor, or when it is dropped.
    pub(super) async fn part(&self, channel: Channel, mut lent: Vec<EndpointName>) {
        let channel = Arc::new(channel);
        let mut said = true;
        for names in lent.chunks(NAMES_MAX) {
            said &= channel.say(&Word::InUse(names.to_vec())).await.is_ok();
        }
        said &= channel.say(&Word::Ceded).await.is_ok();
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut cancels = JoinSet::new();
        while said {
            tokio::select! {
                _ = looks.tick() => said = self.release_unused(&channel, &mut lent).await,
                heard = channel.hear(), if cancels.len() < CANCELS_MAX => match heard {
                    Ok(Some((Word::Cancel(number, key), _))) => {
                        let (cancelled, channel) = (self.house.cancels.clone(), channel.clone());
                        cancels.spawn(async move {
                            let is_known = cancelled.cancel(key).await;
                            let _ = channel.say(&Word::Cancelled(number, is_known)).await;
                        });
                    }
                    Ok(Some(_)) => (),
                    Ok(None) | Err(_) => said = false,
                },
                _ = cancels.join_next(), if !cancels.is_empty() => (),
            }
        }
        tracing::warn!("the pgwake that has taken over does not answer any more");
    }

    /// Whether the successor still hears.
    async fn release_unused(&self, channel: &Channel, lent: &mut Vec<EndpointName>) -> bool {
        let here = self.house.roster.all();
        let used: HashSet<&EndpointName> = here.iter().map(|listed| &listed.who.endpoint).collect();
        let mut index = 0;
        while let Some(name) = lent.get(index) {
            if used.contains(name) || !self.let_go(name).await {
                index += 1;
                continue;
            }
            let name = lent.swap_remove(index);
            if channel.say(&Word::Released(name)).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn let_go(&self, name: &EndpointName) -> bool {
        if let Some(pooling) = self.house.pooling.get(name) {
            let _ = timeout(CLOSING_TIMEOUT, pooling.pool.close_idle()).await;
        }
        self.house.wakes.let_go_if_unused(name)
    }
}
