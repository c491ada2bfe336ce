//! What a client's session begins with, in transaction pooling. Clients that came with the same startup parameters and the
//! same credential share it: there are thousands of them, and few ways to come.
//!
//! Plain data, made when a client has proved who it is, and again where its role has got another credential. `pooled` calls.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError, Weak},
};

use bytes::Bytes;

use super::profile::Profile;
use super::words::{CustomNames, names_of_startup};
use crate::pool::PoolKey;

/// Most of them that clients of an endpoint share; whoever comes otherwise has one of its own.
const SHARED_MAX: usize = 256;

/// A name and a value for each of the client's startup parameters.
type Parameters = Vec<(Bytes, Bytes)>;

/// What a client's session begins with.
pub(super) struct Beginning {
    /// What its server sessions get as startup parameters.
    pub(super) parameters: Parameters,
    /// The pool that its server sessions are of.
    pub(super) key: PoolKey,
    /// The application_name that it came with.
    pub(super) application: Bytes,
    /// Custom settings that its server sessions are started with.
    pub(super) names: CustomNames,
    /// What it carries as long as it has changed nothing.
    pub(super) profile: Arc<Profile>,
}

/// Those of an endpoint's clients.
#[derive(Default)]
pub(super) struct Beginnings {
    /// By what [`Beginnings::shared`] is asked for.
    known: Mutex<HashMap<u64, Weak<Beginning>>>,
    hasher: RandomState,
}

impl Beginnings {
    /// Of a client with this role and these startup parameters; `credential` is the fingerprint of what it has proved.
    pub(super) fn shared(
        &self,
        role: &str,
        parameters: &[(Bytes, Bytes)],
        credential: u64,
    ) -> Arc<Beginning> {
        let hash = self.hasher.hash_one((role, parameters, credential));
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = known.get(&hash).and_then(Weak::upgrade);
        if let Some(shared) = shared.filter(|shared| shared.is_of(role, parameters, credential)) {
            return shared;
        }
        let new = Arc::new(Beginning::new(role, parameters.to_vec(), credential));
        if known.len() >= SHARED_MAX {
            known.retain(|_, shared| shared.strong_count() > 0);
        }
        if known.len() < SHARED_MAX {
            known.insert(hash, Arc::downgrade(&new));
        }
        new
    }
}

impl Beginning {
    fn new(role: &str, parameters: Parameters, credential: u64) -> Self {
        let parameter = |wanted: &[u8]| {
            let found = parameters.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.clone())
        };
        let database = parameter(b"database").filter(|database| !database.is_empty());
        let database = database.unwrap_or_else(|| Bytes::copy_from_slice(role.as_bytes()));
        let application = parameter(b"application_name").unwrap_or_default();
        let own: [&[u8]; 3] = [b"user", b"database", b"application_name"];
        let startup = parameters.iter().filter(|(name, _)| !own.contains(&&name[..]));
        let key = PoolKey::new(database, role.to_owned(), credential, startup.cloned().collect());
        let texts = parameters.iter().map(|(name, value)| (&name[..], &value[..]));
        Self {
            names: names_of_startup(texts),
            profile: Profile::of_startup(&application),
            key,
            application,
            parameters,
        }
    }

    fn is_of(&self, role: &str, parameters: &[(Bytes, Bytes)], credential: u64) -> bool {
        self.key.role() == role && self.key.credential() == credential && self.parameters == parameters
    }

    /// The role that it logged in as.
    pub(super) fn role(&self) -> &str {
        self.key.role()
    }

    /// The database that it is in.
    pub(super) fn database(&self) -> &Bytes {
        self.key.database()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(application: &str) -> Parameters {
        let pairs = [("user", "app"), ("application_name", application)];
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        pairs.map(|(name, value)| (bytes(name), bytes(value))).to_vec()
    }

    #[test]
    fn clients_that_came_alike_share_it_and_others_do_not() {
        let beginnings = Beginnings::default();
        let one = beginnings.shared("app", &came("shop"), 1);
        assert!(Arc::ptr_eq(&one, &beginnings.shared("app", &came("shop"), 1)));
        assert_eq!((one.role(), &one.database()[..]), ("app", &b"app"[..]));

        let others = [
            beginnings.shared("app", &came("other"), 1),
            beginnings.shared("app", &came("shop"), 2),
            beginnings.shared("other", &came("shop"), 1),
        ];
        assert!(others.iter().all(|other| !Arc::ptr_eq(&one, other)));
        assert_eq!(
            one.key, others[0].key,
            "an application's name does not part sessions"
        );
    }

    #[test]
    fn those_of_clients_that_have_left_make_room() {
        let beginnings = Beginnings::default();
        let known = || beginnings.known.lock().unwrap().len();
        let here: Vec<_> = (0..SHARED_MAX + 8)
            .map(|number| beginnings.shared("app", &came(&number.to_string()), 1))
            .collect();
        assert_eq!(known(), SHARED_MAX);

        drop(here);
        let one = beginnings.shared("app", &came("shop"), 1);
        assert_eq!(known(), 1);
        assert!(Arc::ptr_eq(&one, &beginnings.shared("app", &came("shop"), 1)));
    }
}
