//! What the clients of each role have proved, in transaction pooling: server sessions are logged in with the newest of it.
//!
//! It is remembered for as long as a client of its role is here, whoever has proved it and has left: those who came before a
//! password was changed stay. Plain shared state; `pooling` has one for each endpoint.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::auth::Credential;

/// A credential that a client has proved.
pub(super) struct Proved {
    pub(super) credential: Credential,
    /// Equal where a server takes both or neither.
    pub(super) fingerprint: u64,
}

/// What the clients of one role have proved. Each of them has a share of it.
pub(super) struct Proofs {
    newest: Mutex<Arc<Proved>>,
    /// How often the role has got another credential.
    epoch: AtomicU64,
}

/// Those of all roles of an endpoint.
#[derive(Default)]
pub(super) struct AllProofs(Mutex<HashMap<String, Weak<Proofs>>>);

/// One client's part in it.
pub(super) struct Proof {
    /// What its server sessions are logged in with.
    pub(super) proved: Arc<Proved>,
    /// Of its role.
    proofs: Arc<Proofs>,
    /// When it last looked for a newer one.
    epoch: u64,
}

impl AllProofs {
    /// A client of this role has proved this: it is the newest one of the role. Whether it is another one than before is told
    /// as well.
    pub(super) fn prove(&self, role: &str, proved: Proved) -> (Proof, Change) {
        let mut all = lock(&self.0);
        if let Some(proofs) = all.get(role).and_then(Weak::upgrade) {
            return proofs.prove(proved);
        }
        let proofs = Arc::new(Proofs {
            newest: Mutex::new(Arc::new(proved)),
            epoch: AtomicU64::new(0),
        });
        all.retain(|_, proofs| proofs.strong_count() > 0);
        all.insert(role.to_owned(), Arc::downgrade(&proofs));
        let proved = lock(&proofs.newest).clone();
        let proof = Proof {
            proved,
            proofs,
            epoch: 0,
        };
        (proof, Change::Another)
    }
}

/// Whether a role has another credential than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is known already.
    Same,
    /// It is new, or nobody of its role was here.
    Another,
}

impl Proofs {
    fn prove(self: Arc<Self>, proved: Proved) -> (Proof, Change) {
        let mut newest = lock(&self.newest);
        let change = match newest.fingerprint == proved.fingerprint {
            true => Change::Same,
            false => {
                *newest = Arc::new(proved);
                self.epoch.fetch_add(1, Ordering::Release);
                Change::Another
            }
        };
        let (proved, epoch) = (newest.clone(), self.epoch.load(Ordering::Acquire));
        drop(newest);
        let proof = Proof {
            proved,
            proofs: self,
            epoch,
        };
        (proof, change)
    }
}

impl Proof {
    /// Takes the newest of its role, where that is another one. Whether it is, is the answer. It costs no lock as long as nobody has
    /// proved anything else.
    pub(super) fn follow(&mut self) -> bool {
        let epoch = self.proofs.epoch.load(Ordering::Acquire);
        if std::mem::replace(&mut self.epoch, epoch) == epoch {
            return false;
        }
        let newest = lock(&self.proofs.newest).clone();
        let is_another = newest.fingerprint != self.proved.fingerprint;
        self.proved = newest;
        is_another
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
