//! Connections of operators: so many, each bounded in the size of what it says and in how long it may take.

use std::{
    convert::Infallible,
    future::pending,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{Semaphore, watch},
    time::{Instant, interval, sleep},
};

use super::{View, routes::Routes};

/// Most connections at once; further ones wait until they are accepted.
const CONNECTIONS_MAX: usize = 128;
/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Most lines of it.
const HEADERS_MAX: usize = 64;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection on which nothing is asked for so long is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// How often that is looked at, and what was measured is summed up.
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
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
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
                let routes = routes.clone();
                // Ends with the runtime, if not before.
                tokio::spawn(async move {
                    converse(stream, &peer, &routes).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept operators; trying again");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: Box<dyn Connection>, peer: &str, routes: &Arc<Routes>) {
    let usage = Arc::new(Usage::new());
    let answering = service_fn(|request| {
        let (routes, using) = (routes.clone(), Usage::begin(&usage));
        async move {
            let answer = routes.answer(&request, peer).await;
            drop(using);
            Ok::<_, Infallible>(answer)
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(HEAD_BYTES_MAX)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(stream), answering)
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
            // An answer that is still going out, such as events, is finished first.
            _ = looks.tick() => if usage.is_idle() {
                connection.as_mut().graceful_shutdown();
            },
        }
    }
}

/// Whether anything is being asked on a connection, and when it last was.
struct Usage {
    began: Instant,
    running: AtomicUsize,
    /// Milliseconds after `began`.
    last: AtomicU64,
}

impl Usage {
    fn new() -> Self {
        Self {
            began: Instant::now(),
            running: AtomicUsize::new(0),
            last: AtomicU64::new(0),
        }
    }

    fn begin(this: &Arc<Self>) -> Using {
        this.running.fetch_add(1, Ordering::Relaxed);
        Using(this.clone())
    }

    fn is_idle(&self) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.running.load(Ordering::Relaxed) == 0 && self.began.elapsed() > last + IDLE_TIMEOUT
    }
}

/// One request.
struct Using(Arc<Usage>);

impl Drop for Using {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last.store(now, Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}
