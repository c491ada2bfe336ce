//! What the reference control plane answers: the API itself, and how it fails.

use std::{
    convert::Infallible,
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Request, Response,
    body::{Frame, Incoming},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{All, Fault, Owned, TOKEN, lock};
use crate::harness::processes;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers whoever connects.
pub(super) async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, all: Arc<All>) {
    // Dropped with this task, and then there is no connection left.
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (all, tls) = (all.clone(), tls.clone());
        connections.spawn(async move {
            match tls {
                None => talk(stream, all).await,
                // Who does not trust it has left.
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => talk(stream, all).await,
                    Err(_) => _ = all.distrusted.fetch_add(1, Ordering::SeqCst),
                },
            }
        });
    }
}

async fn talk(stream: impl AsyncRead + AsyncWrite + Unpin, all: Arc<All>) {
    let answer = service_fn(move |request| {
        let all = all.clone();
        async move { all.answer(request).await.ok_or_else(|| io::Error::other("cut")) }
    });
    // Who asked may have left.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

/// A body of bytes that come now and then, without an end.
fn drip() -> Body {
    let bytes = stream::unfold((), async |()| {
        sleep(Duration::from_millis(50)).await;
        Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
    });
    BodyExt::boxed_unsync(StreamBody::new(Box::pin(bytes)))
}

fn whole(text: String) -> Body {
    BodyExt::boxed_unsync(Full::from(text))
}

fn say(status: u16, body: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(whole(body.to_string()))
        .unwrap()
}

/// The value of a key of a query.
fn of_query<'q>(query: &'q str, key: &str) -> Option<&'q str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

