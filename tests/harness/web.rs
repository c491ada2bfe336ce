//! A server of the web over TLS that answers every request as it is told to, and counts the requests.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::certificates::Authority;

/// How it answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// 200 and this body.
    Body(String),
    /// These lines of a head, and this body behind them.
    Said(String, String),
    /// Another status, with a Location to follow.
    Redirect(String),
    /// Never.
    Nothing,
    /// 200 and a body without an end.
    Endless,
    /// One byte now and then, for ever.
    Drip,
}

/// It ends with this value.
pub(crate) struct Web {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicU64>,
    task: JoinHandle<Infallible>,
}

impl Web {
    /// Begins to serve as `localhost`.
    pub(crate) async fn start(authority: &Authority, answer: Answer) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(authority.certify(&["localhost"]).server_config()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let requests = Arc::new(AtomicU64::new(0));
        let (told, counted) = (answer.clone(), requests.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let now = told.lock().unwrap().clone();
                tokio::spawn(serve(acceptor.clone(), stream, now));
            }
        });
        Self {
            address,
            answer,
            requests,
            task,
        }
    }

    /// The URL of a path of it.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// From now on it answers so.
    pub(crate) fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How many connections have come.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that leaves in the middle is no mistake of the test's.
async fn serve(acceptor: TlsAcceptor, stream: TcpStream, answer: Answer) -> Option<()> {
    let mut stream = acceptor.accept(stream).await.ok()?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let length = |length: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
    match answer {
        Answer::Body(body) => {
            let whole = length(body.len()) + &body;
            stream.write_all(whole.as_bytes()).await.ok()?;
        }
        Answer::Said(head, body) => {
            let whole = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(whole.as_bytes()).await.ok()?;
        }
        Answer::Redirect(to) => {
            let head = format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await.ok()?;
        }
        Answer::Nothing => std::future::pending().await,
        Answer::Endless => {
            stream.write_all(length(usize::MAX >> 1).as_bytes()).await.ok()?;
            loop {
                stream.write_all(&[b' '; 16 * 1024]).await.ok()?;
            }
        }
        Answer::Drip => {
            stream.write_all(length(1000).as_bytes()).await.ok()?;
            loop {
                stream.write_all(b" ").await.ok()?;
                stream.flush().await.ok()?;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    stream.shutdown().await.ok()
}
