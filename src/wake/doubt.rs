//! Computes of which nobody knows whether they run, because whoever starts them could not tell: they are taken for asleep,
//! and looked at again, or they would run for nobody.
//!
//! When to look is `server`'s affair.

use std::sync::Arc;

use futures_util::{StreamExt, stream};

use super::{AT_ONCE_MAX, Wakes, driver::Driver};
use crate::ids::EndpointName;

impl Wakes {
    /// Looks at one compute, unless somebody has. Cancel safe: looking goes on.
    pub async fn inspect(&self, endpoint: &EndpointName) {
        if let Some(driver) = self.driver(endpoint) {
            driver.inspect().await;
        }
    }

    /// Waits until there is one more compute of which nobody knows whether it runs, since whoever starts it could not tell.
    /// One that came while nobody waited counts. Cancel safe.
    pub async fn doubted(&self) {
        self.wiring.doubted.notified().await;
    }

    /// Looks at all such computes once more. Cancel safe: looking goes on.
    pub async fn look_again(&self) {
        let look = |driver: Arc<Driver>| async move { driver.look_again().await };
        stream::iter(self.all().into_iter().filter(|driver| driver.is_in_doubt()))
            .for_each_concurrent(AT_ONCE_MAX, look)
            .await;
    }

    /// Whether there is any.
    pub fn is_any_in_doubt(&self) -> bool {
        self.drivers.iter().any(|driver| driver.is_in_doubt())
    }
}
