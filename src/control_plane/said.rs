//! What the bodies of answers say. They are JSON, and taken for nothing else than what they have to be.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::config::ServerAddress;
use crate::ids::EndpointName;

/// Longest text that is repeated to clients or in logs.
const TEXT_CHARS_MAX: usize = 300;
/// Longest cursor.
const CURSOR_BYTES_MAX: usize = 256;
/// Nobody is told to wait for longer.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// Where a compute is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// TCP host and port or a Unix socket.
    pub(crate) server: ServerAddress,
    /// The number of the system's user that runs a server behind a socket.
    pub(crate) uid: Option<u32>,
    /// Rises with every start.
    pub(crate) generation: u64,
}

/// What came of asking for a wake.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// It takes logins there.
    Ready(Place),
    /// Not yet: it is to be asked again after this time.
    Starting(Duration),
}

/// What an error says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Complaint {
    /// For operators.
    pub(super) reason: Option<String>,
    /// For clients.
    pub(super) message: Option<String>,
    pub(super) retry_after: Option<Duration>,
}

/// Something happened.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// What is known of an endpoint may be wrong.
    Changed(EndpointName),
    /// Its compute of this generation, and all before, is not there any more.
    Gone(EndpointName, u64, &'static str),
}

/// Some events, and where to go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) cursor: String,
    pub(super) events: Vec<Event>,
}

/// An object.
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, String> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err("its answer is no JSON object".to_owned()),
        // The error's own text says where, not what.
        Err(error) => Err(format!(
            "its answer is not JSON (line {}, column {})",
            error.line(),
            error.column()
        )),
    }
}

/// Where a compute is.
pub(super) fn place(answer: &Map<String, Value>) -> Result<Place, String> {
    let address = answer.get("address").and_then(Value::as_str);
    let server = address.and_then(ServerAddress::parse_printed);
    let uid = match answer.get("uid") {
        None => None,
        Some(uid) => {
            let uid = uid.as_u64().and_then(|uid| u32::try_from(uid).ok());
            Some(uid.ok_or("`uid` is not the number of a user")?)
        }
    };
    Ok(Place {
        server: server.ok_or("`address` is neither host:port nor the path of a socket")?,
        uid,
        generation: generation(answer).ok_or("`generation` is not a whole number")?,
    })
}

fn generation(answer: &Map<String, Value>) -> Option<u64> {
    answer.get("generation").and_then(Value::as_u64)
}

/// Whether it runs, and where.
pub(super) fn state(answer: &Map<String, Value>) -> Result<Option<Place>, String> {
    match answer.get("state").and_then(Value::as_str) {
        Some("running") => place(answer).map(Some),
        Some("starting" | "suspended") => Ok(None),
        _ => Err("`state` is not \"running\", \"starting\" or \"suspended\"".to_owned()),
    }
}

/// What an error says, as far as it says anything.
pub(super) fn complaint(body: &[u8]) -> Complaint {
    let Ok(answer) = object(body) else {
        return Complaint::default();
    };
    let text = |key: &str| {
        let text = answer.get(key).and_then(Value::as_str).map(clean);
        text.filter(|text| !text.is_empty())
    };
    Complaint {
        reason: text("reason"),
        message: text("message"),
        retry_after: retry_after(&answer),
    }
}

/// `retry_after_ms`
pub(super) fn retry_after(answer: &Map<String, Value>) -> Option<Duration> {
    let millis = answer.get("retry_after_ms").and_then(Value::as_u64)?;
    Some(Duration::from_millis(millis).min(RETRY_AFTER_MAX))
}

/// One line without control characters, of bounded length.
pub(super) fn clean(text: &str) -> String {
    let printed = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printed.take(TEXT_CHARS_MAX).collect::<String>().trim().to_owned()
}

/// Events. What is not known is passed over: there may be more kinds one day, and names that are not ours.
pub(super) fn news(answer: &Map<String, Value>) -> Result<News, String> {
    let cursor = answer.get("cursor").and_then(Value::as_str);
    let cursor = cursor.filter(|cursor| !cursor.is_empty() && cursor.len() <= CURSOR_BYTES_MAX);
    let events = answer.get("events").and_then(Value::as_array);
    let events = events.ok_or("`events` is not a list")?;
    Ok(News {
        cursor: cursor
            .ok_or("`cursor` is not a text of 1 to 256 bytes")?
            .to_owned(),
        events: events.iter().filter_map(event).collect(),
    })
}

