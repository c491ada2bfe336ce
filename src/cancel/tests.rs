//! Cancels on their way to scripted servers: what arrives where, what counts meanwhile, and what is too late.

use std::{
    cell::Cell,
    future::poll_fn,
    os::unix::fs::MetadataExt,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    task::Poll,
};

use bytes::Bytes;
use futures_util::{FutureExt, poll};
use tempfile::TempDir;
use tokio::{
    net::{UnixListener, UnixStream},
    task::yield_now,
    time::timeout,
};

use super::*;
use crate::compute::Address;
use crate::config::{Limits, ServerAddress, ServerTls};
use crate::ids::EndpointName;
use crate::shutdown::{Phase, Shutdown};

const PID: i32 = 4321;
const SECRET: &[u8; 4] = b"abcd";
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

/// A server session that reads what is sent to cancel it.
struct Server {
    place: TempDir,
    listener: UnixListener,
    target: Arc<ServerTarget>,
}

impl Server {
    fn new() -> Self {
        Self::with_user(|ours| ours)
    }

    /// One that is expected to run as user `uid`, given our own.
    fn with_user(uid: impl FnOnce(u32) -> u32) -> Self {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let ours = place.path().metadata().unwrap().uid();
        let target = ServerTarget::new(Target {
            endpoint: EndpointName::parse("demo-main").unwrap(),
            address: Address {
                server: ServerAddress::Unix(socket),
                tls: ServerTls::Disable,
                server_uid: Some(uid(ours)),
            },
            server_key: CancelKey {
                pid: PID,
                secret: Bytes::from_static(SECRET),
            },
        });
        Self {
            place,
            listener,
            target,
        }
    }

    /// Waits for a cancel. It is under way until what is returned is dropped.
    async fn cancelled(&self) -> UnixStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut request = [0; 16];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request[8..12], PID.to_be_bytes());
        assert_eq!(request[12..], *SECRET);
        stream
    }

    /// Waits for a cancel, and takes it.
    async fn struck(&self) {
        drop(self.cancelled().await);
    }

    /// Whether nothing has come in.
    fn is_quiet(&self) -> bool {
        self.listener.accept().now_or_never().is_none()
    }
}

fn cancels() -> Cancels {
    told_in(&Arc::default())
}

fn told_in(storms: &Arc<Storms>) -> Cancels {
    Cancels::new(SocketSettings::from(&Limits::default()), storms.clone())
}

fn pooled(cancels: &Cancels) -> PooledRegistration {
    cancels.register_pooled(SecretLength::Four, Arc::default())
}

#[tokio::test]
async fn a_key_is_sent_to_nobody_but_its_server() {
    let server = Server::new();
    let cancels = cancels();
    tokio::join!(cancels.deliver(&server.target.target), server.struck());

    let impostor = Server::with_user(|ours| ours + 1);
    let received = async {
        let (mut stream, _) = impostor.listener.accept().await.unwrap();
        stream.read(&mut [0; 16]).await.unwrap()
    };
    let ((), received) = tokio::join!(cancels.deliver_to(&impostor.target), received);
    assert_eq!(received, 0);
    assert_eq!(impostor.target.settled().await, Settled::Safe, "nothing was sent");
}

#[tokio::test]
async fn a_cancel_counts_and_is_unanswered_until_the_server_has_closed() {
    let server = Server::new();
    let cancels = cancels();
    let client = pooled(&cancels);
    client.wait();
    client.run(&server.target).unwrap();
    let mut cancelling = pin!(cancels.cancel(client.key().clone()));
    let mut stream = tokio::select! {
        _ = &mut cancelling => panic!("answered before the server had closed"),
        stream = server.cancelled() => stream,
    };
    // What was counted stays counted when the client's turn is over, also where the server says something first.
    client.park();
    stream.write_all(b"E\0\0\0\x05\0").await.unwrap();
    let mut settled = pin!(server.target.settled());
    for _ in 0..10 {
        assert!(poll!(&mut cancelling).is_pending());
        assert!(poll!(&mut settled).is_pending());
        assert!(server.target.has_in_flight());
        yield_now().await;
    }
    drop(stream);
    cancelling.await;
    assert_eq!(settled.await, Settled::Safe);
    assert!(!server.target.has_in_flight());
}

#[tokio::test]
async fn settled_waits_for_all_that_are_under_way() {
    let server = Server::new();
    let cancels = cancels();
    let client = pooled(&cancels);
    client.run(&server.target).unwrap();
    let key = || client.key().clone();
    let cancelling = async { tokio::join!(cancels.cancel(key()), cancels.cancel(key())) };
    let checking = async {
        let first = server.cancelled().await;
        let second = server.cancelled().await;
        let mut settled = pin!(server.target.settled());
        drop(first);
        for _ in 0..10 {
            assert!(poll!(&mut settled).is_pending());
            yield_now().await;
        }
        drop(second);
        assert_eq!(settled.await, Settled::Safe);
    };
    tokio::join!(cancelling, checking);
}

