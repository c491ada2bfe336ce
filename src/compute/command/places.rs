//! Places for commands: so many at once, of which other tenants can always have some. Called by `run`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::ids::TenantName;

/// One in so many places is left to others, however many commands of one tenant hang; of fewer there is none to be left.
const LEFT_TO_OTHERS: usize = 4;

/// All places of one kind. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    /// How many of them one tenant may have.
    share: usize,
    /// Of tenants whose commands run or wait.
    shares: Arc<Mutex<HashMap<TenantName, Weak<Semaphore>>>>,
}

/// It is the next one's once this is dropped.
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_share: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(at_once)),
            share: at_once - at_once / LEFT_TO_OTHERS,
            shares: Arc::default(),
        }
    }

    /// Waits for one: first come, first served among the commands of a tenant. Cancel safe.
    pub(super) async fn take(&self, tenant: &TenantName) -> Place {
        let closed = "the places are never closed";
        // Behind others of its tenant it is in nobody else's way.
        let of_share = self.share_of(tenant).acquire_owned().await.expect(closed);
        let of_all = self.all.clone().acquire_owned().await.expect(closed);
        Place {
            _of_all: of_all,
            _of_share: of_share,
        }
    }

    fn share_of(&self, tenant: &TenantName) -> Arc<Semaphore> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(tenant).and_then(Weak::upgrade) {
            return share;
        }
        shares.retain(|_, share| share.strong_count() > 0);
        let share = Arc::new(Semaphore::new(self.share));
        shares.insert(tenant.clone(), Arc::downgrade(&share));
        share
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.all.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn tenant(name: &str) -> TenantName {
        TenantName::parse(name).unwrap()
    }

    #[tokio::test]
    async fn a_tenant_whose_commands_hang_leaves_places_to_others() {
        let places = Places::new(16);
        let taken = |name: &str| places.take(&tenant(name)).now_or_never();
        let hanging: Vec<_> = std::iter::from_fn(|| taken("loud")).collect();
        assert_eq!(hanging.len(), 12);
        let others: Vec<_> = std::iter::from_fn(|| taken("quiet")).collect();
        assert_eq!((others.len(), places.free()), (4, 0));

        let loud = tenant("loud");
        let waiting = places.take(&loud);
        drop(others);
        assert!(waiting.now_or_never().is_none(), "it is not for the loud one");
        drop(hanging);
        assert!(taken("loud").is_some());
        assert_eq!(places.free(), 16);
    }

    #[tokio::test]
    async fn nobody_is_remembered_who_runs_nothing() {
        let places = Places::new(2);
        for number in 0..50 {
            assert!(
                places
                    .take(&tenant(&format!("tenant-{number}")))
                    .now_or_never()
                    .is_some()
            );
        }
        assert!(places.shares.lock().unwrap().len() < 3);
    }

    #[tokio::test]
    async fn where_there_are_few_places_everybody_can_have_all() {
        for few in 1..LEFT_TO_OTHERS {
            let places = Places::new(few);
            let taken = |name: &str| places.take(&tenant(name)).now_or_never();
            for name in ["one", "other"] {
                let all: Vec<_> = std::iter::from_fn(|| taken(name)).collect();
                assert_eq!(all.len(), few);
            }
        }
    }
}
