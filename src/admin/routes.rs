//! Which path is what, and what right it needs.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use hyper::{
    Method, Request, StatusCode,
    header::{ALLOW, CONTENT_SECURITY_POLICY, HeaderValue, WWW_AUTHENTICATE},
};
use tokio::sync::Semaphore;

use super::{
    View,
    access::{Access, Denied, Right},
    answer::{Answer, Query, Refused, decode, json_of, stream, text},
    branches::{BranchOrder, allowed},
    events,
    order::Order,
};
use crate::ids::EndpointName;
use crate::shutdown::Phase;

/// Most who watch events at the same time.
const WATCHERS_MAX: usize = 32;

const DASHBOARD: &str = include_str!("dashboard.html");

/// Scripts and styles are the page's own; it speaks to nobody but this port, and stands in no frame.
const DASHBOARD_POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; \
                                img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                                frame-ancestors 'none'";

/// What is looked at below `/api/v1/`.
enum Look<'a> {
    Version,
    Config,
    Events,
    Endpoints,
    Endpoint(&'a str),
    Branches,
    BranchesOf(&'a str),
    Branch(&'a str),
    Tenants,
    Quotas,
    Pools,
    Sessions,
    Wakes,
    Refusals,
}

impl<'a> Look<'a> {
    fn of_path(path: &[&'a str]) -> Option<Self> {
        Some(match *path {
            ["version"] => Self::Version,
            ["config"] => Self::Config,
            ["events"] => Self::Events,
            ["endpoints"] => Self::Endpoints,
            ["endpoints", name] => Self::Endpoint(name),
            ["endpoints", parent, "branches"] => Self::BranchesOf(parent),
            ["branches"] => Self::Branches,
            ["branches", name] => Self::Branch(name),
            ["tenants"] => Self::Tenants,
            ["quotas"] => Self::Quotas,
            ["pools"] => Self::Pools,
            ["sessions"] => Self::Sessions,
            ["wakes"] => Self::Wakes,
            ["refusals"] => Self::Refusals,
            _ => return None,
        })
    }
}

/// Answers requests.
pub(super) struct Routes {
    view: Arc<View>,
    /// Where it is asked; `None`: at the door that nobody but pgwake's own user and root can reach.
    address: Option<SocketAddr>,
    watchers: Arc<Semaphore>,
}

impl Routes {
    pub(super) fn new(view: Arc<View>, address: Option<SocketAddr>) -> Self {
        Self {
            view,
            address,
            watchers: Arc::new(Semaphore::new(WATCHERS_MAX)),
        }
    }

    /// The answer. No route takes a body: none is read.
    pub(super) async fn answer<B>(&self, request: &Request<B>, peer: &str) -> Answer {
        let path = request.uri().path().trim_start_matches('/');
        let decoded: Vec<String> = path.split('/').map(decode).collect();
        let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
        let answered = match *request.method() {
            Method::GET | Method::HEAD => self.look(request, &parts),
            Method::POST | Method::DELETE => self.order(request, &parts, peer).await,
            _ => Err(not_allowed(&parts)),
        };
        answered.unwrap_or_else(Answer::from_refusal)
    }

    fn look<B>(&self, request: &Request<B>, parts: &[&str]) -> Result<Answer, Refusal> {
        match parts {
            [""] => return Ok(dashboard()),
            ["live"] => return Ok(text(StatusCode::OK, "text/plain", "alive\n")),
            ["ready"] => return Ok(self.ready()),
            ["startup"] => return Ok(self.startup()),
            _ => (),
        }
        self.allow(request, Right::Read)?;
        let view = &self.view;
        let query = Query::parse(request.uri().query())?;
        let ["api", "v1", rest @ ..] = parts else {
            return match parts {
                ["metrics"] => Ok(text(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    view.metrics(),
                )),
                _ => Err(unknown(parts)),
            };
        };
        let listing = match Look::of_path(rest).ok_or_else(|| unknown(parts))? {
            Look::Version => return Ok(json_of(&view.version())),
            Look::Config => return Ok(json_of(&view.configured())),
            Look::Events => return self.watch(),
            Look::Endpoint(name) => {
                let name = EndpointName::parse_any(name).ok();
                let endpoint = name.and_then(|name| view.endpoint(&name));
                let endpoint = endpoint.ok_or_else(|| Refused::not_found("endpoint"))?;
                return Ok(json_of(&endpoint));
            }
            Look::Branch(name) => {
                let name = EndpointName::parse_any(name).ok();
                let branch = name.and_then(|name| view.branch(&name));
                return Ok(json_of(&branch.ok_or_else(|| Refused::not_found("branch"))?));
            }
            Look::BranchesOf(parent) => {
                let parent = EndpointName::parse(parent).ok();
                let parent = parent.filter(|parent| view.house.directory.endpoint(parent).is_some());
                view.branches(Some(&parent.ok_or_else(|| Refused::not_found("endpoint"))?))
            }
            Look::Branches => view.branches(None),
            Look::Tenants => view.tenants(),
            Look::Quotas => view.quotas(),
            Look::Endpoints => view.endpoints(),
            Look::Pools => view.pools(),
            Look::Sessions => view.sessions(),
            Look::Wakes => view.wakes(),
            Look::Refusals => view.refusals(),
        };
        Ok(json_of(&listing.page(&query)?))
    }

    async fn order<B>(&self, request: &Request<B>, parts: &[&str], peer: &str) -> Result<Answer, Refusal> {
        // First: whoever may not order anything is not told what there is.
        self.allow(request, Right::Operate)?;
        let ["api", "v1", rest @ ..] = parts else {
            return Err(not_allowed(parts));
        };
        let query = Query::parse(request.uri().query())?;
        if let Some(order) = BranchOrder::of(request.method(), rest, &query) {
            return Ok(json_of(&self.view.carry_out_branch(&order?, peer).await?));
        }
        let order = Order::of_path(rest).filter(|_| request.method() == Method::POST);
        let Some(order) = order else {
            return Err(unknown(parts));
        };
        let done = self.view.carry_out(&order, peer).await;
        Ok(json_of(&done.map_err(Refused::from)?))
    }

    fn watch(&self) -> Result<Answer, Refusal> {
        let Ok(place) = self.watchers.clone().try_acquire_owned() else {
            let error = format!("{WATCHERS_MAX} are watching already");
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, error).into());
        };
        Ok(stream(
            "text/event-stream",
            events::watch(&self.view.house.journal, place),
        ))
    }

    fn ready(&self) -> Answer {
        let is_open = self.view.is_open.load(Ordering::Acquire);
        match self.view.house.shutdown.phase() {
            Phase::Running if is_open => text(StatusCode::OK, "text/plain", "ready\n"),
            Phase::Running => text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "starting\n"),
            Phase::Leaving | Phase::Draining | Phase::Stopping => {
                text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "draining\n")
            }
        }
    }

    fn startup(&self) -> Answer {
        match self.view.is_open.load(Ordering::Acquire) {
            true => text(StatusCode::OK, "text/plain", "started\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "starting\n"),
        }
    }

    fn allow<B>(&self, request: &Request<B>, needed: Right) -> Result<(), Refusal> {
        // By the tokens of now: one that was taken out by a reload is good for nothing more.
        let access = match self.address {
            Some(address) => Access::new(&self.view.config.load().admin, address),
            None => Access::of_owner(),
        };
        access.check(request.headers(), needed).map_err(|denied| {
            let (status, error) = match denied {
                Denied::Unknown => (
                    StatusCode::UNAUTHORIZED,
                    "a token is needed: Authorization: Bearer …",
                ),
                Denied::NotEnough => (StatusCode::FORBIDDEN, "this token is only for looking"),
                Denied::Nobody => (StatusCode::FORBIDDEN, "nobody may: admin.operate_tokens is empty"),
                Denied::ForeignHost => (
                    StatusCode::MISDIRECTED_REQUEST,
                    "ask by address or as localhost, or with a token",
                ),
            };
            Refusal {
                refused: Refused::new(status, error),
                allow: None,
            }
        })
    }
}

