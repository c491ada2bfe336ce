//! Who is connected to the port, and who has to make room there.
//!
//! Whoever has come has a place until nothing is asked any more, or nothing taken of what was answered. When all places are
//! taken, the next one gets that of whoever has asked nothing for longest: nobody shuts the port by being there. Who calls:
//! `serve`.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::AbortHandle,
    time::{Instant, sleep},
};

/// Most connections at once.
const GUESTS_MAX: usize = 128;
/// A connection on which nothing is asked for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// A connection whose other side takes nothing of an answer for so long is given up.
const TAKING_TIMEOUT: Duration = Duration::from_secs(15);
/// Until somebody is looked for again who may go, where everybody asks something.
const PAUSE: Duration = Duration::from_millis(50);

/// All who are connected.
#[derive(Default)]
pub(super) struct Guests(Vec<(Arc<Usage>, AbortHandle)>);

impl Guests {
    /// There is a place when this returns. Cancel safe.
    pub(super) async fn make_room(&mut self) {
        while !self.has_room() {
            sleep(PAUSE).await;
        }
    }

    /// One more, who is served by this task.
    pub(super) fn add(&mut self, usage: Arc<Usage>, serving: AbortHandle) {
        self.0.push((usage, serving));
    }

    fn has_room(&mut self) -> bool {
        self.0.retain(|(_, serving)| !serving.is_finished());
        if self.0.len() < GUESTS_MAX {
            return true;
        }
        let asked_at = |(place, (usage, _)): (usize, &(Arc<Usage>, _))| Some((usage.asked_at()?, place));
        let Some((_, longest)) = self.0.iter().enumerate().filter_map(asked_at).min() else {
            return false;
        };
        self.0.swap_remove(longest).1.abort();
        true
    }
}

/// What goes on on a connection.
pub(super) struct Usage(Mutex<Noted>);

struct Noted {
    /// Requests that are being answered.
    running: usize,
    /// When that was last so, or the connection began.
    asked_at: Instant,
    /// Since when the other side has taken nothing of what waits for it.
    waiting_since: Option<Instant>,
}

impl Usage {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Noted {
            running: 0,
            asked_at: Instant::now(),
            waiting_since: None,
        }))
    }

    /// Something is asked, as long as what is returned lives.
    pub(super) fn begin(this: &Arc<Self>) -> Using {
        this.with(|noted| noted.running += 1);
        Using(this.clone())
    }

    /// Whether nothing has been asked for long.
    pub(super) fn is_idle(&self) -> bool {
        self.asked_at().is_some_and(|at| at.elapsed() > IDLE_TIMEOUT)
    }

    /// Whether an answer has not been taken for long.
    pub(super) fn is_stuck(&self) -> bool {
        let since = self.with(|noted| noted.waiting_since);
        since.is_some_and(|since| since.elapsed() > TAKING_TIMEOUT)
    }

    /// When something was last asked; `None`: it is now.
    fn asked_at(&self) -> Option<Instant> {
        self.with(|noted| (noted.running == 0).then_some(noted.asked_at))
    }

    fn with<T>(&self, look: impl FnOnce(&mut Noted) -> T) -> T {
        // Nothing is done under the lock that could leave it half changed.
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One request.
pub(super) struct Using(Arc<Usage>);

impl Drop for Using {
    fn drop(&mut self) {
        self.0.with(|noted| {
            noted.running -= 1;
            noted.asked_at = Instant::now();
        });
    }
}

/// A connection on which it is noted whether the other side takes what is written.
pub(super) struct Watched<S> {
    stream: S,
    usage: Arc<Usage>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, usage: Arc<Usage>) -> Self {
        Self { stream, usage }
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        self.usage.with(|noted| match written {
            Poll::Ready(_) => noted.waiting_since = None,
            Poll::Pending => _ = noted.waiting_since.get_or_insert_with(Instant::now),
        });
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::{advance, timeout},
    };

    use super::*;

    fn come(guests: &mut Guests) -> Arc<Usage> {
        let usage = Arc::new(Usage::new());
        guests.add(usage.clone(), tokio::spawn(pending::<()>()).abort_handle());
        usage
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_asked_nothing_for_longest_makes_room_and_who_asks_stays() {
        let mut guests = Guests::default();
        let mut asking = Vec::new();
        for number in 0..GUESTS_MAX {
            guests.make_room().await;
            let usage = come(&mut guests);
            if number == 0 {
                asking.push(Usage::begin(&usage));
            }
            advance(Duration::from_millis(1)).await;
        }
        let second = guests.0[1].1.clone();
        let third = guests.0[2].0.clone();
        drop(Usage::begin(&third));
        guests.make_room().await;
        tokio::task::yield_now().await;
        assert!(second.is_finished());
        come(&mut guests);
        // Where all ask something, it is waited until one does not.
        let all: Vec<_> = guests.0.iter().map(|(usage, _)| Usage::begin(usage)).collect();
        assert!(
            timeout(Duration::from_secs(60), guests.make_room())
                .await
                .is_err()
        );
        drop((all, asking));
        guests.make_room().await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_of_which_nothing_is_taken_is_stuck_until_something_is() {
        let (mut client, server) = duplex(16);
        let usage = Arc::new(Usage::new());
        let mut watched = Watched::new(server, usage.clone());
        let mut later = pin_write(&mut watched);
        assert!(timeout(TAKING_TIMEOUT, &mut later).await.is_err());
        assert!(!usage.is_stuck());
        advance(Duration::from_secs(1)).await;
        assert!(usage.is_stuck());
        let mut taken = [0; 16];
        client.read_exact(&mut taken).await.unwrap();
        later.await;
        assert!(!usage.is_stuck());
    }

    /// More than fits.
    fn pin_write(watched: &mut (impl AsyncWrite + Unpin)) -> Pin<Box<impl Future<Output = ()>>> {
        Box::pin(async { watched.write_all(&[0; 32]).await.unwrap() })
    }
}
