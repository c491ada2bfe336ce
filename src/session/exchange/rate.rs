//! Transactions per second: asked for when one begins, counted when it ends.
//!
//! Whether a request of a pipeline begins a transaction only its ReadyForQuery shows: what goes on behind a first one is
//! let through, and charged afterwards. So a pipeline may be ahead of the limit, and whoever comes next waits longer.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::Exchange;
use crate::ids::SessionId;
use crate::session::expected::Kind;
use crate::session::lane::Lane;
use crate::tenant::quota::{Meter, OverLimit};
use crate::wire::frame::{Front, HEADER_BYTES};
use crate::wire::refuse;

/// The audit log does not hear of each statement that is refused.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What a client was refused because there is too much of it, for whoever tells the audit log, also while a relay goes on.
#[derive(Debug, Default)]
pub(in crate::session) struct Refusals {
    /// Looked at in each turn, for which it costs no lock.
    is_new: AtomicBool,
    last: Mutex<LastRefusal>,
}

#[derive(Debug, Default)]
struct LastRefusal {
    over: Option<OverLimit>,
    told_at: Option<Instant>,
}

/// How fast one client's transactions may come.
#[derive(Debug)]
pub(in crate::session) struct TransactionRate {
    meter: Meter,
    session: SessionId,
    /// The transaction that is open, or the next one, is paid for.
    is_paid: bool,
}

impl Refusals {
    /// It was refused something.
    pub(in crate::session) fn put(&self, over: OverLimit) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).over = Some(over);
        self.is_new.store(true, Relaxed);
    }

    /// What is to be told now, if anything is.
    pub(in crate::session) fn due(&self) -> Option<OverLimit> {
        if !self.is_new.load(Relaxed) {
            return None;
        }
        self.is_new.store(false, Relaxed);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let over = last.over.take();
        if last.told_at.is_some_and(|at| at.elapsed() < TOLD_EVERY) {
            return None;
        }
        last.told_at = Some(Instant::now());
        over
    }
}

impl TransactionRate {
    pub(in crate::session) fn new(meter: Meter, session: SessionId) -> Self {
        Self {
            meter,
            session,
            is_paid: false,
        }
    }

    /// A transaction is about to begin, unless one was refused.
    pub(in crate::session) fn begin(&mut self) -> Result<(), OverLimit> {
        if self.is_paid || !self.meter.is_on() {
            return Ok(());
        }
        self.meter.take()?;
        self.is_paid = true;
        Ok(())
    }

    /// How long its client is not read that was refused.
    pub(in crate::session) fn pause(&self) -> Duration {
        self.meter.asks_again()
    }

    /// One has ended.
    fn ended(&mut self) {
        if !std::mem::take(&mut self.is_paid) && self.meter.is_on() {
            self.meter.charge(1);
        }
    }
}

impl<'a> Exchange<'a> {
    /// Its client's transactions are limited so; those that are refused are put there.
    pub(in crate::session) fn limited_to(
        mut self,
        rate: &'a mut TransactionRate,
        refusals: &'a Refusals,
    ) -> Self {
        self.rate = Some((rate, refusals));
        self
    }

    /// Whether errors have to be seen whole, because pgwake's words may stand in for them.
    pub(super) fn may_refuse(&self) -> bool {
        self.pooled.is_some() || self.rate.is_some()
    }

    /// A transaction has ended.
    pub(super) fn transaction_ended(&mut self) {
        if let Some((rate, _)) = &mut self.rate {
            rate.ended();
        }
    }

    /// Whether the message at the front may pass as far as the rate is concerned; if not, it has been refused.
    pub(super) fn may_begin(&mut self, lane: &mut Lane, front: Front) -> bool {
        let begins = matches!(front.tag, b'Q' | b'P' | b'B' | b'D' | b'E' | b'C' | b'F');
        let Some((rate, refusals)) = self.rate.as_mut().filter(|_| begins) else {
            return true;
        };
        if !self.expected.is_idle() {
            return true;
        }
        let Err(over) = rate.begin() else {
            return true;
        };
        let mut message = BytesMut::new();
        refuse::error(&over, rate.session, &mut message);
        // The refusal itself is no transaction.
        rate.is_paid = true;
        refusals.put(over);
        let body: Bytes = message.freeze().slice(HEADER_BYTES..);
        let kind = match front.tag {
            b'Q' | b'F' => Kind::Simple,
            _ => Kind::Parse,
        };
        let pause = rate.pause();
        self.refuse(lane, front, kind, body);
        lane.pause_for(pause);
        false
    }
}
