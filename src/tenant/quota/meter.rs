//! Measures what one client does, in all its scopes.
//!
//! Where nothing is limited it costs the look at one number, which changes when limits do.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Chain, OverLimit, Paced};

/// One of a client's meters.
#[derive(Debug, Clone)]
pub struct Meter {
    chain: Arc<Chain>,
    paced: Paced,
    /// Of which change of limits `is_on` is true.
    seen: u64,
    is_on: bool,
}

impl Meter {
    pub(super) fn new(chain: Arc<Chain>, paced: Paced) -> Self {
        Self {
            chain,
            paced,
            seen: 0,
            is_on: false,
        }
    }

    /// Whether any scope limits it.
    pub fn is_on(&mut self) -> bool {
        let epoch = self.chain.epoch.load(Ordering::Acquire);
        if epoch != self.seen {
            self.seen = epoch;
            self.is_on = self
                .chain
                .accounts
                .iter()
                .any(|account| account.pace(self.paced).is_on());
        }
        self.is_on
    }

    /// Whether limits have changed since it was last asked whether any is on.
    pub fn is_outdated(&self) -> bool {
        self.chain.epoch.load(Ordering::Acquire) != self.seen
    }

    /// So many have happened.
    pub fn charge(&self, count: u64) {
        for account in &self.chain.accounts {
            account.pace(self.paced).charge(count, account.now());
        }
    }

    /// How long until more may happen; zero: now.
    pub fn delay(&self) -> Duration {
        let accounts = self.chain.accounts.iter();
        let delays = accounts.map(|account| account.pace(self.paced).delay(account.now()));
        delays.max().unwrap_or_default()
    }

    /// One was refused: how long until it may ask again; zero: at once.
    pub fn asks_again(&self) -> Duration {
        let accounts = self.chain.accounts.iter();
        let delays = accounts.map(|account| account.pace(self.paced).asks_again(account.now()));
        delays.max().unwrap_or_default()
    }

    /// One happens now.
    ///
    /// # Errors
    /// [`OverLimit`]: too many have; nothing is counted then.
    pub fn take(&self) -> Result<(), OverLimit> {
        let accounts = &self.chain.accounts;
        for (taken, account) in accounts.iter().enumerate() {
            if let Err(over) = account.take_paced(self.paced) {
                let taken = accounts[..taken].iter().map(|account| account.pace(self.paced));
                taken
                    .filter(|pace| pace.is_on())
                    .for_each(|pace| pace.give_back());
                return Err(over);
            }
        }
        Ok(())
    }
}
