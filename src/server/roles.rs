//! The first reading of roles: an endpoint whose roles come from Postgres, and that was never awake, is started
//! once by pgwake itself, one after another.
//!
//! Each has its own time: whoever comes is tried behind those that were there before, and nobody's coming has those tried again
//! that could not be read.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::FutureExt;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::auth::WakeRight;
use crate::config::{Endpoint, RolesFrom};
use crate::ids::EndpointName;
use crate::session::House;
use crate::shutdown::Phase;

/// A failed first reading is tried again after this long, then after twice as long each time: trying wakes the
/// compute, and one whose roles cannot be read must get its sleep.
const AGAIN_AFTER_MIN: Duration = Duration::from_secs(60);
/// Longest pause between two tries.
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Learns the roles of every endpoint that needs it, also of those that come; `more` says when. Ends with the drain. Cancel safe.
pub(super) async fn learn_all(house: Arc<House>, more: Arc<Notify>) {
    let mut shutdown = house.shutdown.clone();
    tokio::select! {
        () = learn(&house, &more) => (),
        () = shutdown.reached(Phase::Draining) => (),
    }
}

async fn learn(house: &House, more: &Notify) {
    let unread = |endpoint: &Arc<Endpoint>| {
        matches!(endpoint.roles_from, RolesFrom::Postgres(_)) && !house.roles.was_read(&endpoint.name)
    };
    let is_there = |endpoint: &Arc<Endpoint>| {
        let there = house.directory.endpoint(&endpoint.name);
        there.is_some_and(|there| Arc::ptr_eq(&there, endpoint))
    };
    let look = |waiting: &mut Waiting| {
        waiting.are(house.directory.endpoints().filter(unread), Instant::now());
    };
    let mut waiting = Waiting::default();
    look(&mut waiting);
    loop {
        // At all of them only where some have come: it takes longer than to read the roles of one.
        if more.notified().now_or_never().is_some() {
            look(&mut waiting);
        }
        let Some((endpoint, at)) = waiting.next() else {
            more.notified().await;
            look(&mut waiting);
            continue;
        };
        tokio::select! { biased;
            () = sleep_until(at) => (),
            () = more.notified() => {
                look(&mut waiting);
                continue;
            }
        }
        // It was read because somebody else has woken it, or it is gone.
        if !unread(&endpoint) || !is_there(&endpoint) {
            waiting.forget(&endpoint.name);
            continue;
        }
        learn_one(house, &endpoint).await;
        waiting.tried(&endpoint.name, Instant::now());
    }
}

/// Endpoints whose roles nobody has read yet.
#[derive(Default)]
struct Waiting {
    tries: HashMap<EndpointName, Try>,
    /// All of them, the next first.
    order: BTreeSet<(Instant, EndpointName)>,
}

/// The next one of an endpoint.
struct Try {
    endpoint: Arc<Endpoint>,
    at: Instant,
    /// Until the one behind it.
    pause: Duration,
}

impl Waiting {
    /// These wait, and nobody else. Who is new, or not what he was, is tried at once.
    fn are(&mut self, unread: impl Iterator<Item = Arc<Endpoint>>, now: Instant) {
        let mut before = std::mem::take(&mut self.tries);
        self.tries = unread
            .map(|endpoint| {
                let known = before.remove(&endpoint.name);
                let same = known.filter(|known| Arc::ptr_eq(&known.endpoint, &endpoint));
                let new = || Try {
                    endpoint: endpoint.clone(),
                    at: now,
                    pause: AGAIN_AFTER_MIN,
                };
                (endpoint.name.clone(), same.unwrap_or_else(new))
            })
            .collect();
        let place = |(name, one): (&EndpointName, &Try)| (one.at, name.clone());
        self.order = self.tries.iter().map(place).collect();
    }

    /// Whose time is first, and when that is.
    fn next(&self) -> Option<(Arc<Endpoint>, Instant)> {
        let (at, name) = self.order.first()?;
        Some((self.tries.get(name)?.endpoint.clone(), *at))
    }

    fn tried(&mut self, name: &EndpointName, now: Instant) {
        if let Some(one) = self.tries.get_mut(name) {
            self.order.remove(&(one.at, name.clone()));
            one.at = now + one.pause;
            one.pause = (one.pause * 2).min(AGAIN_AFTER_MAX);
            self.order.insert((one.at, name.clone()));
        }
    }

    /// It does not wait any more.
    fn forget(&mut self, name: &EndpointName) {
        if let Some(one) = self.tries.remove(name) {
            self.order.remove(&(one.at, name.clone()));
        }
    }
}

async fn learn_one(house: &House, endpoint: &Arc<Endpoint>) {
    tracing::info!(endpoint = %endpoint.name, "waking once to learn its roles");
    let deadline = Instant::now() + endpoint.start_timeout;
    match house
        .wakes
        .lease(&endpoint.name, &WakeRight::for_reading_roles(), deadline)
        .await
    {
        // The lease keeps it awake while it is read.
        Ok(_lease) => drop(house.roles.refresh(endpoint).await),
        Err(error) => tracing::warn!(endpoint = %endpoint.name, %error, "its roles could not be learnt"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            name: EndpointName::parse(name).unwrap(),
            ..Endpoint::without_compute("acme")
        })
    }

    /// All who waited began anew, from the first and without a pause, whenever a branch or a reload came: those behind one that
    /// hung were never tried, and those that could not be read were woken for it each time.
    #[test]
    fn who_comes_starves_nobody_and_has_nobody_tried_again_before_his_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (hangs, second) = (endpoint("one-hangs"), endpoint("two"));
        let mut waiting = Waiting::default();
        let all = |more: &[Arc<Endpoint>]| [&[hangs.clone(), second.clone()], more].concat().into_iter();
        let next = |waiting: &Waiting| waiting.next().map(|(one, at)| (one.name.to_string(), at));
        let is = |name: &str, seconds| Some((name.to_owned(), at(seconds)));
        waiting.are(all(&[]), start);
        assert_eq!(next(&waiting), is("one-hangs", 0));
        // Others come while it hangs.
        waiting.tried(&hangs.name, at(30));
        waiting.are(all(&[endpoint("a-branch")]), at(30));
        assert_eq!(next(&waiting), is("two", 0));
        waiting.tried(&second.name, at(31));
        assert_eq!(next(&waiting), is("a-branch", 30));
        // It was read, and another one comes.
        waiting.are(all(&[endpoint("b-branch")]), at(40));
        assert_eq!(next(&waiting), is("b-branch", 40));
        waiting.are(all(&[]), at(41));
        assert_eq!(next(&waiting), is("one-hangs", 90));
        waiting.tried(&hangs.name, at(90));
        waiting.tried(&second.name, at(91));
        assert_eq!(next(&waiting), is("one-hangs", 90 + 120));
        // What was changed about it may be what was wrong with it.
        let repaired = endpoint("two");
        waiting.are([hangs.clone(), repaired].into_iter(), at(100));
        assert_eq!(next(&waiting), is("two", 100));
        // Somebody else has woken it, and its roles were read.
        waiting.forget(&second.name);
        assert_eq!(next(&waiting), is("one-hangs", 90 + 120));
        waiting.forget(&second.name);
        waiting.are(std::iter::empty(), at(101));
        assert_eq!(next(&waiting), None);
    }
}
