//! Rights to limited things: to use a server session, to have one more, to connect.
//!
//! First come, first served (a fair semaphore), and the limits can change while rights are out: who lowers one
//! takes back what is free at once, and the rest as it comes back. A right that comes back on a thread where somebody
//! waits goes to the first who waits *there*, a few times in a row: neither thread has to wake the other, and the server
//! session that goes with it stays where it is polled. Then it goes to whoever has waited longest on any thread. Which
//! session a right is used for is not known here. Who calls: `endpoint_pool`.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// How often in a row a right may stay on its thread while somebody waits: who has waited longest waits for so many
/// turns more at most.
const STAYS_MAX: u8 = 4;

thread_local! {
    /// Those who wait on this thread, by limit and in the order in which they came.
    static HERE: RefCell<HashMap<u64, BTreeMap<u64, oneshot::Sender<Right>>>> = RefCell::default();
}

/// How many rights of one kind there are.
#[derive(Debug)]
pub(super) struct Limit {
    semaphore: Arc<Semaphore>,
    /// Rights that are out and end when they come back. At all times: free + out - debt = the limit.
    debt: AtomicUsize,
    /// Tells it from all other limits.
    number: u64,
    arrivals: AtomicU64,
}

impl Limit {
    pub(super) fn new(count: usize) -> Arc<Self> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            semaphore: Arc::new(Semaphore::new(count)),
            debt: AtomicUsize::new(0),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            arrivals: AtomicU64::new(0),
        })
    }

    /// Waits for its turn. Cancel safe: a right that was given to somebody who left goes to the next.
    pub(super) async fn acquire(self: &Arc<Self>) -> Right {
        if let Some(right) = self.try_acquire() {
            return right;
        }
        let (give, given) = oneshot::channel();
        let _place = Place::here(self, give);
        tokio::select! { biased;
            Ok(right) = given => right,
            permit = self.semaphore.clone().acquire_owned() => {
                self.right(permit.expect("the semaphore is never closed"))
            }
        }
    }

    /// `None` where all are out, or somebody waits.
    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<Right> {
        let permit = self.semaphore.clone().try_acquire_owned().ok()?;
        Some(self.right(permit))
    }

    pub(super) fn grow(&self, count: usize) {
        let mut forgiven = 0;
        let forgive = |debt: usize| {
            forgiven = debt.min(count);
            Some(debt - forgiven)
        };
        // The closure never refuses.
        let _ = self
            .debt
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, forgive);
        self.semaphore.add_permits(count - forgiven);
    }

    pub(super) fn shrink(&self, count: usize) {
        let taken = self.semaphore.forget_permits(count);
        self.debt.fetch_add(count - taken, Ordering::AcqRel);
    }

    fn right(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Right {
        Right {
            permit: Some(permit),
            limit: self.clone(),
            stays: 0,
        }
    }

    fn pay(&self) -> bool {
        let pay = |debt: usize| debt.checked_sub(1);
        self.debt
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, pay)
            .is_ok()
    }

    /// The first who waits on this thread.
    fn first_here(&self) -> Option<oneshot::Sender<Right>> {
        let first = |here: &RefCell<HashMap<u64, BTreeMap<u64, _>>>| {
            let mut here = here.borrow_mut();
            Some(here.get_mut(&self.number)?.pop_first()?.1)
        };
        // Where the thread is about to end, nobody waits on it.
        HERE.try_with(first).ok().flatten()
    }
}

/// Where somebody waits on a thread. Dropping it leaves the line.
struct Place<'a> {
    limit: &'a Limit,
    number: u64,
}

impl<'a> Place<'a> {
    fn here(limit: &'a Limit, give: oneshot::Sender<Right>) -> Self {
        let number = limit.arrivals.fetch_add(1, Ordering::Relaxed);
        HERE.with_borrow_mut(|here| here.entry(limit.number).or_default().insert(number, give));
        Self { limit, number }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // On another thread, which is the end of a runtime, the place ends with its own.
        let _ = HERE.try_with(|here| {
            let mut here = here.borrow_mut();
            if let Some(line) = here.get_mut(&self.limit.number) {
                line.remove(&self.number);
                if line.is_empty() {
                    here.remove(&self.limit.number);
                }
            }
        });
    }
}

/// One of a limited number. Dropping it gives it to the next who waits.
#[derive(Debug)]
pub(super) struct Right {
    permit: Option<OwnedSemaphorePermit>,
    limit: Arc<Limit>,
    /// How often in a row it has stayed on its thread.
    stays: u8,
}

impl Drop for Right {
    fn drop(&mut self) {
        let Some(mut permit) = self.permit.take() else {
            return;
        };
        if self.limit.pay() {
            return permit.forget();
        }
        if self.stays == STAYS_MAX {
            return;
        }
        while let Some(first) = self.limit.first_here() {
            let right = Self {
                permit: Some(permit),
                limit: self.limit.clone(),
                stays: self.stays + 1,
            };
            // Who has just been given one, or has left, needs none.
            match first.send(right) {
                Ok(()) => return,
                Err(mut back) => match back.permit.take() {
                    Some(unspent) => permit = unspent,
                    None => return,
                },
            }
        }
    }
}

