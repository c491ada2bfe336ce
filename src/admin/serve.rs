//! Connections of operators: so many, each bounded in the size of what it says and in how long it may take.

use std::{convert::Infallible, future::pending, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http_body_util::BodyExt;
use hyper::{body::Body, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::watch,
    time::{interval, sleep},
};

use super::{
    View,
    answer::Answer,
    guests::{Guests, Usage, Using, Watched},
    routes::Routes,
};

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most lines of it.
const HEADERS_MAX: usize = 64;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked at whether anything goes on on a connection.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// After an error of accept(2).
const PAUSE: Duration = Duration::from_millis(200);

/// Answers until it is dropped.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    (view, address): (Arc<View>, SocketAddr),
    closed: watch::Receiver<bool>,
) {
    match TcpListener::from_std(listener) {
        Ok(listener) => serve_at(Door::Tcp(listener), Routes::new(view, Some(address)), closed).await,
        Err(error) => tracing::error!(%error, "cannot serve operators"),
    }
}

/// The same for commands of pgwake's own user.
pub(super) async fn serve_control(
    listener: std::os::unix::net::UnixListener,
    view: Arc<View>,
    closed: watch::Receiver<bool>,
) {
    match UnixListener::from_std(listener) {
        Ok(listener) => {
            serve_at(Door::Control(listener), Routes::new(view, None), closed).await;
        }
        Err(error) => tracing::error!(%error, "cannot serve commands"),
    }
}

/// Where operators come in.
enum Door {
    Tcp(TcpListener),
    Control(UnixListener),
}

/// A connection.
trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Door {
    async fn accept(&self) -> io::Result<(Box<dyn Connection>, String)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                (Box::new(stream), peer.to_string())
            }
            Self::Control(listener) => {
                let (stream, _) = listener.accept().await?;
                (Box::new(stream), "control socket".to_owned())
            }
        })
    }
}

async fn serve_at(door: Door, routes: Routes, mut closed: watch::Receiver<bool>) {
    let routes = Arc::new(routes);
    let mut guests = Guests::default();
    loop {
        let accepted = tokio::select! { biased;
            // An error means that all ends.
            _ = closed.wait_for(|is_closed| *is_closed) => {
                drop(door);
                return pending().await;
            }
            accepted = door.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                guests.make_room().await;
                let usage = Arc::new(Usage::new());
                // Ends with the runtime, if not before.
                let serving = tokio::spawn(converse(stream, peer, usage.clone(), routes.clone()));
                guests.add(usage, serving.abort_handle());
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept operators; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: Box<dyn Connection>, peer: String, usage: Arc<Usage>, routes: Arc<Routes>) {
    let answering = service_fn(|request| {
        let (routes, using, peer) = (&routes, Usage::begin(&usage), &peer);
        async move { Ok::<_, Infallible>(with(using, routes.answer(&request, peer).await)) }
    });
    let stream = TokioIo::new(Watched::new(stream, usage.clone()));
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(stream, answering)
    );
    let mut looks = interval(LOOK_EVERY);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, %peer, "operator's connection has ended");
                }
                return;
            }
            _ = looks.tick() => {
                if usage.is_stuck() {
                    tracing::debug!(%peer, "an operator takes no answer: the connection is given up");
                    return;
                }
                // An answer that is still going out is finished first.
                if usage.is_idle() {
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// An answer that goes on, such as events, is asked for as long as it does. Any other is the client's to take, and what it does
/// not take keeps no place.
fn with(using: Using, answer: Answer) -> Answer {
    if answer.body().size_hint().exact().is_some() {
        return answer;
    }
    answer.map(|body| {
        let held = move |frame| {
            let _using = &using;
            frame
        };
        body.map_frame(held).boxed_unsync()
    })
}
