//! A client that has proved who it is, at a branch that does not exist: it gets the branch made, where that may be.
//!
//! Until here it was its parent's client: whoever has proved nothing learns of no branch, and causes none. What the client
//! sends ahead meanwhile stays in its socket.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};

use super::{
    House,
    error::SessionError,
    record::{Outcome, SessionRecord},
    say_goodbye, say_to,
};
use crate::auth::Authenticated;
use crate::branches::{BranchError, Who, Wish};
use crate::config::Endpoint;
use crate::error::ClientError;
use crate::ids::{BranchName, EndpointName};
use crate::shutdown::Phase;
use crate::tls::Stream;
use crate::wire::refuse;

/// A client hears first after this long what it waits for, and then this often.
const NOTICE_AFTER: Duration = Duration::from_secs(2);
const NOTICE_EVERY: Duration = Duration::from_secs(10);
/// How often it is asked whether it is still there.
const HANG_UP_CHECK: Duration = Duration::from_millis(250);

/// Leads the client of a parent to its branch. The error has been told to it. Not cancel safe: a notice may be half
/// written; the making goes on.
pub(super) async fn reach(
    stream: &mut Stream,
    who: &mut Authenticated,
    branch: &str,
    house: &Arc<House>,
    record: &SessionRecord,
) -> Result<(), Outcome> {
    let parent = who.endpoint.clone();
    let held = house.quotas.admit(&parent, &who.role).and_then(|permit| {
        let held = permit.hold()?;
        Ok((permit, held))
    });
    let _held = match held {
        Ok(held) => held,
        Err(over) => {
            house.tell_over(&over, record).await;
            return Err(refuse(stream, &over, record).await);
        }
    };
    let name = match name(&parent, branch, record) {
        Ok(name) => name,
        Err(error) => return Err(refuse(stream, &error, record).await),
    };
    let wish = Wish {
        parent: parent.name.clone(),
        branch: name,
        ttl: parent.branches.ttl,
        within: parent.hold_timeout,
        who: Who::Client,
        right: who.right.clone(),
    };
    let made = wait(stream, house.branches.create(wish), (house, record)).await?;
    let found = match &made {
        Ok(made) => house.directory.endpoint(&made.name),
        Err(error) => return Err(refuse(stream, error, record).await),
    };
    // A reload or a deletion may have taken it away again.
    let Some(endpoint) = found else {
        let error = BranchError::None(record.endpoint.to_string());
        return Err(refuse(stream, &error, record).await);
    };
    who.endpoint = endpoint;
    Ok(())
}

/// What it is to be called, where there may be one. Who wakes nothing makes none either.
fn name(parent: &Endpoint, branch: &str, record: &SessionRecord) -> Result<BranchName, BranchError> {
    if !parent.branches.on_connect || !record.weight.counts() {
        return Err(BranchError::None(record.endpoint.to_string()));
    }
    let name = BranchName::parse(branch)?;
    EndpointName::of_branch(&parent.name, &name)?;
    Ok(name)
}

async fn wait<T>(
    stream: &mut Stream,
    making: impl Future<Output = T>,
    (house, record): (&House, &SessionRecord),
) -> Result<T, Outcome> {
    let mut making = std::pin::pin!(making);
    let mut shutdown = house.shutdown.clone();
    let since = Instant::now();
    let mut checks = interval(HANG_UP_CHECK);
    let mut notices = interval_at(since + NOTICE_AFTER, NOTICE_EVERY);
    notices.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // The answer first: one that came in the same instant is not thrown away.
        tokio::select! { biased;
            made = &mut making => return Ok(made),
            () = shutdown.reached(Phase::Draining) => {
                let error = SessionError::ShuttingDownBefore;
                say_goodbye(stream, &error, record.id).await;
                return Err(Outcome::of(&error));
            }
            _ = checks.tick() => if stream.has_hung_up() {
                return Err(Outcome::of(&SessionError::ClientGone));
            },
            _ = notices.tick() => {
                let waited = since.elapsed().as_secs();
                let text = format!("branch \"{}\": is being made, waited {waited} s", record.endpoint);
                let mut notice = BytesMut::new();
                refuse::notice(&text, record.id, &mut notice);
                if !say_to(stream, &notice).await {
                    return Err(Outcome::of(&SessionError::ClientGone));
                }
            }
        }
    }
}

async fn refuse(stream: &mut Stream, error: &(impl ClientError + Sync), record: &SessionRecord) -> Outcome {
    say_goodbye(stream, error, record.id).await;
    Outcome::failed(error)
}

/// A branch is in use as long as this lives; any other endpoint is left alone.
pub(super) struct Using {
    house: Arc<House>,
    branch: Option<Arc<Endpoint>>,
}

impl Using {
    /// By a client that is there.
    pub(super) fn begin(house: Arc<House>, endpoint: &Arc<Endpoint>) -> Self {
        let branch = endpoint.name.branch().map(|_| endpoint.clone());
        let using = Self { house, branch };
        using.note();
        using
    }

    fn note(&self) {
        if let Some(branch) = &self.branch {
            self.house.branches.note_use(branch);
        }
    }
}

impl Drop for Using {
    fn drop(&mut self) {
        self.note();
    }
}
