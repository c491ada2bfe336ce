//! A wait for someone else, on behalf of a client: it ends with the answer, when the client leaves, or when
//! pgwake stops. The client is told by NOTICE what it waits for.
//!
//! Deadlines are the waited-for's own affair: a lease ends by the client's deadline, a connect by its limit.

use std::{
    future::{Future, poll_fn},
    mem::MaybeUninit,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncWriteExt, ReadBuf},
    time::{Instant, Interval, interval, sleep_until},
};

use super::{
    House,
    record::SessionRecord,
    standing::{Dismissal, Standing},
};
use crate::cancel::PooledRegistration;
use crate::config::Endpoint;
use crate::ids::SessionId;
use crate::shutdown::{Phase, SessionWatch};
use crate::tls::Stream;
use crate::wire::refuse;

/// A held client hears first after this long.
pub(super) const NOTICE_AFTER: Duration = Duration::from_secs(2);
/// And then this often.
const NOTICE_EVERY: Duration = Duration::from_secs(10);
/// What a held client may send ahead; beyond, it waits in the socket.
const EARLY_BYTES_MAX: usize = 16 * 1024;
/// A client that has sent so much ahead is no longer read; whether it has left is asked this often.
const HANG_UP_CHECK: Duration = Duration::from_millis(250);
/// A client that does not even take a notice within this time counts as gone.
const NOTICE_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that is held.
pub(super) struct Held<'a> {
    client: &'a mut Stream,
    early: &'a mut BytesMut,
    session: SessionId,
    standing: Standing,
    shutdown: SessionWatch,
    /// When the client hears next what it waits for.
    notice_at: Instant,
    since: Instant,
    /// Ends the wait where the client may cancel it.
    cancel: Option<Arc<PooledRegistration>>,
    /// Asks a client that is no longer read whether it is still there; made when it is first needed.
    hang_up_check: Option<Interval>,
    /// It has said Terminate and left: nobody is told anything, and nobody's leaving ends the wait.
    has_left: bool,
}

/// Why a wait ended without its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HoldEnd {
    /// Nobody waits any more.
    ClientGone,
    /// pgwake stops or drains.
    ShutDown,
    /// An operator ends the session.
    Terminated,
    /// The client cancelled it.
    Cancelled,
    /// The client's address is not allowed any more.
    Barred,
}

impl<'a> Held<'a> {
    /// Begins to hold `client`, which has had its AuthenticationOk. What it sends ahead is put into `early`.
    pub(super) fn new(
        client: &'a mut Stream,
        early: &'a mut BytesMut,
        record: &SessionRecord,
        house: &Arc<House>,
        endpoint: &Arc<Endpoint>,
    ) -> Self {
        let since = Instant::now();
        Self {
            client,
            early,
            session: record.id,
            standing: Standing::new(house, endpoint, record),
            shutdown: record.shutdown(house),
            notice_at: since + NOTICE_AFTER,
            since,
            cancel: None,
            hang_up_check: None,
            has_left: false,
        }
    }

    /// What it asked for before it left is done without it.
    pub(super) fn without_client(mut self) -> Self {
        self.has_left = true;
        self
    }

    /// It has waited since then.
    pub(super) fn since(mut self, since: Instant) -> Self {
        (self.since, self.notice_at) = (since, since + NOTICE_AFTER);
        self
    }

    /// The client's key ends the wait.
    pub(super) fn cancelled_by(mut self, key: Arc<PooledRegistration>) -> Self {
        self.cancel = Some(key);
        self
    }

    /// Waits for `answer`; `what` says what for, in a notice. Not cancel safe: a notice may be half written.
    pub(super) async fn wait<F: Future>(
        &mut self,
        answer: F,
        what: impl Fn() -> &'static str,
    ) -> Result<F::Output, HoldEnd> {
        let mut answer = pin!(answer);
        loop {
            if let Some(answer) = self.listen(answer.as_mut(), self.notice_at).await? {
                return Ok(answer);
            }
            Box::pin(self.tell(what())).await?;
        }
    }

