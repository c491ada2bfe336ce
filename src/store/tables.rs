//! The tables of `state.redb`, version 1, and what is read from and written to them.
//!
//! Every write is one transaction: a crash leaves what was there before. Called by [`super::Store`].

use std::{collections::BTreeMap, path::Path};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
    backends::FileBackend,
};
use zeroize::Zeroizing;

use super::{
    MockSecret, ReadRole, Remembered, StandingOrders, StoreError, VERSION, awake::AWAKE, branches::BRANCHES,
    data_dirs::DATA_DIRS, folder,
};
use crate::ids::{Secret, SystemIdentifier};

/// The version of everything else: one row.
const VERSIONS: TableDefinition<'_, (), u32> = TableDefinition::new("version");
/// The mock secret: one row.
const SECRETS: TableDefinition<'_, (), [u8; 32]> = TableDefinition::new("mock_secret");
/// Endpoints that were ever read, also those without any role.
pub(super) const READINGS: TableDefinition<'_, &str, ()> = TableDefinition::new("readings");
/// Endpoint and role.
pub(super) type Key = (&'static str, &'static str);
/// Verifier, can_login and valid_until.
pub(super) type Row = (Option<&'static str>, bool, Option<i64>);
pub(super) const ROLES: TableDefinition<'_, Key, Row> = TableDefinition::new("roles");
/// The system identifiers of servers that have told them. A pgwake that knows nothing of it leaves it alone.
pub(super) const SERVERS: TableDefinition<'_, &str, i64> = TableDefinition::new("servers");
/// Endpoints that an operator has disabled, paused, or both. A pgwake that knows nothing of it leaves it alone.
pub(super) const ORDERS: TableDefinition<'_, &str, (bool, bool)> = TableDefinition::new("orders");

/// Memory for cached pages; the whole state of a few thousand endpoints is smaller.
const CACHE_BYTES: usize = 1 << 20;

/// What went wrong inside the database, before it is known which file that was.
pub(super) enum Failure {
    Newer(u32),
    Redb(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Redb(Box::new(error.into()))
    }
}

impl Failure {
    pub(super) fn at(self, path: &Path) -> StoreError {
        let path = path.to_owned();
        match self {
            Self::Newer(found) => StoreError::Newer { path, found },
            Self::Redb(error) => match *error {
                redb::Error::Io(source) if source.kind() != std::io::ErrorKind::InvalidData => {
                    StoreError::Io { path, source }
                }
                error @ redb::Error::PreviousIo => StoreError::Io {
                    path,
                    source: std::io::Error::other(error),
                },
                error => StoreError::Damaged {
                    path,
                    reason: error.to_string(),
                },
            },
        }
    }
}

/// Opens the file, or makes it.
pub(super) fn open(path: &Path) -> Result<Database, StoreError> {
    let file = folder::private_file(path)?;
    let made = FileBackend::new(file).and_then(|backend| {
        Database::builder()
            .set_cache_size(CACHE_BYTES)
            .create_with_backend(backend)
    });
    made.map_err(|error| match error {
        DatabaseError::Storage(StorageError::Io(source)) => Failure::from(redb::Error::Io(source)).at(path),
        error => Failure::from(error).at(path),
    })
}

/// Checks the version, fills a new file, and returns the mock secret.
pub(super) fn prepare(database: &Database) -> Result<MockSecret, Failure> {
    let change = database.begin_write()?;
    let secret;
    {
        let mut versions = change.open_table(VERSIONS)?;
        let found = versions.get(())?.map(|row| row.value());
        match found {
            Some(found) if found > VERSION => return Err(Failure::Newer(found)),
            Some(_) => (),
            None => drop(versions.insert((), VERSION)?),
        }
        let mut secrets = change.open_table(SECRETS)?;
        let found = secrets.get(())?.map(|row| MockSecret(row.value()));
        secret = match found {
            Some(found) => found,
            None => {
                let mut bytes = Zeroizing::new([0; 32]);
                aws_lc_rs::rand::fill(&mut *bytes).expect("the system's random numbers are there");
                secrets.insert((), *bytes)?;
                MockSecret(*bytes)
            }
        };
        change.open_table(READINGS)?;
        change.open_table(ROLES)?;
        change.open_table(SERVERS)?;
        change.open_table(ORDERS)?;
        change.open_table(BRANCHES)?;
        change.open_table(DATA_DIRS)?;
        change.open_table(AWAKE)?;
    }
    change.commit()?;
    Ok(secret)
}

pub(super) fn remembered_roles(database: &Database, endpoint: &str) -> Result<Option<Remembered>, Failure> {
    let view = database.begin_read()?;
    if view.open_table(READINGS)?.get(endpoint)?.is_none() {
        return Ok(None);
    }
    let mut roles = Vec::new();
    for row in view.open_table(ROLES)?.range((endpoint, "")..)? {
        let (key, value) = row?;
        let (of, name) = key.value();
        if of != endpoint {
            break;
        }
        let (verifier, can_login, valid_until) = value.value();
        roles.push(ReadRole {
            name: name.to_owned(),
            verifier: verifier.map(Secret::new),
            can_login,
            valid_until,
        });
    }
    let server = view.open_table(SERVERS)?.get(endpoint)?;
    let server = server.map(|row| SystemIdentifier(row.value()));
    Ok(Some(Remembered { roles, server }))
}

pub(super) fn remember_roles(
    database: &Database,
    endpoint: &str,
    (roles, server): (&[ReadRole], Option<SystemIdentifier>),
) -> Result<(), Failure> {
    let change = database.begin_write()?;
    {
        change.open_table(READINGS)?.insert(endpoint, ())?;
        let mut servers = change.open_table(SERVERS)?;
        match server {
            Some(SystemIdentifier(number)) => drop(servers.insert(endpoint, number)?),
            None => drop(servers.remove(endpoint)?),
        }
        let mut table = change.open_table(ROLES)?;
        forget(&mut table, endpoint)?;
        for role in roles {
            let verifier = role.verifier.as_ref().map(Secret::reveal);
            table.insert(
                (endpoint, role.name.as_str()),
                (verifier, role.can_login, role.valid_until),
            )?;
        }
    }
    change.commit()?;
    Ok(())
}

pub(super) fn forget_server(database: &Database, endpoint: &str) -> Result<(), Failure> {
    let change = database.begin_write()?;
    change.open_table(SERVERS)?.remove(endpoint)?;
    change.commit()?;
    Ok(())
}

pub(super) fn orders(database: &Database) -> Result<BTreeMap<String, StandingOrders>, Failure> {
    let view = database.begin_read()?;
    let mut orders = BTreeMap::new();
    for row in view.open_table(ORDERS)?.iter()? {
        let (endpoint, row) = row?;
        orders.insert(endpoint.value().to_owned(), row.value().into());
    }
    Ok(orders)
}

pub(super) fn change_orders(
    database: &Database,
    endpoint: &str,
    how: impl FnOnce(&mut StandingOrders),
) -> Result<(), Failure> {
    let change = database.begin_write()?;
    {
        let mut table = change.open_table(ORDERS)?;
        let found = table.get(endpoint)?.map(|row| row.value());
        let mut orders: StandingOrders = found.map(Into::into).unwrap_or_default();
        how(&mut orders);
        if orders == StandingOrders::default() {
            table.remove(endpoint)?;
        } else {
            table.insert(endpoint, (orders.is_disabled, orders.is_paused))?;
        }
    }
    change.commit()?;
    Ok(())
}

impl From<(bool, bool)> for StandingOrders {
    fn from((is_disabled, is_paused): (bool, bool)) -> Self {
        Self {
            is_disabled,
            is_paused,
        }
    }
}

pub(super) fn forget(table: &mut redb::Table<'_, Key, Row>, endpoint: &str) -> Result<(), TableError> {
    // "\0" cannot be in a name, so that this is the first text behind the endpoint's own.
    let behind = format!("{endpoint}\0");
    table.retain_in((endpoint, "")..(behind.as_str(), ""), |_, _| false)?;
    Ok(())
}
