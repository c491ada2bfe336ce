//! One endpoint's part in the change from one pgwake to another.

use std::sync::Arc;

use tokio::time::Instant;

use super::{
    super::{idle::Weight, lease::Waiting, state::Event},
    Driver,
    budget::{Client, Entry},
};

impl Driver {
    /// Begins nothing from now on.
    pub(in crate::wake) fn freeze(self: &Arc<Self>) {
        self.apply(Event::Frozen);
    }

    /// Goes on.
    pub(in crate::wake) fn thaw(self: &Arc<Self>) {
        self.apply(Event::Thawed);
    }

    /// It is another pgwake's. Whether it takes logins is returned.
    pub(in crate::wake) fn cede(self: &Arc<Self>) -> bool {
        let mut inner = self.lock();
        inner.step(Event::Ceded);
        let is_lent = inner.machine.awake().is_some();
        self.finish(inner);
        is_lent
    }

    /// Whether nothing of it is under way.
    pub(in crate::wake) fn is_still(&self) -> bool {
        self.lock().machine.is_still()
    }

    /// Returns once nothing of it is under way. Cancel safe.
    pub(in crate::wake) async fn still(&self) {
        self.until(super::Machine::is_still).await;
    }

    /// Grants no lease any more, unless somebody has one. Whether that was so is returned: decided under the lock, so that
    /// nobody comes in between.
    pub(in crate::wake) fn let_go_if_unused(self: &Arc<Self>) -> bool {
        let mut inner = self.lock();
        let is_unused = !inner.machine.has_leases();
        if is_unused {
            inner.step(Event::LetGo);
        }
        self.finish(inner);
        is_unused
    }

    /// Grants no lease any more, and tells those who have one that it is lost.
    pub(in crate::wake) fn let_go(self: &Arc<Self>) {
        self.apply(Event::LetGo);
    }

    /// Looks whether it runs, and asks for a lease before anybody could suspend it.
    pub(in crate::wake) fn take_over(self: &Arc<Self>, deadline: Instant) -> Waiting {
        let mut inner = self.lock();
        inner.step(Event::InspectOrdered);
        let client = Client {
            permit: None,
            weight: Weight::Counts,
            entry: Entry::IsIn,
        };
        self.ask_under(inner, deadline, client)
    }
}
