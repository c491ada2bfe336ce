//! Operations at random: sessions that exist never exceed what may, and all rights come back.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::time::{Duration, Instant, sleep};

use super::scripted::*;
use crate::ids::Generation;
use crate::pool::{Lent, Permit, PoolKey, Ticket};

#[derive(Debug, Clone)]
enum Operation {
    /// A client takes a turn as far as a session, the way a turn does.
    Begin {
        key: usize,
        suits: u32,
    },
    /// The oldest turn, or a later one, ends like this.
    End {
        turn: usize,
        end: End,
    },
    /// A server leaves unasked.
    ServerLeaves(usize),
    CloseIdle,
    CloseDatabase,
    Retire,
    Lower,
    Resize(usize),
    NewGeneration,
    Wait(u64),
}

#[derive(Debug, Clone, Copy)]
enum End {
    Keep,
    Rest,
    Close,
    Drop,
    KeepThenRest,
}

fn operation() -> impl Strategy<Value = Operation> {
    let end = prop_oneof![
        6 => Just(End::Keep),
        2 => Just(End::Rest),
        1 => Just(End::Close),
        1 => Just(End::Drop),
        1 => Just(End::KeepThenRest),
    ];
    prop_oneof![
        12 => (0..4_usize, 0..3_u32).prop_map(|(key, suits)| Operation::Begin { key, suits }),
        12 => (0..4_usize, end).prop_map(|(turn, end)| Operation::End { turn, end }),
        2 => (0..8_usize).prop_map(Operation::ServerLeaves),
        1 => Just(Operation::CloseIdle),
        1 => Just(Operation::CloseDatabase),
        1 => Just(Operation::Retire),
        1 => Just(Operation::Lower),
        1 => (1..6_usize).prop_map(Operation::Resize),
        1 => Just(Operation::NewGeneration),
        2 => (0..400_u64).prop_map(Operation::Wait),
    ]
}

/// A pool with servers that are counted, and the turns that are under way.
struct World {
    house: House,
    size: usize,
    generation: Generation,
    keys: [PoolKey; 4],
    turns: Vec<(Lent<u32>, Permit)>,
    tickets: Vec<Ticket>,
    servers: Arc<AtomicUsize>,
    leave: Vec<tokio::task::AbortHandle>,
}

/// One server, while its end of the socket is open.
struct Exists(Arc<AtomicUsize>);

impl Drop for Exists {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl World {
    fn new(size: usize) -> Self {
        Self {
            house: House::new(size),
            size,
            generation: FIRST,
            keys: [
                key("shop"),
                key("mail"),
                key_with("shop", "x"),
                key_with("mail", "y"),
            ],
            turns: Vec::new(),
            tickets: Vec::new(),
            servers: Arc::default(),
            leave: Vec::new(),
        }
    }

    async fn run(&mut self, operation: Operation) {
        let pool = self.house.pool.clone();
        match operation {
            Operation::Begin { key, suits } => self.begin(key, suits).await,
            Operation::End { turn, end } => self.end(turn, end),
            Operation::ServerLeaves(server) => {
                if let Some(server) = self.leave.get(server) {
                    server.abort();
                }
            }
            Operation::CloseIdle => {
                pool.close_idle().await;
                let (_, kept, resting) = self.house.places();
                assert_eq!((kept, resting), (0, 0));
                assert_eq!(pool.figures().closing, 0);
            }
            Operation::CloseDatabase => pool.close_database(self.keys[0].database()).await,
            Operation::Retire => pool.retire(),
            Operation::Lower => pool.lower_to_live(),
            Operation::Resize(size) => {
                pool.set_rules(rules(size));
                self.size = size;
            }
            Operation::NewGeneration => self.generation = self.generation.next(),
            Operation::Wait(seconds) => sleep(Duration::from_secs(seconds)).await,
        }
    }

    async fn begin(&mut self, key: usize, suits: u32) {
        let pool = &self.house.pool;
        let Some(permit) = pool.try_permit() else { return };
        let key = self.keys[key].clone();
        let suits = |carried: &u32| *carried != suits;
        let kept = self.tickets.pop();
        let kept = kept.and_then(|ticket| pool.take_kept(&ticket, self.generation));
        let kept = kept.filter(|lent| *lent.key() == key);
        let found = kept.or_else(|| pool.take_resting(&key, self.generation, suits));
        if let Some(lent) = found {
            return self.turns.push((lent, permit));
        }
        // Half of those who find none wait for a slot and give up.
        let slot = pool.slot().now_or_never();
        let slot = match slot {
            Some(slot) => slot,
            None => match pool.steal(&key, self.generation, suits) {
                Some(lent) => return self.turns.push((lent, permit)),
                None => match tokio::time::timeout(2 * SECOND, pool.slot()).await {
                    Ok(slot) => slot,
                    Err(_) => return,
                },
            },
        };
        let (mut lent, server) = self.house.open_in(slot, &key, 0);
        lent.carried = u32::try_from(self.leave.len() % 3).unwrap();
        self.servers.fetch_add(1, Ordering::Relaxed);
        let exists = Exists(self.servers.clone());
        let serving = tokio::spawn(async move {
            let mut server = server;
            server.told().await;
            drop((server, exists));
        });
        self.leave.push(serving.abort_handle());
        self.turns.push((lent, permit));
    }

    fn end(&mut self, turn: usize, end: End) {
        if turn >= self.turns.len() {
            return;
        }
        let (lent, permit) = self.turns.remove(turn);
        let pool = &self.house.pool;
        match end {
            End::Keep => self.tickets.push(pool.keep(lent, Instant::now())),
            End::Rest => pool.rest(lent),
            End::Close => pool.close(lent),
            End::Drop => drop(lent),
            End::KeepThenRest => pool.rest_kept(pool.keep(lent, Instant::now())),
        }
        drop(permit);
    }

    /// What must hold between any two operations; `before` is how many servers there were.
    fn check(&self, before: usize) {
        let exist = self.servers.load(Ordering::Relaxed);
        assert!(exist <= self.size.max(before), "{exist} servers of {}", self.size);
        let figures = self.house.pool.figures();
        let (lent, kept, resting) = self.house.places();
        assert_eq!(lent, self.turns.len());
        assert_eq!(self.house.pool.live(), lent + kept + resting);
        assert!(
            figures
                .keys
                .iter()
                .all(|key| key.lent + key.kept + key.resting > 0)
        );
        assert!(exist <= lent + kept + resting + figures.closing);
    }

    /// Everybody leaves.
    async fn finish(mut self) {
        self.turns.clear();
        let pool = &self.house.pool;
        pool.close_idle().await;
        assert_eq!(pool.figures().keys, []);
        assert_eq!(pool.figures().startup_variants, 0);
        assert_eq!(pool.figures().closing, 0);
        let permits: Vec<_> = std::iter::from_fn(|| pool.try_permit()).collect();
        let slots: Vec<_> = std::iter::from_fn(|| pool.try_slot()).collect();
        assert_eq!((permits.len(), slots.len()), (self.size, self.size));
        self.house.tasks.close();
        self.house.tasks.wait().await;
        assert_eq!(self.servers.load(Ordering::Relaxed), 0);
    }
}

proptest! {
    #[test]
    fn sessions_never_exceed_what_may_exist_and_all_rights_come_back(
        size in 1..5_usize,
        operations in proptest::collection::vec(operation(), 1..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut world = World::new(size);
            for operation in operations {
                let before = world.servers.load(Ordering::Relaxed);
                world.run(operation).await;
                world.check(before);
            }
            world.finish().await;
        });
    }
}
