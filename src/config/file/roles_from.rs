//! `roles_from` as written: a word, or a table that says whom to log in as.

use crate::config::{
    RoleReading,
    problem::{Report, Spot},
    read::{Read, Setting, table},
    tree::{Node, Value},
    value::read_word,
};
use crate::ids::Secret;

table! {
    /// `roles_from = { … }`
    RolesFromTable {
        /// A superuser.
        role: String,
        /// Its password.
        password: Secret,
        /// The database to log in to.
        database: String,
    }
}

/// `roles_from`: a word, or whom to log in as.
#[derive(Clone)]
pub(crate) enum RolesFromSource {
    /// `"config"`
    Config,
    /// `"postgres"`, or a table that says more.
    Postgres(RoleReading),
}

impl Read for RolesFromSource {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let postgres = || RoleReading {
            role: "postgres".to_owned(),
            password: None,
            database: "postgres".to_owned(),
        };
        let Value::Table(_) = &node.value else {
            let words = [("config", Self::Config), ("postgres", Self::Postgres(postgres()))];
            return read_word(node, spot, words, report);
        };
        let table = RolesFromTable::read(node, spot, report)?;
        let mut reading = postgres();
        for (setting, text) in [
            (&table.role, &mut reading.role),
            (&table.database, &mut reading.database),
        ] {
            match setting {
                Setting::Absent => (),
                Setting::Refused => return None,
                Setting::Given(at) => text.clone_from(&at.value),
            }
        }
        match table.password {
            Setting::Absent => (),
            Setting::Refused => return None,
            Setting::Given(at) => reading.password = Some(at.value),
        }
        Some(Self::Postgres(reading))
    }

    fn keys(path: &str, keys: &mut Vec<String>) {
        keys.push(path.to_owned());
        RolesFromTable::keys(path, keys);
    }
}
