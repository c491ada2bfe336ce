//! Slows reading down to what the limits allow: what is not read waits with whoever sent it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep, sleep_until};

use crate::tenant::quota::Meter;

/// Of one direction.
#[derive(Debug)]
pub(super) struct Pacing {
    meter: Meter,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Pacing {
    pub(super) fn new(meter: Meter) -> Self {
        Self { meter, pause: None }
    }

    /// What it is slowed down by.
    pub(super) fn into_meter(self) -> Meter {
        self.meter
    }

    /// Whether reading waits.
    pub(super) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Nothing more is read for a while.
    pub(super) fn pause_for(&mut self, time: Duration) {
        self.pause = Some(Box::pin(sleep(time)));
    }

    /// `Ready` when more may be read.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if !self.meter.is_on() {
                return Poll::Ready(());
            }
            let delay = self.meter.delay();
            if delay.is_zero() {
                return Poll::Ready(());
            }
            self.pause = Some(Box::pin(sleep_until(Instant::now() + delay)));
        }
    }

    /// So much has been read.
    pub(super) fn charge(&mut self, bytes: usize) {
        if self.meter.is_on() {
            self.meter.charge(bytes as u64);
        }
    }
}