fn event(event: &Value) -> Option<Event> {
    let event = event.as_object()?;
    let name = EndpointName::parse(event.get("endpoint")?.as_str()?).ok()?;
    Some(match event.get("kind")?.as_str()? {
        // Whether it is gone is asked for as well.
        "changed" | "removed" => Event::Changed(name),
        "suspended" => Event::Gone(name, generation(event)?, "its control plane has suspended it"),
        "died" => Event::Gone(
            name,
            generation(event)?,
            "its control plane says that it has ended",
        ),
        "moved" => Event::Gone(name, generation(event)?, "its control plane has moved it"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_place_is_an_address_and_a_generation() {
        let found = place(&map(json!({ "address": "10.0.0.7:5432", "generation": 3 }))).unwrap();
        let tcp = ServerAddress::Tcp {
            host: "10.0.0.7".into(),
            port: 5432,
        };
        assert_eq!((found.server, found.generation, found.uid), (tcp, 3, None));
        let found = place(&map(
            json!({ "address": "/run/pg/.s.PGSQL.5432", "generation": 0, "uid": 105 }),
        ));
        assert_eq!(found.unwrap().uid, Some(105));
        for wrong in [
            json!({ "generation": 3 }),
            json!({ "address": "10.0.0.7", "generation": 3 }),
            json!({ "address": ["10.0.0.7:5432"], "generation": 3 }),
            json!({ "address": "run/socket", "generation": 3 }),
            json!({ "address": "10.0.0.7:5432" }),
            json!({ "address": "10.0.0.7:5432", "generation": "3" }),
            json!({ "address": "10.0.0.7:5432", "generation": -3 }),
            json!({ "address": "10.0.0.7:5432", "generation": 3, "uid": "root" }),
        ] {
            assert!(place(&map(wrong.clone())).is_err(), "{wrong}");
        }
    }

    #[test]
    fn errors_are_one_clean_line_whatever_they_are() {
        let body =
            br#"{"reason": "no host\nleft", "message": "try\u0000 later\u001b[31m", "retry_after_ms": 1500}"#;
        let said = complaint(body);
        assert_eq!(said.reason.as_deref(), Some("no host left"));
        assert_eq!(said.message.as_deref(), Some("try  later [31m"));
        assert_eq!(said.retry_after, Some(Duration::from_millis(1500)));
        let long = format!(
            r#"{{"message": "{}", "retry_after_ms": 99999999999}}"#,
            "x".repeat(10_000)
        );
        let said = complaint(long.as_bytes());
        assert_eq!(said.message.unwrap().len(), TEXT_CHARS_MAX);
        assert_eq!(said.retry_after, Some(RETRY_AFTER_MAX));
        for body in [
            &b"<html>"[..],
            b"[]",
            b"{\"message\": 7}",
            b"",
            b"{\"message\": \" \"}",
        ] {
            assert_eq!(complaint(body), Complaint::default());
        }
    }

    #[test]
    fn events_that_are_not_known_are_passed_over() {
        let said = news(&map(json!({ "cursor": "7", "events": [
            { "kind": "changed", "endpoint": "shop-main" },
            { "kind": "removed", "endpoint": "shop-old" },
            { "kind": "moved", "endpoint": "shop-main", "generation": 4 },
            { "kind": "moved", "endpoint": "shop-main" },
            { "kind": "painted", "endpoint": "shop-main" },
            { "kind": "changed", "endpoint": "Not A Name" },
            7,
        ] })));
        let name = |text| EndpointName::parse(text).unwrap();
        let News { cursor, events } = said.unwrap();
        assert_eq!(cursor, "7");
        assert_eq!(events[0], Event::Changed(name("shop-main")));
        assert_eq!(events[1], Event::Changed(name("shop-old")));
        assert!(matches!(&events[2], Event::Gone(_, 4, _)));
        assert_eq!(events.len(), 3);
        for wrong in [
            json!({ "events": [] }),
            json!({ "cursor": "", "events": [] }),
            json!({ "cursor": "7" }),
        ] {
            assert!(news(&map(wrong)).is_err());
        }
    }

    #[test]
    fn states_are_three() {
        let running = json!({ "state": "running", "address": "127.0.0.1:5432", "generation": 1 });
        assert!(state(&map(running)).unwrap().is_some());
        for word in ["starting", "suspended"] {
            assert_eq!(state(&map(json!({ "state": word }))), Ok(None));
        }
        for wrong in [json!({}), json!({ "state": "running" }), json!({ "state": true })] {
            assert!(state(&map(wrong)).is_err());
        }
    }
}
