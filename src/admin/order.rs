//! What operators order: wake, suspend, disable, enable; cancel, terminate; pause, resume, reconnect; reload, drain.
//!
//! Each order is asked for and answered at once; what takes time goes on, and is seen by looking. A retry does no
//! harm. Each is told to the log, the audit log and those who watch.

mod undone;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use super::View;
use crate::audit;
use crate::auth::WakeRight;
use crate::config::Endpoint;
use crate::ids::{EndpointName, SessionId};
use crate::journal::Event;
use crate::store::StandingOrders;
use crate::wake::{Admission, SuspendOrder};
pub(super) use undone::Undone;

type Pool = crate::pool::EndpointPool<crate::session::Carried>;

/// How long an order waits for its line in the audit log.
const AUDIT_TIMEOUT: Duration = Duration::from_secs(5);

/// An order, and what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Order {
    Wake(EndpointName),
    Suspend(EndpointName),
    Disable(EndpointName),
    Enable(EndpointName),
    ForgetServer(EndpointName),
    Cancel(SessionId),
    Terminate(SessionId),
    Pause(EndpointName),
    Resume(EndpointName),
    Reconnect(EndpointName),
    Reload,
    Drain,
}

impl Order {
    /// The order that a path below `/api/v1/` names.
    pub(super) fn of_path(path: &[&str]) -> Option<Self> {
        let name = |text: &str| EndpointName::parse_any(text).ok();
        let session = |text: &str| text.parse::<SessionId>().ok();
        Some(match path {
            ["endpoints", endpoint, "wake"] => Self::Wake(name(endpoint)?),
            ["endpoints", endpoint, "suspend"] => Self::Suspend(name(endpoint)?),
            ["endpoints", endpoint, "disable"] => Self::Disable(name(endpoint)?),
            ["endpoints", endpoint, "enable"] => Self::Enable(name(endpoint)?),
            ["endpoints", endpoint, "forget-server"] => Self::ForgetServer(name(endpoint)?),
            ["sessions", id, "cancel"] => Self::Cancel(session(id)?),
            ["sessions", id, "terminate"] => Self::Terminate(session(id)?),
            ["pools", endpoint, "pause"] => Self::Pause(name(endpoint)?),
            ["pools", endpoint, "resume"] => Self::Resume(name(endpoint)?),
            ["pools", endpoint, "reconnect"] => Self::Reconnect(name(endpoint)?),
            ["reload"] => Self::Reload,
            ["drain"] => Self::Drain,
            _ => return None,
        })
    }

    fn words(&self) -> (&'static str, String) {
        match self {
            Self::Wake(endpoint) => ("wake", endpoint.to_string()),
            Self::Suspend(endpoint) => ("suspend", endpoint.to_string()),
            Self::Disable(endpoint) => ("disable", endpoint.to_string()),
            Self::Enable(endpoint) => ("enable", endpoint.to_string()),
            Self::ForgetServer(endpoint) => ("forget-server", endpoint.to_string()),
            Self::Cancel(session) => ("cancel", session.to_string()),
            Self::Terminate(session) => ("terminate", session.to_string()),
            Self::Pause(endpoint) => ("pause", endpoint.to_string()),
            Self::Resume(endpoint) => ("resume", endpoint.to_string()),
            Self::Reconnect(endpoint) => ("reconnect", endpoint.to_string()),
            Self::Reload => ("reload", String::new()),
            Self::Drain => ("drain", String::new()),
        }
    }
}

impl View {
    /// Carries an order out, for somebody at `peer` who may give it.
    ///
    /// # Errors
    /// There is nothing of that name, or it cannot be done now.
    pub(super) async fn carry_out(&self, order: &Order, peer: &str) -> Result<Value, Undone> {
        let (what, target) = order.words();
        self.audit((what, &target), peer).await?;
        let done = match order {
            Order::Wake(name) => self.wake(self.known(name)?.as_ref())?,
            Order::Suspend(name) => self.suspend(self.known(name)?.as_ref())?,
            Order::Disable(name) => {
                let disable = |orders: &mut StandingOrders| orders.is_disabled = true;
                self.admit(name, Admission::Disabled, disable).await?
            }
            Order::Enable(name) => {
                let enable = |orders: &mut StandingOrders| orders.is_disabled = false;
                self.admit(name, Admission::Enabled, enable).await?
            }
            Order::ForgetServer(name) => {
                let endpoint = self.known(name)?;
                let forgotten = self.house.roles.forget_server(&endpoint).await;
                if let Err(error) = &forgotten {
                    tracing::warn!(endpoint = %name, %error, "a restart will remember the old server");
                }
                let may_begin_anew = self.standing.begin_anew(name).await;
                json!({ "kept": forgotten.is_ok() && may_begin_anew })
            }
            Order::Cancel(session) => self.cancel(*session).await?,
            Order::Terminate(session) => {
                let listed = self.house.roster.find(*session);
                listed.ok_or(Undone::NoSession)?.end();
                json!({})
            }
            Order::Pause(name) => {
                let pause = |orders: &mut StandingOrders| orders.is_paused = true;
                self.lend(name, |pool| pool.pause(), pause).await?
            }
            Order::Resume(name) => {
                let resume = |orders: &mut StandingOrders| orders.is_paused = false;
                self.lend(name, |pool| pool.resume(), resume).await?
            }
            Order::Reconnect(name) => self.pool(name, |pool| pool.retire())?,
            Order::Reload => match (self.reload)().await {
                Ok(reloaded) => json!({
                    "changes": reloaded.changes, "needs_restart": reloaded.needs_restart,
                }),
                Err(error) => return Err(Undone::NotReloaded(error)),
            },
            Order::Drain => {
                self.drain_ordered.notify_one();
                json!({})
            }
        };
        self.told((what, &target), peer);
        Ok(done)
    }