    /// The same up to `deadline`; `None`: there was no answer by then. Costs one timer, which many clients take that wait
    /// for a moment only.
    pub(super) async fn wait_until<F: Future>(
        &mut self,
        deadline: Instant,
        answer: F,
        what: impl Fn() -> &'static str,
    ) -> Result<Option<F::Output>, HoldEnd> {
        let mut answer = pin!(answer);
        loop {
            let time = deadline.min(self.notice_at);
            let heard = self.listen(answer.as_mut(), time).await?;
            if heard.is_some() || time == deadline {
                return Ok(heard);
            }
            Box::pin(self.tell(what())).await?;
        }
    }

    /// `None`: it is time.
    async fn listen<F: Future>(
        &mut self,
        answer: Pin<&mut F>,
        time: Instant,
    ) -> Result<Option<F::Output>, HoldEnd> {
        let leaving = poll_fn(|cx| match self.has_left {
            true => Poll::Pending,
            false => poll_leaving(cx, self.client, self.early, &mut self.hang_up_check),
        });
        // The answer first: one that came in the same instant is not thrown away.
        tokio::select! { biased;
            answer = answer => Ok(Some(answer)),
            () = leaving => Err(HoldEnd::ClientGone),
            end = poll_fn(|cx| {
                let calls = (&mut self.shutdown, &mut self.standing);
                poll_called_off(cx, calls, self.cancel.as_deref())
            }) => Err(end),
            () = sleep_until(time) => Ok(None),
        }
    }

    async fn tell(&mut self, what: &str) -> Result<(), HoldEnd> {
        self.notice_at = Instant::now() + NOTICE_EVERY;
        if self.has_left {
            return Ok(());
        }
        let waited = self.since.elapsed().as_secs_f64();
        let endpoint = self.standing.endpoint();
        let text = format!("endpoint \"{endpoint}\": {what}, waited {waited:.0} s");
        let mut notice = BytesMut::new();
        refuse::notice(&text, self.session, &mut notice);
        let client = &mut *self.client;
        let write = async {
            client.write_all(&notice).await?;
            client.flush().await
        };
        // A notice that was written in part has broken the stream: either way the client is given up.
        match tokio::time::timeout(NOTICE_TIMEOUT, write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(HoldEnd::ClientGone),
        }
    }
}

/// `Ready` once somebody else than the client has ended the wait, or the client by its key.
fn poll_called_off(
    cx: &Context<'_>,
    (shutdown, standing): (&mut SessionWatch, &mut Standing),
    cancel: Option<&PooledRegistration>,
) -> Poll<HoldEnd> {
    // First, since the bell that is listened to rings for all of it.
    let is_over = shutdown.poll_reached(cx, Phase::Draining).is_ready();
    if cancel.is_some_and(PooledRegistration::is_cancelled) {
        return Poll::Ready(HoldEnd::Cancelled);
    }
    match is_over {
        true if shutdown.is_alone() => Poll::Ready(HoldEnd::Terminated),
        true => Poll::Ready(HoldEnd::ShutDown),
        // Whoever waits for an endpoint that is gone hears it from there.
        false if standing.lost_at_rest() == Some(Dismissal::Address) => Poll::Ready(HoldEnd::Barred),
        false => Poll::Pending,
    }
}

/// `Ready` once the client has left. Reads what it sends meanwhile, up to a limit.
fn poll_leaving(
    cx: &mut Context<'_>,
    client: &mut Stream,
    early: &mut BytesMut,
    check: &mut Option<Interval>,
) -> Poll<()> {
    while early.len() < EARLY_BYTES_MAX {
        let mut bytes = [const { MaybeUninit::uninit() }; 1024];
        let room = bytes.len().min(EARLY_BYTES_MAX - early.len());
        let mut read = ReadBuf::uninit(&mut bytes[..room]);
        match Pin::new(&mut *client).poll_read(cx, &mut read) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(())) if !read.filled().is_empty() => early.extend_from_slice(read.filled()),
            Poll::Ready(_) => return Poll::Ready(()),
        }
    }
    let check = check.get_or_insert_with(|| interval(HANG_UP_CHECK));
    while check.poll_tick(cx).is_ready() {
        if client.has_hung_up() {
            return Poll::Ready(());
        }
    }
    Poll::Pending
}
