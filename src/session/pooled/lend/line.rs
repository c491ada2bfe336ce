//! A place in the line for a server session. Where there are more clients than sessions most turns begin with one, and
//! are over with it in a moment: until then it costs as little as it can, and the client is not *held*.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Duration};

use futures_util::future::MaybeDone;
use tokio::time::{Instant, sleep};

use super::{Loan, Pooled};
use crate::pool::{Lent, Permit, Slot};
use crate::session::{
    carried::Carried,
    hold::{Held, HoldEnd, NOTICE_AFTER},
};
use crate::shutdown::Phase;
use crate::tls::Stream;
use crate::wake::AwakeLease;

/// How long it is waited for a session that works where others are kept for those who may ask for their `lastval()`: about
/// what it takes to open one.
const SPARED_FOR: Duration = Duration::from_millis(5);
/// How often it is looked for one meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Who stands there gets a permit when it is its turn.
pub(super) struct Place<'a, F: Future<Output = Permit>> {
    pub(super) since: Instant,
    pub(super) permit: Pin<&'a mut MaybeDone<F>>,
}

impl<F: Future<Output = Permit>> Place<'_, F> {
    /// Waits for its turn. `None`: it has had it.
    pub(super) async fn permit(mut self) -> Option<Permit> {
        self.permit.as_mut().await;
        self.permit.take_output()
    }
}

impl Pooled {
    /// A session that others have used, once it is this client's turn. `None`, and the lease and the place stay as they are,
    /// where there is none, or where the client is to be held first: it is not a matter of a moment, or something else has
    /// happened to it.
    pub(super) async fn lend_soon<F: Future<Output = Permit>>(
        &mut self,
        client: &Stream,
        lease: &mut Option<AwakeLease>,
        place: &mut Place<'_, F>,
    ) -> Option<Loan> {
        let awake = lease.as_ref()?;
        let until = place.since + NOTICE_AFTER.min(self.endpoint.pool.wait_timeout);
        let is_its_turn = poll_fn(|cx| {
            if place.permit.as_mut().poll(cx).is_ready() {
                return Poll::Ready(true);
            }
            // The bell that is listened to rings for a cancel, too.
            let is_to_be_held = client.poll_socket_news(cx).is_ready()
                || self.shutdown.poll_reached(cx, Phase::Draining).is_ready()
                || self.cancel.is_cancelled()
                || self.patience.poll(cx, until).is_ready();
            if is_to_be_held {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        });
        if !is_its_turn.await {
            return None;
        }
        let had_at = place.permit.as_mut().output_mut()?.had_at();
        let now = had_at.unwrap_or_else(Instant::now);
        let session = self.session_at_once(awake, now).ok()?;
        let (lease, permit) = (lease.take()?, place.permit.as_mut().take_output()?);
        Some(self.loan(session, now, lease, permit))
    }

    /// One that is idle, or that another client keeps. Else the right to open one, if there are not too many.
    pub(super) fn session_at_once(
        &mut self,
        lease: &AwakeLease,
        now: Instant,
    ) -> Result<Lent<Carried>, Option<Slot>> {
        if let Some(session) = self.idle_session(lease) {
            return Ok(session);
        }
        if let Some(slot) = self.pooling.pool.try_slot() {
            return Err(Some(slot));
        }
        let names = &self.names;
        let suits = |carried: &Carried| names.has_all(&carried.names) && carried.may_be_taken(now);
        let pool = &self.pooling.pool;
        pool.steal(&self.beginning.key, lease.generation(), suits)
            .ok_or(None)
    }

    /// The same, for a client that can wait a moment: where those that are idle are kept for others' `lastval()`, one that
    /// works may be back by then. If none is, the oldest of them goes after all: to close it for a new one would cost its
    /// client as much.
    pub(super) async fn session_in_a_moment(
        &mut self,
        lease: &AwakeLease,
        held: &mut Held<'_>,
    ) -> Result<Result<Lent<Carried>, Option<Slot>>, HoldEnd> {
        let until = Instant::now() + SPARED_FOR;
        loop {
            let now = Instant::now();
            let found = self.session_at_once(lease, now);
            if !matches!(found, Err(None)) || !self.pooling.asks_sequences() {
                return Ok(found);
            }
            let names = &self.names;
            let suits = |carried: &Carried| names.has_all(&carried.names);
            let (pool, key) = (&self.pooling.pool, &self.beginning.key);
            if now >= until || !pool.keeps(key, suits) {
                return Ok(pool.steal(key, lease.generation(), suits).ok_or(None));
            }
            held.wait(sleep(LOOK_EVERY), || "waiting for a server session")
                .await?;
        }
    }

    /// The client's own session, or one that rests and suits.
    pub(super) fn idle_session(&mut self, lease: &AwakeLease) -> Option<Lent<Carried>> {
        let generation = lease.generation();
        let own = self
            .kept
            .take()
            .and_then(|ticket| self.pooling.pool.take_kept(&ticket, generation));
        if let Some(own) = own {
            if *own.key() == self.beginning.key {
                return Some(own);
            }
            self.pooling.pool.close(own);
        }
        let names = &self.names;
        let suits = |carried: &Carried| names.has_all(&carried.names);
        self.pooling
            .pool
            .take_resting(&self.beginning.key, generation, suits)
    }
}