/// An error, and the method that would have been right.
struct Refusal {
    refused: Refused,
    allow: Option<&'static str>,
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        Self { refused, allow: None }
    }
}

trait FromRefusal {
    fn from_refusal(refusal: Refusal) -> Self;
}

impl FromRefusal for Answer {
    fn from_refusal(Refusal { refused, allow }: Refusal) -> Self {
        let mut answer = Self::from(refused);
        if answer.status() == StatusCode::UNAUTHORIZED {
            let headers = answer.headers_mut();
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = allow {
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static(allow));
        }
        answer
    }
}

fn unknown(parts: &[&str]) -> Refusal {
    match methods(parts) {
        Some(_) => not_allowed(parts),
        None => Refused::not_found("path").into(),
    }
}

fn not_allowed(parts: &[&str]) -> Refusal {
    let allow = methods(parts).unwrap_or("GET, HEAD");
    Refusal {
        refused: Refused::new(StatusCode::METHOD_NOT_ALLOWED, format!("allowed here: {allow}")),
        allow: Some(allow),
    }
}

/// The methods of a path of the API.
fn methods(parts: &[&str]) -> Option<&'static str> {
    let ["api", "v1", path @ ..] = parts else {
        return None;
    };
    let looked_at = || Look::of_path(path).map(|_| "GET, HEAD");
    let ordered = || Order::of_path(path).map(|_| "POST");
    allowed(path).or_else(looked_at).or_else(ordered)
}

fn dashboard() -> Answer {
    let mut answer = text(StatusCode::OK, "text/html; charset=utf-8", DASHBOARD);
    let policy = HeaderValue::from_static(DASHBOARD_POLICY);
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    answer
}
