//! The table of branches. A pgwake that knows nothing of it leaves it alone.
//!
//! Every write is one transaction. Called by [`super::Store`].

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::{
    BranchRecord, BranchState,
    tables::{Failure, ORDERS, READINGS, ROLES, SERVERS, forget as forget_roles},
};
use crate::ids::EndpointName;

/// Data directory, state, when it was made and last used (milliseconds since 1970), ttl in milliseconds, bytes.
type Row = (&'static [u8], u8, u64, u64, Option<u64>, u64);
pub(super) const BRANCHES: TableDefinition<'_, &str, Row> = TableDefinition::new("branches");

const STATES: [(u8, BranchState); 3] = [
    (0, BranchState::Making),
    (1, BranchState::Ready),
    (2, BranchState::Leaving),
];

pub(super) fn all(database: &Database) -> Result<Vec<BranchRecord>, Failure> {
    let view = database.begin_read()?;
    let mut branches = Vec::new();
    for row in view.open_table(BRANCHES)?.iter()? {
        let (name, row) = row?;
        let (data_dir, state, made, used, ttl, bytes) = row.value();
        let state = STATES.iter().find(|(number, _)| *number == state);
        // What a later pgwake has written otherwise is left alone.
        if let (Ok(name), Some((_, state))) = (EndpointName::parse_any(name.value()), state) {
            branches.push(BranchRecord {
                name,
                data_dir: OsString::from_vec(data_dir.to_vec()).into(),
                state: *state,
                made: UNIX_EPOCH + Duration::from_millis(made),
                used: UNIX_EPOCH + Duration::from_millis(used),
                ttl: ttl.map(Duration::from_millis),
                bytes,
            });
        }
    }
    Ok(branches)
}

pub(super) fn put(database: &Database, branch: &BranchRecord) -> Result<(), Failure> {
    let state = STATES.iter().find(|(_, state)| *state == branch.state);
    let (state, _) = state.expect("every state has its number");
    let change = database.begin_write()?;
    change.open_table(BRANCHES)?.insert(
        branch.name.as_str(),
        (
            branch.data_dir.as_os_str().as_bytes(),
            *state,
            since_1970(branch.made),
            since_1970(branch.used),
            branch.ttl.map(millis),
            branch.bytes,
        ),
    )?;
    change.commit()?;
    Ok(())
}

/// Those that are not there any more are left out.
pub(super) fn note_uses(database: &Database, uses: &[(EndpointName, SystemTime)]) -> Result<(), Failure> {
    let change = database.begin_write()?;
    {
        let mut table = change.open_table(BRANCHES)?;
        for (name, used) in uses {
            let row = table.get(name.as_str())?.map(|row| {
                let (data_dir, state, made, _, ttl, bytes) = row.value();
                (data_dir.to_vec(), state, made, ttl, bytes)
            });
            if let Some((data_dir, state, made, ttl, bytes)) = row {
                let row = (data_dir.as_slice(), state, made, since_1970(*used), ttl, bytes);
                table.insert(name.as_str(), row)?;
            }
        }
    }
    change.commit()?;
    Ok(())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn since_1970(time: SystemTime) -> u64 {
    millis(time.duration_since(UNIX_EPOCH).unwrap_or_default())
}

pub(super) fn forget(database: &Database, name: &str) -> Result<(), Failure> {
    let change = database.begin_write()?;
    change.open_table(BRANCHES)?.remove(name)?;
    change.open_table(READINGS)?.remove(name)?;
    change.open_table(SERVERS)?.remove(name)?;
    forget_roles(&mut change.open_table(ROLES)?, name)?;
    change.open_table(ORDERS)?.remove(name)?;
    change.commit()?;
    Ok(())
}
