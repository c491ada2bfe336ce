//! One session, one wake, one refusal: in lists, in an endpoint's own view and in events.

use serde_json::{Value, json};

use crate::admin::time::{milliseconds, rfc3339};
use crate::config::IgnoredBy;
use crate::journal::{RefusalLine, WakeLine};
use crate::session::roster::Listed;

/// One session.
pub(super) fn session_line(listed: &Listed) -> Value {
    let who = &listed.who;
    let (doing, doing_for) = listed.doing();
    let passed = listed.passed();
    json!({
        "session": who.id.to_string(),
        "tenant": &*who.tenant,
        "endpoint": who.endpoint.as_str(),
        "role": &*who.role,
        "database": &*who.database,
        "application": &*who.application,
        "peer": who.peer,
        "tls": who.tls,
        "pooling": who.pooling.as_str(),
        "idle_ignored": who.ignored.map(IgnoredBy::as_str),
        "since": rfc3339(who.since),
        "state": doing.as_str(),
        "for_ms": milliseconds(doing_for),
        "pins": listed.pins(),
        "bytes_in": passed.bytes_in,
        "bytes_out": passed.bytes_out,
        "queries": passed.queries,
    })
}

/// One wake.
pub(in crate::admin) fn wake_line(line: &WakeLine) -> Value {
    let phases = line
        .phases
        .iter()
        .map(|(phase, took)| json!({ "phase": phase, "took_ms": took.as_secs_f64() * 1000.0 }));
    let sessions = line
        .sessions
        .iter()
        .map(|(session, held)| json!({ "session": session.to_string(), "held_ms": milliseconds(*held) }));
    json!({
        "wake": line.id,
        "endpoint": line.endpoint.as_str(),
        "at": rfc3339(line.at),
        "state": line.state.as_str(),
        "took_ms": line.took.as_secs_f64() * 1000.0,
        "phases": phases.collect::<Vec<_>>(),
        "reason": line.reason,
        "held": line.held,
        "sessions": sessions.collect::<Vec<_>>(),
    })
}

/// One refusal.
pub(in crate::admin) fn refusal_line(line: &RefusalLine) -> Value {
    json!({
        "session": line.session.to_string(),
        "at": rfc3339(line.at),
        "peer": line.peer,
        "tenant": line.tenant,
        "endpoint": line.endpoint,
        "role": line.role,
        "sqlstate": line.sqlstate,
        "kind": line.kind,
        "reason": line.reason,
    })
}
