//! Who may try to log in, decided before anybody has proved anything.
//!
//! Everything is counted per client *network* (the first 24 bits of an IPv4 address, 64 of an IPv6 one), so that a
//! stranger uses up what belongs to his own network and nothing of a tenant's. Names that exist and names that do not
//! are counted alike. It knows numbers and names only: `session` asks and tells what came of it.
//!
//! - *Unproved* connections are bounded, in all and per network, from accept until the login.
//! - *Attempts* are limited per network, and per network and endpoint name. An attempt that succeeds is given back.
//! - *Failures* of a role from one network lock it out from there, for longer each time; a network from which the role
//!   has logged in before is exempt. That is asked before a login and again behind its proof: many may be under way at once.
//!   Failures at a name of which nobody could tell whether it exists count no more once somebody can: applications that
//!   tried again and again while a control plane was down come in when it is back.
//!
//! What is remembered is bounded: where there is no room, what is stale goes first, then what is oldest.

mod table;

use std::{
    borrow::Cow,
    hash::{BuildHasher, Hash, RandomState},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use crate::config::GateRules;
use crate::error::{ClientError, Fault, SqlState};
use table::Table;

/// Decides for all listeners of a pgwake.
#[derive(Debug)]
pub struct Gate {
    rules: ArcSwap<GateRules>,
    unproved: AtomicUsize,
    table: Table,
    hasher: RandomState,
}

/// A connection that has not logged in yet; it counts while this lives.
#[derive(Debug)]
pub struct Unproved {
    gate: Arc<Gate>,
    network: Option<u64>,
}

/// A client that is about to say its password.
#[derive(Debug)]
pub struct Attempt<'a> {
    gate: &'a Gate,
    /// Its network, that with the endpoint's name, and both with the role.
    keys: Option<[u64; 3]>,
}

/// Why an attempt counts as a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The password was wrong, or there is nothing that it could be right for.
    Wrong,
    /// Nobody could tell whether there is such an endpoint.
    Undecided,
}

/// Why a client may not try now. Its text is one for all reasons and all names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// The network has tried too often.
    #[error("too many attempts from its network")]
    Network,
    /// The network has tried too often to come in here.
    #[error("too many attempts from its network at this endpoint")]
    Endpoint,
    /// The role has been locked out.
    #[error("locked out: the role's password was wrong too often from its network")]
    LockedOut,
}

/// What is counted together.
#[derive(Hash, PartialEq, Eq, Debug)]
enum Network {
    V4([u8; 3]),
    V6([u8; 8]),
}

impl Network {
    fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => Self::V6(*ip.octets().first_chunk().expect("16 bytes begin with 8")),
        }
    }
}

impl Gate {
    /// A gate at which nobody has been yet.
    pub fn new(rules: GateRules) -> Self {
        Self {
            rules: ArcSwap::from_pointee(rules),
            unproved: AtomicUsize::new(0),
            table: Table::default(),
            hasher: RandomState::new(),
        }
    }

    /// These hold from now on; what is counted stays counted.
    pub fn set_rules(&self, rules: GateRules) {
        self.rules.store(Arc::new(rules));
    }

    /// Takes in a connection; `None` where there are too many that have not logged in, in all or from its network.
    /// Clients without an address come over a Unix socket: only the whole counts.
    pub fn enter(self: &Arc<Self>, from: Option<IpAddr>) -> Option<Unproved> {
        let before = self.unproved.fetch_add(1, Ordering::Relaxed);
        let mut unproved = Unproved {
            gate: self.clone(),
            network: None,
        };
        if before >= self.rules.load().unproved_max {
            return None;
        }
        if let Some(ip) = from {
            let key = self.key(&Network::of(ip), "", b"");
            let max = self.rules.load().unproved_per_network_max;
            unproved.network = Some(self.table.with(key, Instant::now(), |entry| {
                let has_room = (entry.unproved as usize) < max;
                entry.unproved += u32::from(has_room);
                has_room.then_some(key)
            })?);
        }
        Some(unproved)
    }

