//! Where each value of a checked configuration comes from, for `pgwake check`.
//!
//! Only what was said is here; whatever is not comes from the built-in defaults. The program itself never asks.

use std::{collections::BTreeMap, path::PathBuf};

use crate::ids::EndpointName;

use super::{
    problem::Place,
    read::{At, Setting},
};

/// Whose word a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// It stands where it belongs: with the endpoint, or with the process.
    Own,
    /// The endpoint's tenant.
    Tenant,
    /// `[defaults]`
    Defaults,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Whose word it is.
    pub level: Level,
    /// Where it stands.
    pub place: Place,
}

/// Origins by key, for example `hold_timeout`, `roles.app.verifier` or `compute.data_dir`.
pub type OriginsByKey = BTreeMap<String, Origin>;

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// The files in the order in which they were read.
    pub files: Vec<PathBuf>,
    /// Patterns of `include` that match no file.
    pub includes_unmatched: Vec<String>,
    /// What the whole process has, by full key, for example `limits.clients_max`.
    pub process: OriginsByKey,
    /// What each endpoint has; the empty key is the endpoint itself.
    pub endpoints: BTreeMap<EndpointName, OriginsByKey>,
}

/// Remembers that a value was said here.
pub(crate) fn record<T>(origins: &mut OriginsByKey, key: &str, level: Level, at: &At<T>) {
    let place = at.spot.place.clone();
    origins.insert(key.to_owned(), Origin { level, place });
}

/// Remembers where a key of the process or of an endpoint stands, if it does.
pub(crate) fn record_own<T>(origins: &mut OriginsByKey, key: &str, setting: &Setting<T>) {
    if let Some(at) = setting.given() {
        record(origins, key, Level::Own, at);
    }
}