    /// It has been done.
    pub(super) fn told(&self, (what, target): (&str, &str), peer: &str) {
        tracing::info!(order = what, target, peer, "ordered by an operator");
        self.house.journal.tell(Event::Operator {
            at: SystemTime::now(),
            what: format!("{what} {target}").trim_end().to_owned(),
        });
    }

    /// Before anything is done: where lines must be written, nothing is done without one.
    pub(super) async fn audit(&self, (what, target): (&str, &str), peer: &str) -> Result<(), Undone> {
        let event = audit::Event::new("operator")
            .with("order", what)
            .with("target", target)
            .with("peer", peer);
        let told = timeout(AUDIT_TIMEOUT, self.house.audit.tell(event)).await;
        told.map_err(|_| Undone::NotAudited)
    }

    fn known(&self, name: &EndpointName) -> Result<Arc<Endpoint>, Undone> {
        let found = self.house.directory.endpoint(name);
        found.ok_or(Undone::NoEndpoint)
    }

    fn wake(&self, endpoint: &Endpoint) -> Result<Value, Undone> {
        let deadline = Instant::now() + endpoint.hold_timeout;
        let wakes = &self.house.wakes;
        wakes.wake(&endpoint.name, &WakeRight::for_operator(), deadline)?;
        self.state_of(endpoint)
    }

    fn suspend(&self, endpoint: &Endpoint) -> Result<Value, Undone> {
        match self.house.wakes.suspend(&endpoint.name) {
            SuspendOrder::Begun | SuspendOrder::AsleepAlready => self.state_of(endpoint),
            SuspendOrder::InUse(clients) => Err(Undone::InUse(clients)),
            SuspendOrder::UnderWay => Err(Undone::UnderWay),
            SuspendOrder::NotSuspendable => Err(Undone::NotSuspendable),
        }
    }

    async fn admit(
        &self,
        name: &EndpointName,
        admission: Admission,
        change: fn(&mut StandingOrders),
    ) -> Result<Value, Undone> {
        let endpoint = self.known(name)?;
        let admit = || self.house.wakes.set_admission(name, admission);
        let ((), is_kept) = self.standing.give(name, admit, change).await;
        let mut done = self.state_of(&endpoint)?;
        done["kept"] = json!(is_kept);
        Ok(done)
    }

    /// Lets its pool lend, or not.
    async fn lend(
        &self,
        name: &EndpointName,
        act: fn(&Pool),
        change: fn(&mut StandingOrders),
    ) -> Result<Value, Undone> {
        self.known(name)?;
        let (done, is_kept) = self.standing.give(name, || self.pool(name, act), change).await;
        let mut done = done?;
        done["kept"] = json!(is_kept);
        Ok(done)
    }

    fn state_of(&self, endpoint: &Endpoint) -> Result<Value, Undone> {
        // A reload may have taken it away since it was looked up.
        let figures = self.house.wakes.figures(&endpoint.name);
        let figures = figures.ok_or(Undone::NoEndpoint)?;
        Ok(json!({ "state": figures.state.as_str(), "disabled": figures.is_disabled }))
    }

    async fn cancel(&self, session: SessionId) -> Result<Value, Undone> {
        let listed = self.house.roster.find(session);
        let listed = listed.ok_or(Undone::NoSession)?;
        let Some(key) = listed.cancel_key() else {
            return Err(Undone::NothingToCancel);
        };
        self.house.cancels.cancel(key.clone()).await;
        Ok(json!({}))
    }

    fn pool(&self, name: &EndpointName, act: impl FnOnce(&Pool)) -> Result<Value, Undone> {
        let pooling = self.house.pooling.get(name);
        let pool = &pooling.ok_or(Undone::NoEndpoint)?.pool;
        act(pool);
        let figures = pool.figures();
        let lent: usize = figures.keys.iter().map(|key| key.lent).sum();
        Ok(json!({ "paused": figures.is_paused, "lent": lent }))
    }
}
