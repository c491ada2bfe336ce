//! What happens, as it happens: server-sent events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>).
//!
//! Each watcher has a bounded queue of its own (`journal`); one that is too slow is told how many events it has
//! missed, and holds up nobody.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde_json::{Value, json};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        broadcast::{Receiver, error::RecvError},
    },
    time::timeout,
};

use super::{
    show::{refusal_line, wake_line},
    time::{milliseconds, rfc3339},
};
use crate::journal::{Event, Journal};

/// A line that says nothing, so that whoever stands in between does not take the connection for dead.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(15);

/// Everything from now on; the place among those who watch is held as long.
pub(super) fn watch(journal: &Journal, place: OwnedSemaphorePermit) -> BoxStream<'static, Bytes> {
    let receiver = journal.watch();
    let first = stream::iter([Bytes::from_static(b": watching\n\n")]);
    let rest = stream::unfold((receiver, place), |(mut receiver, place)| async move {
        let chunk = next(&mut receiver).await?;
        Some((chunk, (receiver, place)))
    });
    first.chain(rest).boxed()
}

async fn next(receiver: &mut Receiver<Arc<Event>>) -> Option<Bytes> {
    match timeout(KEEP_ALIVE_EVERY, receiver.recv()).await {
        Err(_) => Some(Bytes::from_static(b": still here\n\n")),
        Ok(Ok(event)) => {
            let (kind, data) = shown(&event);
            Some(chunk(kind, &data))
        }
        Ok(Err(RecvError::Lagged(missed))) => Some(chunk("missed", &json!({ "events": missed }))),
        Ok(Err(RecvError::Closed)) => None,
    }
}

/// JSON has no line break in it.
fn chunk(kind: &str, data: &Value) -> Bytes {
    format!("event: {kind}\ndata: {data}\n\n").into()
}

fn shown(event: &Event) -> (&'static str, Value) {
    match event {
        Event::Wake(line) => ("wake", wake_line(line)),
        Event::Suspend {
            endpoint,
            at,
            awake,
            took,
        } => {
            let data = json!({
                "endpoint": endpoint.as_str(), "at": rfc3339(*at), "awake_ms": milliseconds(*awake),
                "took_ms": milliseconds(*took),
            });
            ("suspend", data)
        }
        Event::NotSuspended {
            endpoint,
            at,
            took,
            reason,
        } => {
            let data = json!({
                "endpoint": endpoint.as_str(), "at": rfc3339(*at), "took_ms": milliseconds(*took), "reason": reason,
            });
            ("not-suspended", data)
        }
        Event::Died { endpoint, at, reason } => {
            let data = json!({ "endpoint": endpoint.as_str(), "at": rfc3339(*at), "reason": reason });
            ("died", data)
        }
        Event::OtherServer {
            endpoint,
            at,
            expected,
            found,
        } => {
            let data = json!({
                "endpoint": endpoint.as_str(), "at": rfc3339(*at), "expected": expected.to_string(),
                "found": found.to_string(),
            });
            ("other-server", data)
        }
        Event::Refusal(line) => ("refusal", refusal_line(line)),
        Event::Operator { at, what } => ("operator", json!({ "at": rfc3339(*at), "what": what })),
    }
}
