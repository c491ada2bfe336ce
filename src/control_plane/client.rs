//! Asks the control plane, one question at a time, and says what is wrong where there is no good answer. What is asked of
//! a compute goes through its `seat`.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use dashmap::DashMap;
use futures_util::{StreamExt, stream};
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::{Instant, timeout};

use super::{
    http::{BYTES_MAX, Http, NoAnswer, Question, Reply},
    owed::{Owed, Suspend},
    said::{self, News},
    seat::Seat,
};
use crate::config::{ControlPlane, Endpoint};
use crate::ids::EndpointName;
use crate::metrics::{Asked, AskedResult, Metrics};
use crate::storm::Storms;
use crate::tls::TlsError;

/// How long a question for a wake or a suspend is let wait for its answer.
pub(super) const ORDER_WAIT: Duration = Duration::from_secs(15);
/// How long a question for events is.
const EVENTS_WAIT: Duration = Duration::from_secs(25);
/// So many computes are looked at again at once.
const LOOKS_AT_ONCE: usize = 8;

/// Whether what was asked for may be under way all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contact {
    /// It has answered, or had all the time for it.
    Held,
    /// The connection has ended before an answer had come.
    Cut,
    /// There was none.
    Unreached,
}

/// Why there is no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// One sentence for clients and operators.
    pub(crate) said: String,
    /// For operators alone.
    pub(crate) detail: Option<String>,
    /// When it may be asked again.
    pub(crate) retry_after: Option<Duration>,
    /// Whether it was there.
    pub(crate) contact: Contact,
}

impl Trouble {
    fn new(said: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            said: said.into(),
            detail: Some(detail.into()),
            retry_after: None,
            contact: Contact::Held,
        }
    }

    /// An answer that cannot be used. What is told of it may repeat it, and so is made short.
    pub(super) fn wrong(detail: impl AsRef<str>) -> Self {
        let detail = said::clean(detail.as_ref());
        Self::new("the control plane's answer cannot be understood", detail)
    }
}

impl From<NoAnswer> for Trouble {
    fn from(why: NoAnswer) -> Self {
        let (detail, contact) = match why {
            NoAnswer::Unreached(detail) => (detail, Contact::Unreached),
            NoAnswer::Cut(detail) => (detail, Contact::Cut),
            NoAnswer::TooLong => return Self::wrong(format!("its answer has more than {BYTES_MAX} bytes")),
        };
        Self {
            contact,
            ..Self::new("the control plane cannot be asked", detail)
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

/// What is answered of a name.
#[derive(Debug)]
pub(super) enum Answer {
    Known {
        version: Option<String>,
        endpoint: Box<Endpoint>,
    },
    /// It is what it was.
    Unchanged,
    /// Nobody has it.
    Unknown,
}

/// What is answered of events.
pub(super) enum Heard {
    News(News),
    /// What came behind the cursor is not known any more.
    Gap,
}

/// Asks.
pub(crate) struct Client {
    http: Http,
    metrics: Arc<Metrics>,
    /// What is told once for many.
    pub(super) storms: Arc<Storms>,
    timeout: Duration,
    /// Who speaks for each compute.
    pub(super) seats: DashMap<EndpointName, Weak<Seat>>,
    /// What could not be asked for.
    pub(super) owed: Owed,
}

impl Client {
    /// Blocks on files.
    ///
    /// # Errors
    /// The roots cannot be used.
    pub(crate) fn new(
        rules: &ControlPlane,
        metrics: Arc<Metrics>,
        storms: Arc<Storms>,
    ) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            http: Http::new(rules)?,
            metrics,
            storms,
            timeout: rules.timeout,
            seats: DashMap::new(),
            owed: Owed::default(),
        }))
    }

    /// What there is of this name; `version` is what is known of it, and `read` understands the answer.
    pub(super) async fn resolve(
        &self,
        name: &EndpointName,
        version: Option<&str>,
        read: impl FnOnce(&Map<String, Value>) -> Result<Endpoint, String>,
    ) -> Result<Answer, Trouble> {
        let question = Question {
            what: Asked::Endpoint,
            method: Method::GET,
            path: format!("/v1/endpoints/{name}"),
            body: None,
            version,
        };
        let read = |reply: Reply| match reply.status {
            StatusCode::OK => Ok(Answer::Known {
                endpoint: Box::new(read(&object(&reply)?).map_err(Trouble::wrong)?),
                version: reply.version,
            }),
            StatusCode::NOT_MODIFIED if version.is_some() => Ok(Answer::Unchanged),
            StatusCode::NOT_FOUND => Ok(Answer::Unknown),
            _ => Err(trouble(&reply)),
        };
        self.ask(question, Duration::ZERO, read).await
    }

    /// What has happened behind the cursor; waits a while where nothing has.
    pub(super) async fn events(&self, cursor: Option<&str>) -> Result<Heard, Trouble> {
        let wait = EVENTS_WAIT.as_millis();
        let path = match cursor {
            Some(cursor) => format!("/v1/events?wait_ms={wait}&after={}", encoded(cursor)),
            None => "/v1/events".to_owned(),
        };
        let question = Question {
            what: Asked::Events,
            method: Method::GET,
            path,
            body: None,
            version: None,
        };
        let read = |reply: Reply| match reply.status {
            StatusCode::OK => said::news(&object(&reply)?)
                .map(Heard::News)
                .map_err(Trouble::wrong),
            StatusCode::GONE => Ok(Heard::Gap),
            _ => Err(trouble(&reply)),
        };
        self.ask(question, EVENTS_WAIT, read).await
    }

    /// The compute of this endpoint, up to this generation, is gone.
    pub(super) fn note_gone(&self, name: &EndpointName, generation: u64, why: &'static str) {
        if let Some(seat) = self.seat(name) {
            seat.note_gone(generation, why);
        }
    }

    /// Events may have been missed: looks whether all computes that are in use are still where they were. Cancel safe.
    pub(super) async fn look_again(&self) {
        let seats: Vec<_> = self.seats.iter().filter_map(|seat| seat.upgrade()).collect();
        let look = async |seat: Arc<Seat>| seat.look_again().await;
        stream::iter(seats).for_each_concurrent(LOOKS_AT_ONCE, look).await;
    }

    /// Whoever speaks for the compute of this endpoint.
    pub(super) fn seat(&self, name: &EndpointName) -> Option<Arc<Seat>> {
        // The guard of the map is not held while the last one leaves its seat.
        let seat = self.seats.get(name).map(|seat| seat.clone());
        seat.and_then(|seat| seat.upgrade())
    }

    /// Has it suspended. What could not be asked for is owed. Cancel safe: it goes on there.
    pub(super) async fn suspend(&self, name: &EndpointName, suspend: Suspend) -> Result<(), Trouble> {
        let mut body = json!({ "order": suspend.order });
        if let Some(generation) = suspend.generation {
            body["generation"] = generation.into();
        }
        let question = Question {
            what: Asked::Suspend,
            method: Method::POST,
            path: format!("/v1/endpoints/{name}/suspend"),
            body: Some(body.to_string()),
            version: None,
        };
        let read = |reply: Reply| match reply.status {
            // What is not there needs no end, and of what runs by now nobody has spoken.
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(trouble(&reply)),
        };
        let answered = self.ask(question, ORDER_WAIT, read).await;
        if answered.is_err() {
            self.owed.note(name, suspend);
        }
        answered
    }

    /// One answer to one question, which may take `wait` longer than others, as `read` understands it. Cancel safe.
    pub(super) async fn ask<T>(
        &self,
        question: Question<'_>,
        wait: Duration,
        read: impl FnOnce(Reply) -> Result<T, Trouble>,
    ) -> Result<T, Trouble> {
        let (limit, since, what) = (self.timeout + wait, Instant::now(), question.what);
        let answered = timeout(limit, self.http.ask(question)).await;
        let took = since.elapsed();
        let (result, answered) = match answered {
            Ok(Ok(reply)) => {
                let is_expected = is_expected(what, reply.status);
                let read = read(reply);
                let result = match is_expected {
                    true if read.is_ok() => AskedResult::Answered,
                    true => AskedResult::Wrong,
                    false => AskedResult::Refused,
                };
                (result, read)
            }
            Ok(Err(why)) => {
                let result = match why {
                    NoAnswer::TooLong => AskedResult::Wrong,
                    NoAnswer::Unreached(_) | NoAnswer::Cut(_) => AskedResult::Failed,
                };
                (result, Err(why.into()))
            }
            Err(_) => {
                let detail = format!("nothing for {limit:?}");
                let trouble = Trouble::new("the control plane does not answer in time", detail);
                (AskedResult::Failed, Err(trouble))
            }
        };
        self.metrics.asked(what, result, took);
        answered
    }
}

