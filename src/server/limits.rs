//! Limits of the system that pgwake raises for itself.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one: each client needs one, each server session another.
/// Returns the limit that holds now; `None`: there is none.
pub fn raise_file_limit() -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    if before.current != before.maximum
        && let Err(error) = setrlimit(Resource::Nofile, wanted)
    {
        tracing::warn!(%error, soft = ?before.current, hard = ?before.maximum, "cannot raise the file limit");
        return before.current;
    }
    before.maximum
}
