//! The end of a server session: Terminate, then the wait for the server's own end of it.
//!
//! A server that has been told to leave still counts its session until it has left, and so does pgwake: the slot is
//! free when the socket is closed. In tasks of their own, since nobody else waits for it but who needs the slot.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{self, AsyncReadExt, AsyncWriteExt},
    runtime::Handle,
    time::timeout,
};

use super::{endpoint_pool::Shared, session::PooledSession};
use crate::tls::Stream;
use crate::wire::say;

/// A server leaves within milliseconds of a Terminate. One that does not has lost its connection, or still runs a
/// statement whose client has left, and is not waited for any longer.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// How a session is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goodbye {
    /// Between messages: with a Terminate.
    Said,
    /// Perhaps in the middle of a message: without a word.
    Silent,
}

/// A session that has left the register. To be given to [`Shared::bury`], without the lock.
#[must_use = "its socket is to be closed, and its slot to be freed"]
pub(super) struct Doomed<C> {
    pub(super) session: Box<PooledSession<C>>,
    pub(super) goodbye: Goodbye,
}

impl<C: Send + 'static> Shared<C> {
    /// Ends sessions in the background.
    pub(super) fn bury(self: &Arc<Self>, doomed: impl IntoIterator<Item = Doomed<C>>) {
        for Doomed { session, goodbye } in doomed {
            let closing = Closing {
                id: session.facts.id,
                shared: self.clone(),
            };
            let last = Last { session, closing };
            // Outside a runtime, which is ending then, the socket is closed at once.
            if Handle::try_current().is_ok() {
                self.tasks.spawn(last.run(goodbye));
            }
        }
    }
}

/// A session on its way out. In this order: the socket is closed and the slot freed, then that is told.
struct Last<C: Send + 'static> {
    session: Box<PooledSession<C>>,
    #[expect(dead_code, reason = "it tells by being dropped")]
    closing: Closing<C>,
}

impl<C: Send + 'static> Last<C> {
    /// Cancel safe: dropping it closes the socket.
    async fn run(mut self, goodbye: Goodbye) {
        // A server that cannot be told, or does not answer, sees the connection close all the same.
        let _ = timeout(FAREWELL_TIMEOUT, leave(&mut self.session.stream, goodbye)).await;
    }
}

async fn leave(stream: &mut Stream, goodbye: Goodbye) -> io::Result<()> {
    if goodbye == Goodbye::Said {
        stream.write_all(say::TERMINATE).await?;
    }
    stream.shutdown().await?;
    let mut rest = [0; 512];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// Tells those who wait for its end.
struct Closing<C: Send + 'static> {
    id: u64,
    shared: Arc<Shared<C>>,
}

impl<C: Send + 'static> Drop for Closing<C> {
    fn drop(&mut self) {
        self.shared.lock().closed(self.id);
        self.shared.gone.notify_waiters();
    }
}