#[tokio::test]
async fn who_runs_nothing_is_not_cancelled() {
    let server = Server::new();
    let cancels = cancels();
    let client = pooled(&cancels);
    let key = client.key().clone();
    let cancel = || cancels.cancel(key.clone()).now_or_never();
    assert_eq!(cancel(), Some(true), "not yet");
    client.run(&server.target).unwrap();
    client.park();
    assert_eq!(cancel(), Some(true), "no longer");
    client.wait();
    assert_eq!(cancel(), Some(true), "not yet again");
    assert!(server.is_quiet() && !server.target.has_in_flight());
}

#[tokio::test]
async fn a_cancel_ends_a_wait() {
    let cancels = cancels();
    let bell = Arc::new(Bell::default());
    let client = Arc::new(cancels.register_pooled(SecretLength::Four, bell.clone()));
    let (_all, watch) = Shutdown::new();
    let mut session = watch.of_session(&bell);
    client.wait();
    let waiting = tokio::spawn(poll_fn({
        let client = client.clone();
        move |cx| {
            let _ = session.poll_reached(cx, Phase::Draining);
            match client.is_cancelled() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        }
    }));
    yield_now().await;
    cancels.cancel(client.key().clone()).await;
    // Only the bell has it look once more.
    timeout(LONG, waiting).await.unwrap().unwrap();
    // Whoever looks later, or says again that it waits, still learns of it.
    client.wait();
    assert!(client.is_cancelled());
    client.park();
    assert!(!client.is_cancelled());
    client.wait();
    assert!(!client.is_cancelled(), "it was another wait");
}

#[tokio::test]
async fn a_cancel_in_the_last_moment_of_a_wait_is_not_lost() {
    let server = Server::new();
    let cancels = cancels();
    let client = pooled(&cancels);
    client.wait();
    cancels.cancel(client.key().clone()).await;
    assert_eq!(client.run(&server.target), Err(Cancelled));
    assert!(!client.is_cancelled(), "it is told once");
    // It is parked: what comes now does nothing.
    cancels.cancel(client.key().clone()).await;
    client.wait();
    assert_eq!(client.run(&server.target), Ok(()));
    assert!(server.is_quiet() && !server.target.has_in_flight());
}

