//! The table of computes elsewhere that were woken and not suspended since, as far as that was noted: whoever comes after a
//! crash asks what they do. A pgwake that knows nothing of it leaves it alone.
//!
//! Every write is one transaction. Called by [`super::Store`].

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::tables::Failure;
use crate::ids::EndpointName;

pub(super) const AWAKE: TableDefinition<'_, &str, ()> = TableDefinition::new("awake");

/// Names that no pgwake of today would take are left out.
pub(super) fn all(database: &Database) -> Result<Vec<EndpointName>, Failure> {
    let mut names = Vec::new();
    for row in database.begin_read()?.open_table(AWAKE)?.iter()? {
        names.extend(EndpointName::parse(row?.0.value()).ok());
    }
    Ok(names)
}

/// Those with `true` are, from now on.
pub(super) fn note(database: &Database, news: &[(EndpointName, bool)]) -> Result<(), Failure> {
    let change = database.begin_write()?;
    {
        let mut table = change.open_table(AWAKE)?;
        for (name, is_awake) in news {
            match is_awake {
                true => drop(table.insert(name.as_str(), ())?),
                false => drop(table.remove(name.as_str())?),
            }
        }
    }
    change.commit()?;
    Ok(())
}
