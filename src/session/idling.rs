//! Sessions that last too long, or do nothing for too long: when that is, noticed without a clock where nothing is
//! limited.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    task::coop,
    time::{Instant, Sleep, sleep_until},
};

use crate::tenant::quota::Times;

/// Why a session's time is over, as soon as it is idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Its token's is.
    Token,
    /// Sessions may not be older.
    Age(Duration),
}

impl Ending {
    /// The first end of a session that begins now and whose token is over at `token_ends_at`.
    pub(super) fn of(token_ends_at: Option<Instant>, times: Times) -> Option<(Instant, Self)> {
        let token = token_ends_at.map(|at| (at, Self::Token));
        let age = times.session_age.and_then(|age| {
            let at = Instant::now().checked_add(age)?;
            Some((at, Self::Age(age)))
        });
        [token, age].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// Rings at a time, where there is one, and can be set again.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// It rings then from now on.
    pub(super) fn set(&mut self, at: Option<Instant>) {
        match (at, &mut self.0) {
            (None, alarm) => *alarm = None,
            (Some(at), Some(alarm)) => alarm.as_mut().reset(at),
            (Some(at), None) => self.0 = Some(Box::pin(sleep_until(at))),
        }
    }

    /// `Ready` when it rings.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(alarm) => alarm.as_mut().poll(cx),
            None => Poll::Pending,
        }
    }
}

/// Rings at a time that is told each time it is asked, and is a later one each time. The clock is set again only when it rings
/// too early: whoever waits for a moment again and again sets it seldom.
#[derive(Debug, Default)]
pub(super) struct Patience(Option<Clock>);

#[derive(Debug)]
struct Clock {
    sleep: Pin<Box<Sleep>>,
    /// Is woken when it rings.
    task: Option<Waker>,
}

impl Patience {
    /// `Ready` at that time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let clock = self.0.get_or_insert_with(|| Clock {
            sleep: Box::pin(sleep_until(until)),
            task: None,
        });
        let sleep = &mut clock.sleep;
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
            clock.task = None;
        }
        let wakes = clock.task.as_ref().is_some_and(|task| task.will_wake(cx.waker()));
        // It was asked before, and has not rung: that costs no more than a look.
        if wakes && !sleep.is_elapsed() {
            return Poll::Pending;
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= until {
                self.0 = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
        // A task that has done as much as it may at once is asked again in any case, and the clock has not heard of it.
        clock.task = coop::has_budget_remaining().then(|| cx.waker().clone());
        Poll::Pending
    }
}

/// What a session does while nothing is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// Something is on its way.
    Busy,
    /// Nothing is open.
    Idle,
    /// A transaction is.
    InTransaction,
}

/// Notices that a session has done nothing for too long.
#[derive(Debug)]
pub(super) struct IdleWatch {
    times: Times,
    /// How the session rested when it was last looked at, and how many bytes it had moved then.
    seen: (Rest, u64),
    alarm: Alarm,
}

impl IdleWatch {
    /// `None`: nothing is too long.
    pub(super) fn of(times: Times) -> Option<Self> {
        let limits = times.idle.or(times.idle_in_transaction);
        limits.map(|_| Self {
            times,
            seen: (Rest::Busy, 0),
            alarm: Alarm::default(),
        })
    }

    /// `Ready` when the session rests so for longer than it may; `moved` are all bytes that it has moved.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, rest: Rest, moved: u64) -> Poll<Duration> {
        let limit = match rest {
            Rest::Busy => None,
            Rest::Idle => self.times.idle,
            Rest::InTransaction => self.times.idle_in_transaction,
        };
        if self.seen != (rest, moved) {
            self.seen = (rest, moved);
            self.alarm.set(limit.map(|limit| Instant::now() + limit));
        }
        self.alarm.poll(cx).map(|()| limit.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn patience_is_over_at_the_time_that_is_told_last() {
        let begin = Instant::now();
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        let mut patience = Patience::default();
        let mut is_over = async |until| poll_fn(|cx| Poll::Ready(patience.poll(cx, until).is_ready())).await;
        for told in [2, 3, 4] {
            assert!(!is_over(at(told)).await);
        }
        tokio::time::advance(Duration::from_secs(3)).await;
        assert!(!is_over(at(4)).await, "the clock was set to the first time");
        assert!(is_over(at(3)).await);
        assert!(is_over(at(1)).await);
        assert!(!is_over(at(9)).await);
        poll_fn(|cx| patience.poll(cx, at(5))).await;
        assert_eq!(Instant::now(), at(5), "an earlier time is told");
    }

    /// The clock of a task that had done as much as the runtime lets it do at once was not set, and counted as set: whoever
    /// waited for it waited for ever.
    #[tokio::test(start_paused = true)]
    async fn patience_that_began_when_a_task_had_to_let_others_run_is_over_in_time() {
        let until = Instant::now() + Duration::from_secs(2);
        let mut patience = Patience::default();
        poll_fn(|cx| {
            while pin!(coop::consume_budget()).poll(cx).is_ready() {}
            assert!(patience.poll(cx, until).is_pending());
            Poll::Ready(())
        })
        .await;
        let over = timeout(Duration::from_secs(60), poll_fn(|cx| patience.poll(cx, until)));
        assert!(over.await.is_ok(), "nothing wakes it");
        assert_eq!(Instant::now(), until);
    }
}
