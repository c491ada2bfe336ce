//! What makes two server sessions interchangeable: same database, role, credential and startup settings.

use std::{
    fmt,
    hash::{BuildHasher, Hash, Hasher, RandomState},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;

/// Keyed at random: clients choose startup settings, and so could choose ones that fall together.
static HASHES: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// The key of the server sessions that may stand in for one another. Cheap to clone, to hash and to compare with
/// its own clone.
#[derive(Clone)]
pub struct PoolKey(Arc<Parts>);

/// Startup parameters but `user`, `database` and `application_name`, sorted.
pub(super) type Startup = Arc<[(Bytes, Bytes)]>;

struct Parts {
    hash: u64,
    database: Bytes,
    role: String,
    credential: u64,
    startup: Startup,
}

impl PoolKey {
    /// `credential` is a fingerprint that changes with the credential; `startup` are the startup parameters that
    /// are the same for all clients of a session, in any order.
    pub fn new(database: Bytes, role: String, credential: u64, mut startup: Vec<(Bytes, Bytes)>) -> Self {
        startup.sort();
        Self(Arc::new(Parts {
            hash: HASHES.hash_one((&database, &role, credential, &startup)),
            database,
            role,
            credential,
            startup: startup.into(),
        }))
    }

    /// The database that its sessions sit in.
    pub fn database(&self) -> &Bytes {
        &self.0.database
    }

    /// The role that its sessions logged in as.
    pub fn role(&self) -> &str {
        &self.0.role
    }

    /// The fingerprint of the credential that its sessions logged in with.
    pub fn credential(&self) -> u64 {
        self.0.credential
    }

    /// The startup parameters of its sessions, sorted.
    pub fn startup(&self) -> &[(Bytes, Bytes)] {
        &self.0.startup
    }

    pub(super) fn shared_startup(&self) -> &Startup {
        &self.0.startup
    }
}

impl PartialEq for PoolKey {
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (&self.0, &other.0);
        Arc::ptr_eq(ours, theirs)
            || ours.hash == theirs.hash
                && ours.credential == theirs.credential
                && ours.database == theirs.database
                && ours.role == theirs.role
                && ours.startup == theirs.startup
    }
}

impl Eq for PoolKey {}

impl Hash for PoolKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

/// For maps by [`PoolKey`]: takes its hash as it is, which is keyed at random already.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a pool's key is hashed as one number");
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl fmt::Debug for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolKey")
            .field("database", &self.0.database)
            .field("role", &self.0.role)
            .field("startup", &self.0.startup)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(credential: u64, startup: &[(&'static str, &'static str)]) -> PoolKey {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let startup = startup
            .iter()
            .map(|(name, value)| (bytes(name), bytes(value)))
            .collect();
        PoolKey::new(bytes("shop"), "app".to_owned(), credential, startup)
    }

    #[test]
    fn the_order_of_startup_settings_does_not_matter_and_all_else_does() {
        let settings = [("geqo", "on"), ("datestyle", "iso")];
        let other_order = [("datestyle", "iso"), ("geqo", "on")];
        assert_eq!(key(1, &settings), key(1, &other_order));
        assert_ne!(key(1, &settings), key(2, &settings));
        assert_ne!(key(1, &settings), key(1, &settings[..1]));
        let hash = |key: &PoolKey| HASHES.hash_one(key);
        assert_eq!(hash(&key(1, &settings)), hash(&key(1, &other_order)));
    }
}