/// Whether a status is one of those that are an answer to it.
fn is_expected(what: Asked, status: StatusCode) -> bool {
    status.is_success()
        || match what {
            Asked::Endpoint => matches!(status, StatusCode::NOT_MODIFIED | StatusCode::NOT_FOUND),
            Asked::Suspend => matches!(status, StatusCode::NOT_FOUND | StatusCode::CONFLICT),
            Asked::Wake => status == StatusCode::GATEWAY_TIMEOUT,
            Asked::Events => status == StatusCode::GONE,
            Asked::State => false,
        }
}

/// The object that an answer is.
pub(super) fn object(reply: &Reply) -> Result<Map<String, Value>, Trouble> {
    said::object(&reply.body).map_err(Trouble::wrong)
}

/// A status that is no answer.
pub(super) fn trouble(reply: &Reply) -> Trouble {
    let status = reply.status;
    let complaint = said::complaint(&reply.body);
    let said = complaint
        .message
        .unwrap_or_else(|| format!("the control plane answered {}", status.as_u16()));
    let detail = match (complaint.reason, status) {
        (Some(reason), _) => format!("{} ({reason})", status.as_u16()),
        (None, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            format!("{}: control_plane.token is refused", status.as_u16())
        }
        (None, status) if status.is_redirection() => {
            format!("{}: redirects are not followed", status.as_u16())
        }
        (None, status) => status.to_string(),
    };
    Trouble {
        said,
        detail: Some(detail),
        retry_after: complaint.retry_after,
        contact: Contact::Held,
    }
}

/// For a query: everything but letters, digits and `-._~` as `%XX`.
fn encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_told_and_what_its_body_says() {
        let reply = |status: u16, body: &str| {
            trouble(&Reply {
                status: StatusCode::from_u16(status).unwrap(),
                version: None,
                body: body.into(),
            })
        };
        let told = reply(
            503,
            r#"{"reason": "no host left", "message": "come back later", "retry_after_ms": 2000}"#,
        );
        assert_eq!(told.to_string(), "come back later: 503 (no host left)");
        assert_eq!(told.retry_after, Some(Duration::from_secs(2)));
        let told = reply(500, "<html>");
        assert_eq!(told.said, "the control plane answered 500");
        assert!(reply(401, "").detail.unwrap().contains("token"));
        assert!(reply(302, "").detail.unwrap().contains("redirects"));
    }

    #[test]
    fn cursors_are_encoded() {
        assert_eq!(encoded("a-9_~.B"), "a-9_~.B");
        assert_eq!(encoded("a&b=c ä"), "a%26b%3Dc%20%C3%A4");
    }
}
