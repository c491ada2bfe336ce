//! Keys as they are drawn, compared and found. What they lead to is `slot`'s.

use std::hash::{Hash, Hasher};

use bytes::Bytes;
use subtle::ConstantTimeEq;

use crate::wire::startup::CancelKey;

/// How long the secret of a key is; the protocol version decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretLength {
    /// 4 bytes: protocol 3.0.
    Four,
    /// 32 bytes: from protocol 3.2 on.
    ThirtyTwo,
}

/// Compared in constant time, so that the time of a wrong guess tells nothing. The map's hash is keyed at
/// random, so that which bucket a guess falls into tells nothing either.
#[derive(Clone, Debug)]
pub(super) struct Key(pub(super) CancelKey);

impl Key {
    /// With this process id, which is a server's own.
    pub(super) fn of_process(pid: i32, length: SecretLength) -> Self {
        let mut secret = [0; 32];
        fill(&mut secret);
        let secret = match length {
            SecretLength::Four => Bytes::copy_from_slice(&secret[..4]),
            SecretLength::ThirtyTwo => Bytes::copy_from_slice(&secret),
        };
        Self(CancelKey { pid, secret })
    }

    /// With a process id that belongs to no process. Drivers take only positive ones for real.
    pub(super) fn virtual_one(length: SecretLength) -> Self {
        let mut pid = [0; 4];
        fill(&mut pid);
        let pid = i32::from_ne_bytes(pid) & i32::MAX;
        Self::of_process(pid.max(1), length)
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.pid == other.0.pid && bool::from(self.0.secret.ct_eq(&other.0.secret))
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.pid.hash(state);
        self.0.secret.hash(state);
    }
}

fn fill(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the system's random source does not fail once it is seeded");
}