    /// Asks whether a client from there may try to log in as `role` at the endpoint that it named so. Where it was locked out
    /// while nobody could tell whether that exists, [`Attempt::proved`] and [`Attempt::failed`] say it, unless
    /// [`Attempt::decided`] was told before.
    ///
    /// # Errors
    /// [`TurnedAway`]; nothing is counted then.
    pub fn attempt(
        &self,
        from: Option<IpAddr>,
        endpoint: &str,
        role: &[u8],
    ) -> Result<Attempt<'_>, TurnedAway> {
        let Some(ip) = from else {
            return Ok(Attempt {
                gate: self,
                keys: None,
            });
        };
        let now = Instant::now();
        let network = Network::of(ip);
        let keys = [
            self.key(&network, "", b""),
            self.key(&network, endpoint, b""),
            self.key(&network, endpoint, role),
        ];
        let rules = self.rules.load();
        self.table
            .with(keys[2], now, |entry| entry.check_first(&rules, now))?;
        if !self
            .table
            .with(keys[0], now, |entry| entry.attempts.take(&rules.attempts, now))
        {
            return Err(TurnedAway::Network);
        }
        let taken = |entry: &mut table::Entry| entry.attempts.take(&rules.attempts_per_endpoint, now);
        if !self.table.with(keys[1], now, taken) {
            self.table
                .with(keys[0], now, |entry| entry.attempts.give_back(&rules.attempts));
            return Err(TurnedAway::Endpoint);
        }
        Ok(Attempt {
            gate: self,
            keys: Some(keys),
        })
    }

    /// Asks whether a cancel request may be looked at; one that hits is given back by [`Gate::cancel_hit`].
    pub fn may_cancel(&self, from: Option<IpAddr>) -> bool {
        let now = Instant::now();
        from.is_none_or(|ip| {
            let key = self.key(&Network::of(ip), "", b"");
            self.table.with(key, now, |entry| {
                entry.attempts.take(&self.rules.load().attempts, now)
            })
        })
    }

    /// A cancel request from there had a key that exists.
    pub fn cancel_hit(&self, from: Option<IpAddr>) {
        if let Some(ip) = from {
            let key = self.key(&Network::of(ip), "", b"");
            self.table.with(key, Instant::now(), |entry| {
                entry.attempts.give_back(&self.rules.load().attempts);
            });
        }
    }

    /// The names are hashed with a secret: nobody can choose some that meet.
    fn key(&self, network: &Network, endpoint: &str, role: &[u8]) -> u64 {
        self.hasher.hash_one((network, endpoint, role))
    }
}

impl Attempt<'_> {
    /// It is known now whether the endpoint exists, whichever it is: nothing more is told by this.
    pub fn decided(&self) {
        if let Some([_, _, role]) = self.keys {
            self.gate.table.with(role, Instant::now(), table::Entry::decide);
        }
    }

    /// The client has proved who it is.
    ///
    /// # Errors
    /// [`TurnedAway::LockedOut`]: the role was locked out meanwhile, by others who guessed beside it. It must not come in, nor learn
    /// that it was right.
    pub fn proved(self) -> Result<(), TurnedAway> {
        let Some([network, endpoint, role]) = self.keys else {
            return Ok(());
        };
        let (table, rules, now) = (&self.gate.table, self.gate.rules.load(), Instant::now());
        table.with(role, now, |entry| entry.trust(&rules, now))?;
        table.with(network, now, |entry| entry.attempts.give_back(&rules.attempts));
        table.with(endpoint, now, |entry| {
            entry.attempts.give_back(&rules.attempts_per_endpoint);
        });
        Ok(())
    }

    /// The client has not proved who it is. `true`: that locked the role out.
    ///
    /// # Errors
    /// As [`Attempt::proved`]: it must not learn that it was wrong. It is not counted.
    pub fn failed(self, failure: Failure) -> Result<bool, TurnedAway> {
        let Some([_, _, role]) = self.keys else {
            return Ok(false);
        };
        let (table, rules, now) = (&self.gate.table, self.gate.rules.load(), Instant::now());
        table.with(role, now, |entry| entry.fail(failure, &rules, now))
    }
}

impl Drop for Unproved {
    fn drop(&mut self) {
        self.gate.unproved.fetch_sub(1, Ordering::Relaxed);
        if let Some(key) = self.network {
            self.gate.table.with(key, Instant::now(), |entry| {
                entry.unproved = entry.unproved.saturating_sub(1);
            });
        }
    }
}

impl ClientError for TurnedAway {
    fn sqlstate(&self) -> SqlState {
        SqlState::LIMIT_EXCEEDED
    }

    fn message(&self) -> Cow<'static, str> {
        "too many attempts to log in".into()
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some("wait before the next one".into())
    }

    fn fault(&self) -> Fault {
        Fault::Client
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        crate::error::examples! {
            Self::Network => [Self::Network],
            Self::Endpoint => [Self::Endpoint],
            Self::LockedOut => [Self::LockedOut],
        }
    }
}

#[cfg(test)]
mod tests;
