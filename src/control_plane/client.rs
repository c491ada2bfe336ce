//! Asks the control plane, one question at a time, and says what is wrong where there is no good answer.

use std::{fmt, sync::Arc, time::Duration};

use dashmap::DashMap;
use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::{sync::watch, time::timeout};

use super::{
    http::{Http, Question, Reply},
    said::{self, News, Place, Woken},
};
use crate::config::ControlPlane;
use crate::ids::EndpointName;
use crate::tls::TlsError;

/// How long a question for a wake is let wait for its answer.
const WAKE_WAIT: Duration = Duration::from_secs(15);
/// How long a question for events is.
const EVENTS_WAIT: Duration = Duration::from_secs(25);
/// A start that is under way is not asked after more often, however short the answers take.
const AGAIN_MIN: Duration = Duration::from_millis(100);
/// Nor less often.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// Why there is no good answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// One sentence for clients and operators.
    pub(crate) said: String,
    /// For operators alone.
    pub(crate) detail: Option<String>,
    /// When it may be asked again.
    pub(crate) retry_after: Option<Duration>,
}

impl Trouble {
    fn new(said: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            said: said.into(),
            detail: Some(detail.into()),
            retry_after: None,
        }
    }

    /// An answer that cannot be used.
    pub(super) fn wrong(detail: impl Into<String>) -> Self {
        Self::new("the control plane's answer cannot be understood", detail)
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
        answer: Map<String, Value>,
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

/// The last generation of a compute that is known to be gone, and why.
pub(crate) type Gone = Option<(u64, &'static str)>;

/// Asks.
pub(crate) struct Client {
    http: Http,
    timeout: Duration,
    gone: DashMap<EndpointName, watch::Sender<Gone>>,
}

impl Client {
    /// Blocks on files.
    ///
    /// # Errors
    /// The roots cannot be used.
    pub(crate) fn new(rules: &ControlPlane) -> Result<Arc<Self>, TlsError> {
        Ok(Arc::new(Self {
            http: Http::new(rules)?,
            timeout: rules.timeout,
            gone: DashMap::new(),
        }))
    }

    /// What there is of this name; `version` is what is known of it.
    pub(super) async fn resolve(
        &self,
        name: &EndpointName,
        version: Option<&str>,
    ) -> Result<Answer, Trouble> {
        let question = Question {
            method: Method::GET,
            path: format!("/v1/endpoints/{name}"),
            body: None,
            version,
        };
        let reply = self.ask(question, Duration::ZERO).await?;
        match reply.status {
            StatusCode::OK => Ok(Answer::Known {
                answer: object(&reply)?,
                version: reply.version,
            }),
            StatusCode::NOT_MODIFIED if version.is_some() => Ok(Answer::Unchanged),
            StatusCode::NOT_FOUND => Ok(Answer::Unknown),
            _ => Err(trouble(&reply)),
        }
    }

    /// Has it started, and waits a while for that. Cancel safe: the start goes on there.
    pub(crate) async fn wake(&self, name: &EndpointName) -> Result<Woken, Trouble> {
        let reply = self.order(name, "wake", &wait(WAKE_WAIT), WAKE_WAIT).await?;
        match reply.status {
            StatusCode::OK => said::place(&object(&reply)?)
                .map(Woken::Ready)
                .map_err(Trouble::wrong),
            StatusCode::ACCEPTED | StatusCode::GATEWAY_TIMEOUT => {
                let answer = said::object(&reply.body).unwrap_or_default();
                let again = said::retry_after(&answer).unwrap_or(AGAIN_MIN);
                Ok(Woken::Starting(again.clamp(AGAIN_MIN, AGAIN_MAX)))
            }
            _ => Err(trouble(&reply)),
        }
    }

    /// Has it suspended: this generation of it, where one is known.
    pub(crate) async fn suspend(&self, name: &EndpointName, generation: Option<u64>) -> Result<(), Trouble> {
        let body = match generation {
            Some(generation) => json!({ "generation": generation }),
            None => json!({}),
        };
        let reply = self.order(name, "suspend", &body, WAKE_WAIT).await?;
        match reply.status {
            // What is not there needs no end, and of what runs by now nobody has spoken.
            StatusCode::NOT_FOUND | StatusCode::CONFLICT => Ok(()),
            status if status.is_success() => Ok(()),
            _ => Err(trouble(&reply)),
        }
    }

    /// Where it runs, if it does.
    pub(crate) async fn state(&self, name: &EndpointName) -> Result<Option<Place>, Trouble> {
        let question = Question {
            method: Method::GET,
            path: format!("/v1/endpoints/{name}/state"),
            body: None,
            version: None,
        };
        let reply = self.ask(question, Duration::ZERO).await?;
        match reply.status {
            StatusCode::OK => said::state(&object(&reply)?).map_err(Trouble::wrong),
            _ => Err(trouble(&reply)),
        }
    }

    /// What has happened behind the cursor; waits a while where nothing has.
    pub(super) async fn events(&self, cursor: Option<&str>) -> Result<Heard, Trouble> {
        let wait = EVENTS_WAIT.as_millis();
        let path = match cursor {
            Some(cursor) => format!("/v1/events?wait_ms={wait}&after={}", encoded(cursor)),
            None => "/v1/events".to_owned(),
        };
        let question = Question {
            method: Method::GET,
            path,
            body: None,
            version: None,
        };
        let reply = self.ask(question, EVENTS_WAIT).await?;
        match reply.status {
            StatusCode::OK => said::news(&object(&reply)?)
                .map(Heard::News)
                .map_err(Trouble::wrong),
            StatusCode::GONE => Ok(Heard::Gap),
            _ => Err(trouble(&reply)),
        }
    }

    /// Hears when a compute of this endpoint is gone.
    pub(crate) fn watch(&self, name: &EndpointName) -> watch::Receiver<Gone> {
        let sender = self.gone.entry(name.clone()).or_default();
        sender.subscribe()
    }

    /// Its compute, up to this generation, is gone.
    pub(super) fn note_gone(&self, name: &EndpointName, generation: u64, why: &'static str) {
        if let Some(sender) = self.gone.get(name) {
            sender.send_replace(Some((generation, why)));
        }
    }

    /// Nobody is interested in it any more.
    pub(super) fn forget(&self, name: &EndpointName) {
        self.gone
            .remove_if(name, |_, sender| sender.receiver_count() == 0);
    }

    async fn order(
        &self,
        name: &EndpointName,
        what: &str,
        body: &Value,
        wait: Duration,
    ) -> Result<Reply, Trouble> {
        let question = Question {
            method: Method::POST,
            path: format!("/v1/endpoints/{name}/{what}"),
            body: Some(body.to_string()),
            version: None,
        };
        self.ask(question, wait).await
    }

    async fn ask(&self, question: Question<'_>, wait: Duration) -> Result<Reply, Trouble> {
        let limit = self.timeout + wait;
        match timeout(limit, self.http.ask(question)).await {
            Ok(answered) => answered.map_err(|why| Trouble::new("the control plane cannot be asked", why)),
            Err(_) => Err(Trouble::new(
                "the control plane does not answer in time",
                format!("nothing for {limit:?}"),
            )),
        }
    }
}

fn wait(time: Duration) -> Value {
    json!({ "wait_ms": u64::try_from(time.as_millis()).unwrap_or(u64::MAX) })
}

fn object(reply: &Reply) -> Result<Map<String, Value>, Trouble> {
    said::object(&reply.body).map_err(Trouble::wrong)
}

/// A status that is no answer.
fn trouble(reply: &Reply) -> Trouble {
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
