//! Sessions that change threads. Real time and real threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::{Builder, Runtime},
    sync::Barrier,
    time::{Instant, timeout},
};

use super::scripted::*;
use crate::pool::{Lent, Ticket};

const SIZE: usize = 2;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn answers(lent: &mut Lent<u32>) {
    let mut answer = [0; 4];
    let talk = async {
        lent.stream.write_all(b"ping").await.unwrap();
        lent.stream.read_exact(&mut answer).await.unwrap();
    };
    timeout(10 * SECOND, talk).await.expect("the server answers");
    assert_eq!(&answer, b"pong");
}

/// Answers every `ping` with `pong`. `living` counts those whose socket is open.
fn echo(server: Detached, living: &Arc<AtomicUsize>) {
    let living = living.clone();
    assert!(living.fetch_add(1, Ordering::SeqCst) < SIZE, "one too many");
    thread::spawn(move || {
        runtime().block_on(async {
            let mut server = server.attached();
            while server.hears(4).await == b"ping" {
                server.says(b"pong").await;
            }
            // Before its socket is closed, which frees the slot.
            living.fetch_sub(1, Ordering::SeqCst);
            drop(server);
        });
    });
}

#[test]
fn a_session_is_polled_by_the_thread_that_borrows_it() {
    let first = runtime();
    let (house, ticket) = first.block_on(async {
        let house = House::new(1);
        let (mut lent, server) = house.open(&key("shop"), 1);
        echo(server.detached(), &Arc::default());
        answers(&mut lent).await;
        let ticket = house.pool.keep(lent, Instant::now());
        (Arc::new(house), ticket)
    });

    let elsewhere = house.clone();
    let ticket = thread::spawn(move || {
        runtime().block_on(async {
            // Nobody runs the first runtime any more: only if the socket has moved, it is heard.
            let mut lent = elsewhere.pool.take_kept(&ticket, FIRST).unwrap();
            answers(&mut lent).await;
            elsewhere.pool.keep(lent, Instant::now())
        })
    })
    .join()
    .unwrap();

    first.block_on(async {
        let mut lent = house.pool.take_kept(&ticket, FIRST).unwrap();
        answers(&mut lent).await;
    });
}

/// Sessions 1 and 2, polled by the thread that asks, then 3 and 4, by another one.
fn of_two_threads(house: &House, here: &Runtime, elsewhere: &Runtime) -> Vec<(Lent<u32>, Server)> {
    let open = |carried| house.open(&key("shop"), carried);
    let ours = here.block_on(async { [1, 2].map(open) });
    let theirs = thread::scope(|scope| {
        let opened = scope.spawn(|| elsewhere.block_on(async { [3, 4].map(open) }));
        opened.join().unwrap()
    });
    ours.into_iter().chain(theirs).collect()
}

fn carried(lent: &[Lent<u32>]) -> Vec<u32> {
    lent.iter().map(|lent| lent.carried).collect()
}

#[test]
fn a_resting_session_of_the_own_thread_comes_before_what_was_used_later() {
    let (here, elsewhere) = (runtime(), runtime());
    let house = House::new(4);
    let (lent, _servers): (Vec<_>, Vec<_>) = of_two_threads(&house, &here, &elsewhere).into_iter().unzip();
    let _here = here.enter();
    lent.into_iter().for_each(|lent| house.pool.rest(lent));
    let suiting = |number: u32| {
        house
            .pool
            .take_resting(&key("shop"), FIRST, |carried| *carried != number)
    };
    let lent: Vec<_> = (0..2).filter_map(|_| suiting(1)).collect();
    assert_eq!(
        carried(&lent),
        [2, 4],
        "the own one that suits, then the last of others"
    );
    assert_eq!(house.places(), (2, 0, 2));
}

#[test]
fn a_session_that_another_client_keeps_on_the_own_thread_comes_before_what_was_kept_longer() {
    let (here, elsewhere) = (runtime(), runtime());
    let house = House::new(4);
    let (lent, _servers): (Vec<_>, Vec<_>) = of_two_threads(&house, &here, &elsewhere).into_iter().unzip();
    let _here = here.enter();
    let now = Instant::now();
    for lent in lent.into_iter().rev() {
        house.pool.keep(lent, now);
    }
    let stolen = |_| house.pool.steal(&key("shop"), FIRST, |_| true);
    let lent: Vec<_> = (0..4).filter_map(stolen).collect();
    assert_eq!(carried(&lent), [2, 1, 4, 3]);
}

#[test]
fn many_threads_share_few_sessions() {
    const THREADS: usize = 4;
    let house = Arc::new(House::new(SIZE));
    let living = Arc::default();
    // A thread stays until all are done: what ends with it is closed without waiting for its server.
    let (start, end) = (Arc::new(Barrier::new(THREADS)), Arc::new(Barrier::new(THREADS)));
    let client = |number: usize| {
        let (house, start, end) = (house.clone(), start.clone(), end.clone());
        let living = Arc::clone(&living);
        let turns = async move {
            start.wait().await;
            let mut ticket = None;
            for _ in 0..200 {
                ticket = Some(turn(&house, ticket, number, &living).await);
            }
            end.wait().await;
        };
        thread::spawn(|| runtime().block_on(async { timeout(30 * SECOND, turns).await }))
    };

    let clients: Vec<_> = (0..THREADS).map(client).collect();
    for client in clients {
        client.join().unwrap().expect("every client ends");
    }

    let (lent, kept, resting) = house.places();
    assert_eq!((lent, resting), (0, 0));
    assert!(kept <= SIZE);
    runtime().block_on(house.pool.close_idle());
    assert_eq!(house.pool.live(), 0);
}

/// As a client does it.
async fn turn(house: &House, ticket: Option<Ticket>, number: usize, living: &Arc<AtomicUsize>) -> Ticket {
    let key = key(if number.is_multiple_of(2) { "shop" } else { "mail" });
    let _permit = house.pool.permit(Instant::now()).await;
    let pool = &house.pool;
    let kept = ticket.and_then(|ticket| pool.take_kept(&ticket, FIRST));
    let found = kept.or_else(|| pool.steal(&key, FIRST, |_| true));
    let mut lent = match found {
        Some(lent) => lent,
        None => {
            let (lent, server) = house.open_in(pool.slot().await, &key, 0);
            echo(server.detached(), living);
            lent
        }
    };
    assert_eq!(lent.key(), &key);
    answers(&mut lent).await;
    assert_eq!(std::mem::take(&mut lent.pending), Bytes::new());
    pool.keep(lent, Instant::now())
}
