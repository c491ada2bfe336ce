//! Bytes both ways between a client and the server session lent to it, until one of them ends or pgwake must.
//!
//! One task polls both directions, always both, so that neither side can block the other. It decides when a
//! session may be ended without harm; why, and what the client is told, is the turn's business.

mod end;
mod reports;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{
    exchange::Exchange,
    idling::{Alarm, Ending, IdleWatch, Rest},
    lane::{Lane, LaneEnd},
    roster::{Listed, Passed},
    standing::{Dismissal, Standing},
};
use crate::shutdown::{Phase, SessionWatch};
use crate::tls::Stream;
use crate::wake::{AwakeLease, LeaseSignal};

pub(super) use end::End;
pub(super) use reports::IdleReports;

/// How often a client whose bytes the server does not take is looked at: it may have left.
const HANG_UP_CHECK: Duration = Duration::from_secs(1);
/// How long a statement may go on after its client has said Terminate and left: to Postgres that is no reason to end it, but nobody
/// is there any more who would.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3600);

/// The two streams and what is on its way between them.
pub(super) struct Relay<'a, 'e> {
    client: &'a mut Stream,
    server: &'a mut Stream,
    /// From the client; what it has sent ahead outlives the turn.
    up: &'a mut Lane,
    down: &'a mut Lane,
    exchange: &'a mut Exchange<'e>,
    /// Set where the lease wants to know whether the session is idle.
    reported_idle: Option<bool>,
    hang_up_check: Option<Pin<Box<Sleep>>>,
    client_closed: bool,
    /// The client takes no more answers, and has said Terminate before: nobody waits for them.
    discarding: bool,
    finish_by: Option<Pin<Box<Sleep>>>,
    /// When the session ends as soon as it is idle.
    ends_at: Option<(Instant, Ending)>,
    idle_watch: Option<IdleWatch>,
    standing: Option<&'a mut Standing>,
    /// Told where the session becomes idle or active, with what had passed before.
    listed: Option<(&'a Listed, Passed)>,
    told_idle: Option<bool>,
}

/// The streams of a relay, and what is on its way in each direction.
pub(super) struct Sides<'a> {
    pub(super) client: &'a mut Stream,
    pub(super) server: &'a mut Stream,
    pub(super) up: &'a mut Lane,
    pub(super) down: &'a mut Lane,
}

impl<'a, 'e> Relay<'a, 'e> {
    /// A relay between a greeted client and its server.
    pub(super) fn new(sides: Sides<'a>, exchange: &'a mut Exchange<'e>, reports: IdleReports) -> Self {
        let Sides {
            client,
            server,
            up,
            down,
        } = sides;
        let reported_idle = (reports == IdleReports::Yes).then_some(false);
        exchange.relay_begins();
        Self {
            client,
            server,
            up,
            down,
            exchange,
            reported_idle,
            hang_up_check: None,
            client_closed: false,
            discarding: false,
            finish_by: None,
            ends_at: None,
            idle_watch: None,
            standing: None,
            listed: None,
            told_idle: None,
        }
    }

    /// Whoever looks at sessions sees whether this one is idle, and what passes behind what has passed `before`.
    pub(super) fn listed(mut self, listed: Option<&'a Listed>, before: Passed) -> Self {
        self.listed = listed.map(|listed| (listed, before));
        self
    }

    /// From then on the session ends as soon as it is idle.
    pub(super) fn until(mut self, ends_at: Option<(Instant, Ending)>) -> Self {
        self.ends_at = ends_at;
        self
    }

    /// It ends when it has done nothing for too long.
    pub(super) fn watched(mut self, watch: Option<IdleWatch>) -> Self {
        self.idle_watch = watch;
        self
    }

    /// It ends when its client may not be here any more.
    pub(super) fn standing(mut self, standing: &'a mut Standing) -> Self {
        self.standing = Some(standing);
        self
    }

