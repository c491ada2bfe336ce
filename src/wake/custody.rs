//! All computes change from one pgwake to another: the elder holds still, cedes them, and lets go of each when nobody
//! of its own uses it any more; the younger keeps awake what the elder's clients use.
//!
//! Who is whose successor, and when, is `server`'s affair.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::{Waiting, Wakes, driver::Driver, error::WakeError};
use crate::auth::WakeRight;
use crate::ids::EndpointName;

impl Wakes {
    /// Nothing is started, stopped or looked at from now on, but what is under way. Who needs a start waits.
    pub fn freeze(&self) {
        self.all().iter().for_each(Driver::freeze);
    }

    /// Returns once nothing is under way. Cancel safe.
    pub async fn still(&self) {
        for driver in self.all() {
            driver.still().await;
        }
    }

    /// Whose start, stop or look is under way.
    pub fn restless(&self) -> Vec<EndpointName> {
        let drivers = self.drivers.iter();
        let restless = drivers.filter(|entry| !entry.value().is_still());
        restless.map(|entry| entry.key().clone()).collect()
    }

    /// All goes on as before [`Wakes::freeze`].
    pub fn thaw(&self) {
        self.all().iter().for_each(Driver::thaw);
    }

    /// Lets go of everything by which no other pgwake may have the computes. Not while anything is under way.
    pub async fn give_up_computes(&self) {
        join_all(
            self.all()
                .iter()
                .map(|driver| async move { driver.compute().give_up().await }),
        )
        .await;
    }

    /// Takes that again. What cannot be had is logged: such a compute is neither started nor stopped.
    pub async fn take_computes_back(&self) {
        let take = |driver: Arc<Driver>| async move { driver.compute().take_back().await };
        for (name, driver) in self.named() {
            if let Err(error) = take(driver).await {
                tracing::error!(endpoint = %name, reason = error.reason, "its compute cannot be taken back");
            }
        }
    }

    /// They are another pgwake's from now on. Those that take logins are returned: leases on them are granted until they
    /// are let go.
    pub fn cede(&self) -> Vec<EndpointName> {
        let lent = self.named().into_iter().filter(|(_, driver)| driver.cede());
        lent.map(|(name, _)| name).collect()
    }

    /// Grants no lease on a compute any more that is another pgwake's, unless somebody has one; whether that is so is
    /// returned.
    pub fn let_go_if_unused(&self, endpoint: &EndpointName) -> bool {
        let driver = self.driver(endpoint);
        driver.is_none_or(|driver| driver.let_go_if_unused())
    }

    /// Grants no lease any more, and tells all who have one that it is lost. Nothing is stopped.
    pub fn let_go(&self) {
        self.all().iter().for_each(Driver::let_go);
    }

    /// Looks whether a compute runs, and asks for a lease before it could be suspended.
    pub fn take_over(&self, endpoint: &EndpointName, _right: &WakeRight, deadline: Instant) -> Waiting {
        match self.driver(endpoint) {
            Some(driver) => driver.take_over(deadline),
            None => Waiting::nowhere(WakeError::Removed(endpoint.clone())),
        }
    }

    fn named(&self) -> Vec<(EndpointName, Arc<Driver>)> {
        let drivers = self.drivers.iter();
        drivers
            .map(|entry| (entry.key().clone(), entry.value().clone()))
            .collect()
    }
}
