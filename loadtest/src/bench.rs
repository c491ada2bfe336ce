//! `bench`: sets up Postgres, PgBouncer and pgwake by itself and measures them side by side.
//!
//! Everything listens on loopback at ports that the system chose, lives in a temporary folder and ends with the
//! run. As root, Postgres and PgBouncer run as another user.

mod certificates;
mod gateway;
mod pgbouncer;
mod postgres;
mod stage;
mod suite;
mod work;

use std::path::{Path, PathBuf};

pub(crate) use suite::{Size, run};

use certificates::Certificate;

/// What a run is to do.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) size: Size,
    pub(crate) pgwake: PathBuf,
    /// A PgBouncer that keeps prepared statements, where the system's does not.
    pub(crate) newer_pgbouncer: Option<PathBuf>,
    /// Scenarios; all where there is none.
    pub(crate) only: Vec<String>,
}

/// What a proxy stands in front of, and how.
#[derive(Debug, Clone, Copy)]
struct Proxied<'a> {
    program: &'a Path,
    /// The port of the server that is always there.
    server: u16,
    verifier: &'a str,
    /// Certificate and key, as the proxy's own user has them.
    certificate: &'a Certificate,
    pool: usize,
}