#[tokio::test(start_paused = true)]
async fn a_cancel_whose_end_is_not_seen_makes_its_session_unfit_to_be_lent_on() {
    let cancels = cancels();
    // A server that never closes; time passes as soon as nothing else can happen.
    let server = Server::new();
    let client = pooled(&cancels);
    client.run(&server.target).unwrap();
    let (stream, found) = tokio::join!(server.cancelled(), cancels.cancel(client.key().clone()));
    assert!(found);
    assert_eq!(server.target.settled().await, Settled::Lost);
    drop(stream);
    assert!(server.target.has_in_flight(), "for good");

    // Nobody waits for the end any more.
    let server = Server::new();
    let cancelling = Box::pin(cancels.deliver_to(&server.target));
    let stream = tokio::select! {
        () = cancelling => panic!("answered before the server had closed"),
        stream = server.cancelled() => stream,
    };
    assert_eq!(server.target.settled().await, Settled::Lost);
    drop(stream);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_cancelled_by_nobody() {
    let server = Server::new();
    drop(server.listener);
    std::fs::remove_file(server.place.path().join("socket")).unwrap();
    cancels().deliver_to(&server.target).await;
    assert_eq!(server.target.settled().await, Settled::Safe);
}

#[tokio::test]
async fn a_key_dies_with_its_client_and_is_nothing_without_its_secret() {
    let server = Server::new();
    let cancels = cancels();
    let client = pooled(&cancels);
    client.run(&server.target).unwrap();
    let session = cancels.register(&server.target.target, SecretLength::ThirtyTwo);
    assert_eq!((cancels.len(), session.key().pid), (2, PID));
    assert_eq!(session.key().secret.len(), 32);
    let keys = [client.key().clone(), session.key().clone()];
    for key in &keys {
        let wrong = CancelKey {
            pid: key.pid,
            secret: Bytes::from(vec![b'x'; key.secret.len()]),
        };
        let short = CancelKey {
            pid: key.pid,
            secret: key.secret.slice(..3),
        };
        assert_eq!(cancels.cancel(wrong).now_or_never(), Some(false));
        assert_eq!(cancels.cancel(short).now_or_never(), Some(false));
        tokio::join!(cancels.cancel(key.clone()), server.struck());
        assert!(!server.target.has_in_flight());
    }
    drop((client, session));
    assert!(cancels.is_empty());
    for key in keys {
        assert_eq!(cancels.cancel(key).now_or_never(), Some(false));
    }
    assert!(server.is_quiet());
}

#[test]
fn process_ids_of_pooled_clients_are_positive_and_their_own() {
    let cancels = cancels();
    let clients: Vec<_> = (0..1000)
        .map(|_| cancels.register_pooled(SecretLength::ThirtyTwo, Arc::default()))
        .collect();
    assert_eq!(cancels.len(), 1000);
    assert!(clients.iter().all(|client| client.key().pid > 0));
    let mut pids: Vec<_> = clients.iter().map(|client| client.key().pid).collect();
    pids.sort_unstable();
    pids.dedup();
    // Two of 1,000 are the same once in 4,000 runs; ten pairs never are.
    assert!(pids.len() > 990, "{} of 1000", pids.len());
    assert!(clients.iter().all(|client| client.key().secret.len() == 32));
    assert_eq!(pooled(&cancels).key().secret.len(), 4);
}

#[test]
fn a_key_that_exists_is_drawn_again() {
    let cancels = cancels();
    let first = pooled(&cancels);
    let drawn = AtomicUsize::new(0);
    let draw = || match drawn.fetch_add(1, SeqCst) {
        0..3 => Key(first.key().clone()),
        _ => Key::virtual_one(SecretLength::Four),
    };
    assert_ne!(cancels.add(&Slot::idle(Arc::default()), draw).0, *first.key());
    assert_eq!((cancels.len(), drawn.load(SeqCst)), (2, 4));
}

/// Two clients take turns with one server session. One of them is cancelled in each of its turns, sooner or later,
/// sometimes too late.
#[tokio::test]
async fn a_cancel_for_one_client_never_strikes_the_next() {
    let server = Server::new();
    let cancels = cancels();
    let (cancelled, other) = (pooled(&cancels), pooled(&cancels));
    let target = &server.target;
    let is_lent_on = AtomicBool::new(false);
    let (strikes, mut ended_waits) = (Cell::new(0), 0);
    // Closes each cancel after a moment in which it could strike.
    let mut serving = pin!(async {
        loop {
            let stream = server.cancelled().await;
            for _ in 0..3 {
                assert!(!is_lent_on.load(SeqCst));
                yield_now().await;
            }
            strikes.set(strikes.get() + 1);
            drop(stream);
        }
    });
    let racing = async {
        for round in 0..600 {
            let cancelling = cancels.cancel(cancelled.key().clone());
            let turns = async {
                yields(round % 5).await;
                cancelled.wait();
                yields(round % 3).await;
                ended_waits += usize::from(cancelled.run(target).is_err());
                yields(round % 7).await;
                cancelled.park();
                if target.has_in_flight() {
                    assert_eq!(target.settled().await, Settled::Safe);
                }
                is_lent_on.store(true, SeqCst);
                other.run(target).unwrap();
                for _ in 0..5 {
                    assert!(!target.has_in_flight());
                    yield_now().await;
                }
                other.park();
                is_lent_on.store(false, SeqCst);
            };
            tokio::join!(turns, async {
                yields(round % 11).await;
                cancelling.await;
            });
        }
    };
    tokio::select! {
        () = &mut serving => unreachable!("it serves for ever"),
        done = timeout(LONG, racing) => done.unwrap(),
    }
    assert!(ended_waits > 20, "{ended_waits}");
    let strikes = strikes.get();
    assert!((20..580 - ended_waits).contains(&strikes), "{strikes}");
}

async fn yields(count: usize) {
    for _ in 0..count {
        yield_now().await;
    }
}

/// The same with threads instead of sockets: whoever parks and whoever cancels meet in any moment.
#[test]
fn a_cancel_starts_before_its_client_is_parked_or_not_at_all() {
    let server = tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(async { Server::new() });
    let target = &server.target;
    let client = pooled(&cancels());
    let (is_over, is_lent_on) = (&AtomicBool::new(false), &AtomicBool::new(false));
    let slot = client.slot();
    let (started, stray) = std::thread::scope(|scope| {
        let cancelling = scope.spawn(move || {
            let (mut started, mut stray) = (0, 0);
            while !is_over.load(SeqCst) {
                if let Some(in_flight) = slot.cancel() {
                    started += 1;
                    stray += usize::from(is_lent_on.load(SeqCst));
                    drop(in_flight);
                }
                std::hint::spin_loop();
            }
            (started, stray)
        });
        let mut stray = 0;
        for round in 0..200_000 {
            client.run(target).unwrap();
            (0..round % 50).for_each(|_| std::hint::spin_loop());
            client.park();
            while target.has_in_flight() {
                std::thread::yield_now();
            }
            is_lent_on.store(true, SeqCst);
            stray += (0..round % 50).filter(|_| target.has_in_flight()).count();
            is_lent_on.store(false, SeqCst);
        }
        is_over.store(true, SeqCst);
        let (started, seen_there) = cancelling.join().unwrap();
        (started, stray + seen_there)
    });
    assert!(started > 0);
    assert_eq!(stray, 0, "of {started}");
}

/// A thousand clients of a server that is gone, and each has its own way to say so.
#[tokio::test]
async fn cancels_that_do_not_arrive_are_told_once_for_their_endpoint_and_counted() {
    let storms = Arc::default();
    let cancels = told_in(&storms);
    let server = Server::with_user(|ours| ours + 1);
    for _ in 0..1000 {
        cancels.deliver(&server.target.target).await;
    }
    let Server { target, listener, .. } = server;
    drop(listener);
    cancels.deliver(&target.target).await;
    let counted = storms.rest();
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert_eq!(
        (&*counted[0].endpoint, &*counted[0].code, counted[0].more),
        ("demo-main", UNDELIVERED, 1000)
    );
}