    /// Relays until the end. Not cancel safe: bytes on their way are lost with it.
    pub(super) async fn run(&mut self, lease: &AwakeLease, shutdown: &mut SessionWatch) -> End {
        let mut standing = self.standing.take();
        let (mut dismissal, mut expiry) = (None, Alarm::default());
        loop {
            let phase = shutdown.phase();
            if phase == Phase::Stopping {
                return End::ShutDown;
            }
            // Whoever may not be here has no time to finish.
            if let Some(now @ (Dismissal::Address | Dismissal::Server)) = dismissal {
                return End::Dismissed(now);
            }
            let expired = self.ends_at.filter(|(at, _)| *at <= Instant::now());
            let expires_at = self.ends_at.filter(|_| expired.is_none()).map(|(at, _)| at);
            let signals = lease.signals();
            let ending = match lease.told() {
                // Meant for others where this session is not told to end when idle: what follows calls the suspend off.
                LeaseSignal::EndIfIdle if self.reported_idle.is_some() => Some(End::IdleEnded),
                LeaseSignal::Steady | LeaseSignal::EndIfIdle => match dismissal {
                    _ if phase == Phase::Draining => Some(End::ShutDown),
                    Some(dismissal) => Some(End::Dismissed(dismissal)),
                    None => expired.map(|(_, ending)| End::Expired(ending)),
                },
                LeaseSignal::Lost(reason) => Some(End::ComputeLost(reason)),
                LeaseSignal::Suspended if !lease.weight().counts() => return End::CutOff,
                LeaseSignal::Suspended => Some(End::ComputeLost("the compute was suspended".into())),
            };
            if let Some(End::ComputeLost(reason)) = ending {
                let last_words = Box::pin(self.last_words_of_server()).await;
                return last_words.unwrap_or(End::ComputeLost(reason));
            }
            let next_phase = if phase < Phase::Draining {
                Phase::Draining
            } else {
                Phase::Stopping
            };
            expiry.set(expires_at);
            // By hand instead of `select!`: all of it is asked several times in each turn.
            let end = poll_fn(|cx| {
                // Traffic first: a statement that has already come makes the session active.
                if let Poll::Ready(end) = self.poll(cx, lease, ending.is_some()) {
                    return Poll::Ready(Some(end));
                }
                // The session's bell rings for all of it: it is listened to before anything is looked at.
                let is_over = shutdown.poll_reached(cx, next_phase).is_ready();
                if dismissal.is_none()
                    && let Some(standing) = &mut standing
                {
                    dismissal = standing.lost();
                    if dismissal.is_some() {
                        return Poll::Ready(None);
                    }
                }
                let is_news = is_over || lease.signals() != signals || expiry.poll(cx).is_ready();
                if is_news { Poll::Ready(None) } else { Poll::Pending }
            });
            if let Some(end) = end.await {
                return end.or(ending).unwrap_or(End::ShutDown);
            }
        }
    }

    /// `Ready(None)`: the session is idle and was to end when it is.
    fn poll(&mut self, cx: &mut Context<'_>, lease: &AwakeLease, end_when_idle: bool) -> Poll<Option<End>> {
        // Before the server's own last words, which do not say why.
        if lease.is_cut_off() {
            return Poll::Ready(Some(End::CutOff));
        }
        // Answers first: they make room for further requests.
        if let Poll::Ready(end) = self.poll_down(cx) {
            return Poll::Ready(Some(end));
        }
        // Before more is read: a client that always has one more request does not keep its session from the others.
        if let Some(end) = self.turn_end() {
            return Poll::Ready(Some(end));
        }
        if let Poll::Ready(end) = self.poll_up(cx) {
            return Poll::Ready(Some(end));
        }
        // What pgwake says itself waits for nothing from the server.
        if self.exchange.is_to_say()
            && let Poll::Ready(end) = self.poll_down(cx)
        {
            return Poll::Ready(Some(end));
        }
        if let Some(end) = self.turn_end() {
            return Poll::Ready(Some(end));
        }
        let idle = self.is_at_rest() && self.exchange.expected.is_idle();
        self.report(lease, idle);
        self.tell(idle);
        if idle && end_when_idle {
            return Poll::Ready(None);
        }
        self.poll_idling(cx).map(Some)
    }

    fn poll_idling(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let rests = self.idle_watch.is_some() && self.is_at_rest() && self.exchange.expected.is_answered();
        let Some(watch) = &mut self.idle_watch else {
            return Poll::Pending;
        };
        let rest = match (rests, self.exchange.expected.status()) {
            (false, _) => Rest::Busy,
            (true, b'I') => Rest::Idle,
            (true, _) => Rest::InTransaction,
        };
        let moved = self.up.bytes() + self.down.bytes();
        watch.poll(cx, rest, moved).map(|limit| End::Idled(rest, limit))
    }

    /// What transaction pooling ends a turn for.
    fn turn_end(&self) -> Option<End> {
        if self.exchange.has_ended_unheard() {
            Some(End::Unheard)
        } else if !self.exchange.is_pooled() || !self.is_at_rest() {
            None
        } else if self.exchange.has_begin_failed() {
            Some(End::BeginFailed)
        } else if self.exchange.gate().is_some() {
            Some(End::Gate)
        } else if self.exchange.is_releasable() {
            Some(End::Released)
        } else {
            self.exchange.is_over().then_some(End::Terminated)
        }
    }

