//! Clients that work for one target: threads with a runtime each, and the windows of time in which they work.
//!
//! Closed pace: each client asks again as soon as it has its answer. Open pace: requests arrive at random moments
//! whatever the answers do, and their latency counts from the moment when they were meant to begin, so that a
//! target that stalls is charged for all who would have come meanwhile. It does not measure the target's process
//! (`rounds` does).

pub(crate) mod pacer;

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    runtime,
    sync::{Semaphore, mpsc, oneshot},
    task::{JoinSet, LocalSet},
    time::{sleep, timeout_at},
};

use crate::{
    connection::{Connection, Door},
    failure::Failure,
    tally::Tally,
    workload::{Random, Workload},
};

/// How long after a window's end answers are waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// A client that was refused waits this long before it tries again.
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How many clients of a thread log in at once.
const OPENING_AT_ONCE: usize = 16;

/// What clients do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// They stay connected and ask.
    Query(Workload),
    /// They connect, ask once, and leave.
    Connect(Workload),
}

/// When requests begin.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    Closed,
    /// At random moments, so many per second on average.
    Open(f64),
}

/// When to work, and from when on to count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) start: Instant,
    pub(crate) end: Instant,
    pub(crate) pace: Pace,
}

/// Who works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) work: Work,
    pub(crate) clients: usize,
    pub(crate) threads: usize,
}

/// Clients of one target; they leave when this is dropped.
pub(crate) struct Crew {
    threads: Vec<Member>,
    done: Arc<AtomicU64>,
}

struct Member {
    orders: Option<mpsc::UnboundedSender<Order>>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Order {
    window: Window,
    reply: oneshot::Sender<Tally>,
}

impl Crew {
    /// Starts the threads and logs all clients in. Who could not log in is counted in the tally, and tries again
    /// in each window.
    pub(crate) async fn open(door: &Door, plan: Plan) -> (Self, Tally) {
        let done = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        let mut opened = Vec::new();
        for index in 0..plan.threads {
            let share = plan.clients / plan.threads + usize::from(index < plan.clients % plan.threads);
            let (orders, incoming) = mpsc::unbounded_channel();
            let (reply, opening) = oneshot::channel();
            let desk = (door.clone(), plan.work, done.clone(), plan.threads);
            let thread = thread::spawn(move || {
                let (door, work, done, threads) = desk;
                let runtime = runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime needs only what every process has");
                let desk = Rc::new(Desk {
                    door,
                    work,
                    done,
                    threads,
                    tally: RefCell::new(Tally::new()),
                });
                LocalSet::new().block_on(&runtime, serve(desk, share, reply, incoming));
            });
            threads.push(Member {
                orders: Some(orders),
                thread: Some(thread),
            });
            opened.push(opening);
        }
        let mut tally = Tally::new();
        for opening in opened {
            tally.add(
                &opening
                    .await
                    .expect("a thread of the crew lives until it is dropped"),
            );
        }
        (Self { threads, done }, tally)
    }