impl All {
    /// `None`: none is sent.
    async fn answer(&self, request: Request<Incoming>) -> Option<Response<Body>> {
        let (head, body) = request.into_parts();
        let path = head.uri.path().to_owned();
        lock(&self.asked).push(format!("{} {path}", head.method));
        let fault = lock(&self.faults)
            .iter()
            .find(|(part, _)| path.contains(part.as_str()))
            .map(|(_, fault)| fault.clone());
        let answer = Response::builder();
        match fault {
            None => Some(self.right_answer(head, body).await),
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Answer(status, body)) => Some(answer.status(status).body(whole(body)).unwrap()),
            Some(Fault::Redirect(to)) => {
                let answer = answer.status(302).header("location", to);
                Some(answer.body(whole(String::new())).unwrap())
            }
            Some(Fault::Drip) => Some(answer.body(drip()).unwrap()),
            Some(Fault::Later(mut body)) => {
                let body = body.wait_for(Option::is_some).await.unwrap().clone();
                Some(answer.body(whole(body.unwrap())).unwrap())
            }
            Some(Fault::Late(after)) => {
                sleep(after).await;
                Some(self.right_answer(head, body).await)
            }
            Some(Fault::Gaps) if of_query(head.uri.query().unwrap_or_default(), "after").is_some() => {
                Some(say(410, &json!({ "reason": "these events are forgotten" })))
            }
            Some(Fault::Gaps) => Some(self.right_answer(head, body).await),
            Some(Fault::Cut) => {
                self.right_answer(head, body).await;
                None
            }
        }
    }

    async fn right_answer(&self, head: Parts, body: Incoming) -> Response<Body> {
        let path = head.uri.path();
        let shown = head.headers.get("authorization");
        if shown.is_none_or(|shown| shown != &format!("Bearer {TOKEN}")) {
            return say(401, &json!({ "reason": "no such token" }));
        }
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let known = head.headers.get("if-none-match").and_then(|it| it.to_str().ok());
        let parts: Vec<_> = path.trim_start_matches('/').split('/').collect();
        match (&head.method, parts.as_slice()) {
            (&Method::GET, ["v1", "events"]) => self.events(head.uri.query().unwrap_or_default()).await,
            (&Method::GET, ["v1", "endpoints", name]) => self.resolve(name, known),
            (&Method::GET, ["v1", "endpoints", name, "state"]) => self.state(name),
            (&Method::POST, ["v1", "endpoints", name, "wake"]) => self.wake(name, &body).await,
            (&Method::POST, ["v1", "endpoints", name, "suspend"]) => self.suspend(name, &body).await,
            _ => say(404, &json!({ "reason": "no such path" })),
        }
    }

    fn resolve(&self, name: &str, known: Option<&str>) -> Response<Body> {
        let endpoints = lock(&self.endpoints);
        let owned = endpoints.get(name).filter(|owned| !owned.is_removed);
        let Some(owned) = owned else {
            return say(404, &json!({ "reason": "no such endpoint" }));
        };
        let version = format!("\"{}\"", owned.version);
        if known == Some(&version) {
            return Response::builder()
                .status(304)
                .body(whole(String::new()))
                .unwrap();
        }
        let mut answer = say(200, &owned.answer);
        answer.headers_mut().insert("etag", version.parse().unwrap());
        answer
    }

    fn state(&self, name: &str) -> Response<Body> {
        match lock(&self.endpoints).get(name) {
            None => say(404, &json!({ "reason": "no such endpoint" })),
            Some(owned) => match owned.place() {
                Some(mut place) => {
                    place["state"] = "running".into();
                    say(200, &place)
                }
                None if owned.running.is_some() => say(200, &json!({ "state": "starting" })),
                None => say(200, &json!({ "state": "suspended" })),
            },
        }
    }

    async fn wake(&self, name: &str, body: &Value) -> Response<Body> {
        match lock(&self.endpoints).get_mut(name) {
            None => return say(404, &json!({ "reason": "no such endpoint" })),
            Some(owned) => {
                owned.woken_by = owned.woken_by.max(body["order"].as_u64().unwrap_or(0));
                owned.start();
            }
        }
        let wait = Duration::from_millis(body["wait_ms"].as_u64().unwrap_or(0));
        let ready = timeout(wait, async {
            loop {
                if let Some(place) = lock(&self.endpoints).get(name).and_then(Owned::place) {
                    return place;
                }
                sleep(Duration::from_millis(5)).await;
            }
        });
        match ready.await {
            Ok(place) => say(200, &place),
            Err(_) => say(202, &json!({ "state": "starting", "retry_after_ms": 100 })),
        }
    }

    async fn suspend(&self, name: &str, body: &Value) -> Response<Body> {
        let running = match lock(&self.endpoints).get_mut(name) {
            None => return say(404, &json!({ "reason": "no such endpoint" })),
            Some(owned) => {
                let asked = body["generation"].as_u64();
                let is_late = body["order"].as_u64().is_some_and(|order| order < owned.woken_by);
                if is_late || asked.is_some_and(|generation| generation != owned.generation) {
                    return say(409, &json!({ "reason": "woken again by now" }));
                }
                owned.running.take()
            }
        };
        if let Some(mut running) = running {
            processes::signal(running.child.id().cast_signed(), Signal::INT);
            while running.child.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(5)).await;
            }
        }
        say(200, &json!({ "state": "suspended" }))
    }

    async fn events(&self, query: &str) -> Response<Body> {
        let mut seen = self.events.subscribe();
        let Some(after) = of_query(query, "after") else {
            let cursor = seen.borrow().len().to_string();
            return say(200, &json!({ "cursor": cursor, "events": [] }));
        };
        let after: usize = after.parse().unwrap();
        if after < *lock(&self.first_event) {
            return say(410, &json!({ "reason": "these events are forgotten" }));
        }
        let wait = of_query(query, "wait_ms").and_then(|wait| wait.parse().ok());
        let more = seen.wait_for(|events| events.len() > after);
        let _ = timeout(Duration::from_millis(wait.unwrap_or(0)), more).await;
        let events = self.events.borrow();
        let news = &events[after.min(events.len())..];
        say(
            200,
            &json!({ "cursor": events.len().to_string(), "events": news }),
        )
    }
}
