//! What operators see and order: an HTTP port with a dashboard, metrics and an API.
//!
//! It has a thread and a runtime of its own, so that clients feel nothing of those who look. It shows what others know
//! and passes orders on; it decides nothing about clients or computes. No secret, token or text of a statement is in
//! any answer. `access` says who may do what, `routes` which path is what, `show` and `order` do it. `API.md` tells
//! users of all of it, and a test holds that. Who calls: `server`.

mod access;
mod answer;
mod averages;
mod branches;
mod console;
mod events;
mod guests;
mod order;
mod process;
mod reading;
mod routes;
mod serve;
mod show;
mod standing;
mod time;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    os::{fd::OwnedFd, unix::net::UnixListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use tokio::{
    runtime::Builder,
    sync::{Notify, mpsc, watch},
};

use crate::config::Config;
use crate::runtime::Own;
use crate::session::{House, Visit};

pub use averages::Averages;
pub(crate) use reading::read_counted;
pub use standing::Standing;

/// What a reload has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    /// In words.
    pub changes: String,
    /// Keys that were changed in the files and hold only after a restart.
    pub needs_restart: Vec<String>,
}

/// Reads the configuration again; an error says why all is as it was.
pub type Reload = Box<dyn Fn() -> BoxFuture<'static, Result<Reloaded, String>> + Send + Sync>;

/// What an operator sees of everything else.
pub struct View {
    /// The parts.
    pub house: Arc<House>,
    /// What holds.
    pub config: Arc<ArcSwap<Config>>,
    /// Reads the configuration again.
    pub reload: Reload,
    /// Keeps what is ordered until further notice.
    pub standing: Standing,
    /// Where clients come in over TCP, with the port that the system chose.
    pub address: Option<SocketAddr>,
    /// How many clients are connected, logged in or not.
    pub clients: Box<dyn Fn() -> usize + Send + Sync>,
    /// What clients did in the last period.
    pub averages: Averages,
    /// Clients may come.
    pub is_open: AtomicBool,
    /// An operator wants pgwake to drain.
    pub drain_ordered: Notify,
}

impl View {
    /// Clients may come from now on.
    pub fn opened(&self) {
        self.is_open.store(true, Ordering::Release);
    }
}

/// Where operators come in.
#[derive(Debug, Default)]
pub struct Doors {
    /// Over HTTP, and the address as it is written.
    pub http: Option<(SocketAddr, TcpListener)>,
    /// The same over a Unix socket that nobody but pgwake's own user and root can reach: for commands.
    pub control: Option<UnixListener>,
    /// As clients of Postgres, to the console.
    pub visits: Option<mpsc::Receiver<Visit>>,
}

async fn http(listener: Option<TcpListener>, view: &Arc<View>, closed: watch::Receiver<bool>) {
    let Some(listener) = listener else { return };
    match listener.local_addr() {
        Ok(address) => {
            serve::serve(listener, (view.clone(), address), closed).await;
        }
        Err(error) => tracing::error!(%error, "cannot serve operators"),
    }
}

async fn control(listener: Option<UnixListener>, view: &Arc<View>, closed: watch::Receiver<bool>) {
    if let Some(listener) = listener {
        serve::serve_control(listener, view.clone(), closed).await;
    }
}

async fn visits(visits: Option<mpsc::Receiver<Visit>>, view: &Arc<View>) {
    if let Some(visits) = visits {
        console::serve(visits, view.clone()).await;
    }
}

/// The port, as long as this lives.
#[derive(Debug)]
pub struct Admin {
    address: Option<SocketAddr>,
    end: watch::Sender<bool>,
    doors_closed: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

impl Admin {
    /// Takes the address, or a socket that listens there; nobody is answered yet.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(address: SocketAddr, inherited: Option<OwnedFd>) -> io::Result<TcpListener> {
        let listener = match inherited {
            Some(socket) => socket.into(),
            None => TcpListener::bind(address)?,
        };
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    /// Answers on a thread of its own.
    ///
    /// # Errors
    /// There is no thread or no runtime to be had.
    pub fn start(doors: Doors, view: Arc<View>) -> io::Result<Self> {
        let address = doors
            .http
            .as_ref()
            .map(|(_, http)| http.local_addr())
            .transpose()?;
        let runtime = Own::build(Builder::new_current_thread().thread_name("admin"))?;
        let (end, mut ending) = watch::channel(false);
        let (doors_closed, closed) = watch::channel(false);
        let (tell_ended, ended) = watch::channel(false);
        thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    // An error means that it was dropped: that is the end, too.
                    _ = ending.wait_for(|end| *end) => (),
                    () = averages::follow(&view) => (),
                    _ = async {
                        tokio::join!(
                            http(doors.http.map(|(_, http)| http), &view, closed.clone()),
                            control(doors.control, &view, closed),
                            visits(doors.visits, &view)
                        )
                    } => (),
                }
            });
            // With it end all connections, and what they hold of the house.
            drop((runtime, view));
            tell_ended.send_replace(true);
        })?;
        Ok(Self {
            address,
            end,
            doors_closed,
            ended,
        })
    }

    /// Where it answers over HTTP, with the port that the system chose.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Another pgwake answers on the same sockets: whoever is connected is still answered.
    pub fn close_doors(&self) {
        self.doors_closed.send_replace(true);
    }

    /// Answers nobody any more, and lets go of all it holds. Cancel safe.
    pub async fn stop(&self) {
        self.end.send_replace(true);
        // An error means that the thread is gone.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
    }
}
