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
        // Under the limits that hold now.
        self.meter.is_on();
        self.pause = Some(Box::pin(sleep(time)));
    }

    /// `Ready` when more may be read. A pause lasts no longer than the limits that it is for: whoever changes them has all
    /// sessions look.
    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                if !self.meter.is_outdated() {
                    ready!(pause.as_mut().poll(cx));
                }
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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::config::{ByteRate, Config, Endpoint, Quota};
    use crate::tenant::quota::{Paced, Quotas};

    /// Who had to wait for an hour under one limit waited for it under a far larger one, too.
    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_with_the_limit_that_it_is_for() {
        let endpoint = Endpoint::without_compute("acme");
        let config = |bytes| {
            let mut config = Config::of_endpoints([&endpoint]);
            config.limits.quota = Quota {
                bytes_in: Some(ByteRate(bytes)),
                ..Quota::default()
            };
            config
        };
        let quotas = Quotas::new(&config(10));
        let client = quotas.admit(&endpoint, "app").unwrap();
        let mut pacing = Pacing::new(client.meter(Paced::BytesIn));
        pacing.charge(36_000);
        let is_ready = |pacing: &mut Pacing| {
            std::future::poll_fn(|cx| pacing.poll_ready(cx))
                .now_or_never()
                .is_some()
        };
        assert!(!is_ready(&mut pacing) && pacing.is_paused());
        quotas.set_rules(&config(20));
        assert!(!is_ready(&mut pacing) && pacing.is_paused(), "a debt stays one");
        quotas.set_rules(&config(1_000_000));
        assert!(is_ready(&mut pacing));
        pacing.pause_for(Duration::from_millis(20));
        assert!(!is_ready(&mut pacing), "nothing has changed since");
    }
}