/// The right to use one server session of an endpoint. Dropping it lets the next client in.
#[derive(Debug)]
#[must_use = "dropping it gives the right back"]
pub struct Permit(#[expect(dead_code, reason = "it is held, and dropped")] pub(super) Right);

/// The right for one more server session to exist. [`adopt`](super::EndpointPool::adopt) takes it; the session
/// then holds it until its socket is closed.
#[derive(Debug)]
#[must_use = "dropping it gives the right back"]
pub struct Slot {
    #[expect(dead_code, reason = "it is held, and dropped")]
    pub(super) right: Right,
    /// How often all sessions had been retired when it was given: a login under it sees at least that state.
    pub(super) epoch: u64,
}

/// The right to connect to the server now.
#[derive(Debug)]
#[must_use = "dropping it gives the right back"]
pub struct ConnectPermit(#[expect(dead_code, reason = "it is held, and dropped")] pub(super) Right);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn a_lowered_limit_takes_back_what_is_free_and_the_rest_as_it_comes_back() {
        let limit = Limit::new(3);
        let (first, second) = (limit.try_acquire().unwrap(), limit.try_acquire().unwrap());
        limit.shrink(2);
        assert_eq!(limit.semaphore.available_permits(), 0);
        drop(first);
        assert!(limit.try_acquire().is_none());
        drop(second);
        assert_eq!(limit.semaphore.available_permits(), 1);
    }

    #[test]
    fn a_limit_that_grows_again_forgives_first() {
        let limit = Limit::new(2);
        let both = [limit.try_acquire().unwrap(), limit.try_acquire().unwrap()];
        limit.shrink(1);
        limit.grow(2);
        assert_eq!(limit.semaphore.available_permits(), 1);
        drop(both);
        assert_eq!(limit.semaphore.available_permits(), 3);
    }

    #[test]
    fn nobody_passes_those_who_wait() {
        let limit = Limit::new(1);
        let held = limit.try_acquire().unwrap();
        let mut waiting = Box::pin(limit.acquire());
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(held);
        assert!(limit.try_acquire().is_none());
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn a_right_given_to_somebody_who_left_goes_to_the_next() {
        let limit = Limit::new(1);
        let held = limit.try_acquire().unwrap();
        let mut first = Box::pin(limit.acquire());
        let mut second = Box::pin(limit.acquire());
        assert!(first.as_mut().now_or_never().is_none());
        assert!(second.as_mut().now_or_never().is_none());
        drop(held);
        drop(first);
        assert!(second.now_or_never().is_some());
    }

    fn wait_for<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(future)
    }

    /// Waits on a thread of its own.
    fn elsewhere(limit: &Arc<Limit>) -> std::thread::JoinHandle<()> {
        let limit = limit.clone();
        let (began, begins) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let mut right = std::pin::pin!(limit.acquire());
            assert!(right.as_mut().now_or_never().is_none());
            began.send(()).unwrap();
            wait_for(right);
        });
        begins.recv().unwrap();
        waiting
    }

    #[test]
    fn a_right_stays_on_its_thread_a_few_times_and_then_goes_to_who_has_waited_longest() {
        let limit = Limit::new(1);
        let mut held = limit.try_acquire().unwrap();
        let waits_longest = elsewhere(&limit);

        let mut line = Vec::new();
        for _ in 0..=STAYS_MAX {
            line.push(Box::pin(limit.acquire()));
            assert!(line.last_mut().unwrap().as_mut().now_or_never().is_none());
        }
        for (turn, mut waiting) in line.into_iter().enumerate() {
            drop(held);
            if turn == usize::from(STAYS_MAX) {
                waits_longest.join().unwrap();
                held = wait_for(waiting);
                assert_eq!(held.stays, 0, "it comes from the other thread");
                return;
            }
            held = waiting.as_mut().now_or_never().unwrap();
        }
    }

    #[test]
    fn who_leaves_leaves_nothing_behind() {
        let limit = Limit::new(1);
        let held = limit.try_acquire().unwrap();
        let mut first = Box::pin(limit.acquire());
        assert!(first.as_mut().now_or_never().is_none());
        drop(first);
        HERE.with_borrow(|here| assert!(!here.contains_key(&limit.number)));
        drop(held);
        assert!(limit.try_acquire().is_some());
    }

    #[test]
    fn a_lowered_limit_takes_back_what_would_have_stayed() {
        let limit = Limit::new(2);
        let both = [limit.try_acquire().unwrap(), limit.try_acquire().unwrap()];
        let mut waiting = Box::pin(limit.acquire());
        assert!(waiting.as_mut().now_or_never().is_none());
        limit.shrink(1);
        let [first, second] = both;
        drop(first);
        assert!(waiting.as_mut().now_or_never().is_none());
        drop(second);
        assert!(waiting.now_or_never().is_some());
        assert_eq!(limit.semaphore.available_permits(), 1);
    }
}