    /// How many requests have been answered so far, in and outside of windows.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Works for a window; the counts are of its inside alone.
    pub(crate) fn run(&self, window: Window) -> impl Future<Output = Tally> + use<> {
        let replies: Vec<_> = self
            .threads
            .iter()
            .map(|member| {
                let (reply, answer) = oneshot::channel();
                if let Some(orders) = &member.orders {
                    let _ = orders.send(Order { window, reply });
                }
                answer
            })
            .collect();
        async move {
            let mut sum = Tally::new();
            for reply in replies {
                sum.add(
                    &reply
                        .await
                        .expect("a thread of the crew lives until it is dropped"),
                );
            }
            sum
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for member in &mut self.threads {
            member.orders = None;
        }
        for member in &mut self.threads {
            if let Some(thread) = member.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

/// What the clients of one thread share.
struct Desk {
    door: Door,
    work: Work,
    done: Arc<AtomicU64>,
    threads: usize,
    tally: RefCell<Tally>,
}

/// Requests that have arrived and that nobody has taken.
#[derive(Default)]
struct Arrivals {
    queue: RefCell<VecDeque<Instant>>,
}

async fn serve(
    desk: Rc<Desk>,
    share: usize,
    opened: oneshot::Sender<Tally>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut clients = open_all(&desk, share).await;
    let _ = opened.send(desk.tally.replace(Tally::new()));
    while let Some(Order { window, reply }) = orders.recv().await {
        clients = match (desk.work, window.pace) {
            (Work::Connect(_), Pace::Open(per_second)) => {
                arrive(&desk, window, per_second).await;
                clients
            }
            _ => work(&desk, clients, window).await,
        };
        let _ = reply.send(desk.tally.replace(Tally::new()));
    }
    for client in clients {
        client.leave().await;
    }
}

async fn open_all(desk: &Rc<Desk>, share: usize) -> Vec<Client> {
    let at_once = Rc::new(Semaphore::new(OPENING_AT_ONCE));
    let mut opening = JoinSet::new();
    for index in 0..share {
        let (desk, at_once) = (desk.clone(), at_once.clone());
        opening.spawn_local(async move {
            let _turn = at_once.acquire().await;
            let mut client = Client::new(index as u64);
            if let Work::Query(workload) = desk.work {
                let began = Instant::now();
                let opened = client.ensure(&desk.door, workload).await;
                desk.tally.borrow_mut().count(opened.map(|()| began.elapsed()));
            }
            client
        });
    }
    opening.join_all().await
}

/// All clients work until the window's end; who is not back long after it is counted as late.
async fn work(desk: &Rc<Desk>, clients: Vec<Client>, window: Window) -> Vec<Client> {
    let arrivals = Rc::new(Arrivals::default());
    let ready = Rc::new(Semaphore::new(0));
    let count = clients.len();
    let mut working = JoinSet::new();
    for mut client in clients {
        let (desk, arrivals, ready) = (desk.clone(), arrivals.clone(), ready.clone());
        working.spawn_local(async move {
            let deadline = (window.end + PATIENCE).into();
            let seed = client.seed;
            let worked = timeout_at(deadline, async {
                match window.pace {
                    Pace::Closed => client.work_closed(&desk, window).await,
                    Pace::Open(_) => client.work_open(&desk, window, &arrivals, &ready).await,
                }
                client
            });
            match worked.await {
                Ok(client) => client,
                Err(_) => {
                    desk.tally.borrow_mut().failed(&Failure::Late);
                    Client::new(seed)
                }
            }
        });
    }
    if let Pace::Open(per_second) = window.pace {
        let share = per_second / desk.threads as f64;
        pacer::run(window.end, share, |intended| {
            arrivals.queue.borrow_mut().push_back(intended);
            ready.add_permits(1);
        })
        .await;
        // Who finds nothing left is done.
        ready.add_permits(count);
    }
    working.join_all().await
}

/// A connection for each arrival, however many are under way.
async fn arrive(desk: &Rc<Desk>, window: Window, per_second: f64) {
    let mut coming = JoinSet::new();
    let share = per_second / desk.threads as f64;
    let mut seed = 0;
    pacer::run(window.end, share, |intended| {
        let desk = desk.clone();
        seed += 1;
        let mut client = Client::new(seed);
        coming.spawn_local(async move {
            let deadline = (window.end + PATIENCE).into();
            let result = timeout_at(deadline, client.request(&desk)).await;
            let result = result.unwrap_or(Err(Failure::Late));
            client.note(&desk, window, intended, &result);
            client.rest(&desk).await;
        });
    })
    .await;
    coming.join_all().await;
}

/// One client.
struct Client {
    seed: u64,
    random: Random,
    request: Vec<u8>,
    connection: Option<Connection>,
}

impl Client {
    fn new(seed: u64) -> Self {
        Self {
            seed,
            random: Random::seeded(seed + 1),
            request: Vec::new(),
            connection: None,
        }
    }

    async fn ensure(&mut self, door: &Door, workload: Workload) -> Result<(), Failure> {
        if self.connection.is_none() {
            let (mut connection, _) = Connection::open(door).await?;
            if let Some(preparation) = workload.preparation() {
                connection.exchange(&preparation).await?;
            }
            self.connection = Some(connection);
        }
        Ok(())
    }

    /// One request; a client without a connection connects first.
    async fn request(&mut self, desk: &Desk) -> Result<(), Failure> {
        let (Work::Query(workload) | Work::Connect(workload)) = desk.work;
        self.ensure(&desk.door, workload).await?;
        let connection = self.connection.as_mut().expect("it was just ensured");
        workload.write(&mut self.request, &mut self.random);
        let answer = connection.exchange(&self.request).await?;
        match workload.is_right(answer) {
            true => Ok(()),
            false => Err(Failure::Unexpected(format!("the answer {answer:?}"))),
        }
    }

    /// Counts what was answered inside the window, and what began inside it and failed.
    fn note(&self, desk: &Desk, window: Window, began: Instant, result: &Result<(), Failure>) {
        let now = Instant::now();
        if result.is_ok() {
            desk.done.fetch_add(1, Ordering::Relaxed);
        }
        // An open pace owes an answer for every arrival, also where it comes late.
        let counts = match window.pace {
            Pace::Closed => now >= window.start && now <= window.end,
            Pace::Open(_) => began >= window.start,
        };
        if counts {
            desk.tally
                .borrow_mut()
                .count(result.clone().map(|()| now - began));
        }
    }

    /// Leaves where it is to connect anew next time. Who was only refused stays, as drivers do.
    async fn rest(&mut self, desk: &Desk) {
        let is_ready = self.connection.as_ref().is_some_and(Connection::is_ready);
        let stays = is_ready && matches!(desk.work, Work::Query(_));
        if !stays && let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    async fn work_closed(&mut self, desk: &Desk, window: Window) {
        loop {
            let began = Instant::now();
            if began >= window.end {
                return;
            }
            let result = self.request(desk).await;
            self.note(desk, window, began, &result);
            self.rest(desk).await;
            if result.is_err() {
                sleep(AGAIN_AFTER).await;
            }
        }
    }

    async fn work_open(&mut self, desk: &Desk, window: Window, arrivals: &Arrivals, ready: &Semaphore) {
        loop {
            ready.acquire().await.expect("nobody closes it").forget();
            let Some(intended) = arrivals.queue.borrow_mut().pop_front() else {
                return;
            };
            let result = self.request(desk).await;
            self.note(desk, window, intended, &result);
            self.rest(desk).await;
        }
    }

    async fn leave(self) {
        if let Some(connection) = self.connection {
            connection.close().await;
        }
    }
}
