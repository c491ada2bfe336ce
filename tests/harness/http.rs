//! A client of an HTTP port: one request on a connection of its own, and streams of events.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, StatusCode, body::Incoming, client::conn::http1, header::HeaderMap};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};

use super::wait::PATIENCE;

/// Where to ask, and with which token.
#[derive(Clone)]
pub(crate) struct Http {
    pub(crate) address: SocketAddr,
    token: Option<String>,
    host: String,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answered {
    /// The body of a success.
    pub(crate) fn json(&self) -> Value {
        assert!(self.status.is_success(), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The status of an error, and what it says.
    pub(crate) fn error(&self) -> (u16, String) {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        (self.status.as_u16(), body["error"].as_str().unwrap().to_owned())
    }
}

impl Http {
    /// With this token.
    pub(crate) fn new(address: SocketAddr, token: Option<&str>) -> Self {
        Self {
            address,
            token: token.map(ToOwned::to_owned),
            host: address.to_string(),
        }
    }

    /// As if it had come by another name.
    pub(crate) fn under(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.ask("GET", path).await
    }

    pub(crate) async fn post(&self, path: &str) -> Answered {
        self.ask("POST", path).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str) -> Answered {
        let asking = async {
            let answer = self.send(method, path).await;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            Answered {
                status,
                headers,
                body: String::from_utf8(body.to_vec()).unwrap(),
            }
        };
        timeout(PATIENCE, asking).await.expect("an answer in time")
    }

    /// Begins to watch events.
    pub(crate) async fn events(&self) -> Events {
        let body = self.send("GET", "/api/v1/events").await.into_body();
        let mut events = Events {
            body,
            text: String::new(),
        };
        // Said as soon as nothing is missed any more.
        events.block_with(": watching").await;
        events
    }

    async fn send(&self, method: &str, path: &str) -> hyper::Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new()).unwrap();
        sender.send_request(request).await.unwrap()
    }
}

/// Server-sent events, as they come.
pub(crate) struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    /// Waits for an event of this kind that fits; gives its data. Others are passed over.
    pub(crate) async fn until(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let block = self.block_with(&format!("event: {kind}\n")).await;
            let data = block.lines().find_map(|line| line.strip_prefix("data: "));
            let data = serde_json::from_str(data.unwrap()).unwrap();
            if fits(&data) {
                return data;
            }
        }
    }

    async fn block_with(&mut self, text: &str) -> String {
        let reading = async {
            loop {
                if let Some((block, rest)) = self.text.split_once("\n\n") {
                    let (block, rest) = (block.to_owned(), rest.to_owned());
                    self.text = rest;
                    if format!("{block}\n").contains(text) {
                        return block;
                    }
                    continue;
                }
                let frame = self.body.frame().await.expect("events go on").unwrap();
                self.text
                    .push_str(str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
        };
        timeout(PATIENCE, reading).await.expect("an event in time")
    }
}