    fn is_at_rest(&self) -> bool {
        // What has come of a notice would be lost with its beginning.
        let down_rests = self.discarding || self.down.is_at_rest();
        self.up.is_at_rest() && down_rests && self.down.is_empty()
    }

    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.poll_finish(cx).is_ready() {
            return Poll::Ready(End::Terminated);
        }
        if self.client_closed {
            return Poll::Pending;
        }
        if self.exchange.expected.is_full() && !self.up.is_blocked() {
            return self.poll_hang_up(cx);
        }
        let end = self
            .up
            .poll_pass(cx, self.client, self.server, &mut self.exchange.up());
        match end {
            Poll::Pending if self.up.is_blocked() || self.up.is_paused() || self.exchange.is_held() => {
                self.poll_hang_up(cx)
            }
            // The server does not take the last bytes yet; without a Terminate among them nobody needs it to.
            Poll::Pending if self.up.has_seen_the_end() && !self.exchange.is_terminated() => {
                Poll::Ready(End::ClientGone)
            }
            // Nothing more is read from it in transaction pooling, and the server does not hear of it.
            Poll::Pending if self.exchange.is_pooled() && self.exchange.is_terminated() => {
                self.begin_to_finish();
                self.poll_finish(cx)
            }
            Poll::Pending => {
                self.hang_up_check = None;
                Poll::Pending
            }
            // What came before it is answered first.
            Poll::Ready(LaneEnd::Broken(_)) if self.exchange.is_answering() => self.poll_hang_up(cx),
            Poll::Ready(LaneEnd::Broken(broken)) => Poll::Ready(End::ClientBroken(broken)),
            // The other direction says why: the server's last words may still be unread.
            Poll::Ready(LaneEnd::WriteFailed) => self.poll_hang_up(cx),
            Poll::Ready(LaneEnd::ReadClosed) if !self.exchange.is_terminated() => {
                Poll::Ready(End::ClientGone)
            }
            Poll::Ready(LaneEnd::ReadClosed) => {
                self.client_closed = true;
                self.begin_to_finish();
                self.poll_finish(cx)
            }
        }
    }

    /// The client has left behind a Terminate: what it asked for is done without it.
    fn begin_to_finish(&mut self) {
        self.finish_by
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + FINISH_TIMEOUT)));
    }

    /// The server ends by itself once it has done what was asked; if not, its time is over some day.
    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match &mut self.finish_by {
            Some(sleep) => sleep.as_mut().poll(cx).map(|()| End::Terminated),
            None => Poll::Pending,
        }
    }

    /// A client whose bytes nobody takes is not read: its leaving shows in no read.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        loop {
            let check = self
                .hang_up_check
                .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + HANG_UP_CHECK)));
            std::task::ready!(check.as_mut().poll(cx));
            self.hang_up_check = None;
            if self.client.has_hung_up() {
                // Also where it is not its turn yet.
                if !self.exchange.is_terminated() && !self.up.ends_with_terminate() {
                    return Poll::Ready(End::ClientGone);
                }
                self.begin_to_finish();
            }
        }
    }

    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if !self.discarding {
            if !self.up.is_kept() {
                self.exchange.note_heard();
            }
            let mut editor = match self.up.is_at_rest() {
                true => self.exchange.down_to_the_last_answer(),
                false => self.exchange.down(),
            };
            let passed = self.down.poll_pass(cx, self.server, self.client, &mut editor);
            if self.exchange.may_be_heard() {
                self.up.let_go();
            }
            match passed {
                Poll::Ready(LaneEnd::WriteFailed) if self.exchange.is_terminated() => {
                    self.discarding = true;
                    self.begin_to_finish();
                }
                passed => return passed.map(|end| self.end_of_down(&end)),
            }
        }
        let end = self.down.poll_discard(cx, self.server, &mut self.exchange.down());
        end.map(|end| self.end_of_down(&end))
    }

    fn end_of_down(&self, end: &LaneEnd) -> End {
        match end {
            LaneEnd::WriteFailed => End::ClientGone,
            LaneEnd::ReadClosed if self.exchange.has_ended_unheard() => End::Unheard,
            LaneEnd::ReadClosed if self.exchange.is_terminated() => End::Terminated,
            LaneEnd::ReadClosed => End::ServerClosed,
            LaneEnd::Broken(_) => End::ServerBroken,
        }
    }

    /// The compute is gone; what its server still managed to say goes to the client first.
    async fn last_words_of_server(&mut self) -> Option<End> {
        let words = poll_fn(|cx| self.poll_down(cx));
        // The socket of a dead server is at its end at once; one that is not says nothing worth waiting for.
        tokio::time::timeout(LAST_WORDS_TIMEOUT, words)
            .await
            .ok()
            .filter(|_| self.exchange.fatal().is_some())
    }
}

/// How long a lost compute's socket may take to show its end.
const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(100);
