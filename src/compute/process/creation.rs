//! What a new data directory has in it: who may log in how, its roles and its database.
//!
//! Only texts are made here; `data_dir` runs the programs that take them. Nothing of it concerns a data
//! directory that exists.

use std::{fmt::Write as _, fs::File, io::Read, path::PathBuf};

use zeroize::Zeroizing;

use super::{ComputeError, account::Account};
use crate::ids::Verifier;

/// What a data directory is made with on first use.
#[derive(Debug, Clone)]
pub(crate) struct Creation {
    /// Roles that can log in, with what Postgres keeps of their passwords. Those without a password are let in for
    /// pgwake, who has had another proof of them.
    pub(crate) roles: Vec<(String, Option<Verifier>)>,
}

/// All that a new data directory is to have.
#[derive(Debug, Clone)]
pub(crate) struct Contents {
    pub(crate) creation: Creation,
    pub(crate) database: Option<String>,
    /// `None`: the first role, else the superuser.
    pub(crate) owner: Option<String>,
    /// A file of SQL, run at last by the superuser in that database.
    pub(crate) bootstrap: Option<PathBuf>,
}

/// Roles, extensions and settings, not data.
const BOOTSTRAP_BYTES_MAX: u64 = 1 << 20;

/// The superuser that initdb makes.
const SUPERUSER: &str = "postgres";

const HBA: &str = "\
# Who may log in how. Written by pgwake when it made this data directory; from now on it is yours to change.
# https://www.postgresql.org/docs/current/auth-pg-hba-conf.html
#
# pgwake opens no TCP port for this server, only a Unix socket in a folder that nobody but this server's user
# and root can enter. There the users of the operating system that pg_ident.conf lists become `postgres` without
# a password: so pgwake reads roles, and you get in with psql. Everybody else proves a password.
#
# TYPE  DATABASE     USER      METHOD
";

const IDENT: &str = "\
# Which users of the operating system are let in as which role, for `map=pgwake` in pg_hba.conf. Written by
# pgwake when it made this data directory; from now on it is yours to change.
#
# MAP     SYSTEM USER     ROLE
";

impl Contents {
    /// Name and text of the files that say who may log in.
    pub(crate) fn access_files(&self, account: &Account) -> [(&'static str, String); 2] {
        // `md5` asks a role for SCRAM where the role's verifier is one, so it fits both kinds.
        let md5 = self
            .creation
            .roles
            .iter()
            .any(|(_, verifier)| matches!(verifier, Some(Verifier::Md5(_))));
        let method = if md5 { "md5" } else { "scram-sha-256" };
        let mut hba = HBA.to_owned();
        let trusted = self.roles_without_password();
        let peer = |role: String| (role, "peer map=pgwake");
        let trusted = [SUPERUSER.to_owned()].into_iter().chain(trusted);
        for (role, method) in trusted.clone().map(peer).chain([("all".to_owned(), method)]) {
            for database in ["all", "replication"] {
                let _ = writeln!(hba, "local   {database:<12} {role:<9} {method}");
            }
        }
        let ourselves = Account::ourselves().name;
        let mut users = vec!["root", SUPERUSER];
        users.extend(account.name.as_deref());
        users.extend(ourselves.as_deref());
        users.sort_unstable();
        users.dedup();
        let mut ident = IDENT.to_owned();
        for user in users {
            for role in trusted.clone() {
                let _ = writeln!(ident, "pgwake    {:<15} {role}", quoted(user, '"'));
            }
        }
        [("pg_hba.conf", hba), ("pg_ident.conf", ident)]
    }

    /// The listed roles that pgwake is to be let in as by the system's word, as both files write names. A name that
    /// begins with `/` would be a pattern there, whatever is around it, and one of several lines cannot be written.
    fn roles_without_password(&self) -> Vec<String> {
        let can_stand_there = |role: &str| !role.starts_with('/') && is_of_one_line(role);
        let roles = self.creation.roles.iter();
        roles
            .filter(|(role, verifier)| verifier.is_none() && role != SUPERUSER && can_stand_there(role))
            .map(|(role, _)| quoted(role, '"'))
            .collect()
    }

    /// The bootstrap file, as one text for a server that takes a semicolon and an empty line for the end of a command
    /// (<https://www.postgresql.org/docs/current/app-postgres.html>, `-j`): so it runs as one transaction.
    ///
    /// # Errors
    /// It cannot be read, or is too large.
    pub(crate) fn bootstrap(&self) -> Result<Option<String>, ComputeError> {
        let Some(path) = &self.bootstrap else {
            return Ok(None);
        };
        let mut sql = String::new();
        let read =
            File::open(path).and_then(|file| file.take(BOOTSTRAP_BYTES_MAX + 1).read_to_string(&mut sql));
        if let Err(error) = read {
            let message = format!("the bootstrap file {} cannot be read: {error}", path.display());
            return Err(ComputeError::new(message));
        }
        if sql.len() as u64 > BOOTSTRAP_BYTES_MAX {
            let message = format!("the bootstrap file {} is larger than 1 MiB", path.display());
            return Err(ComputeError::new(message));
        }
        Ok(Some(sql.replace("\r\n", "\n").replace(";\n\n", ";\n \n")))
    }

    /// Where that is run.
    pub(crate) fn bootstrap_database(&self) -> &str {
        self.database.as_deref().unwrap_or("postgres")
    }

    /// The statements, one per line.
    ///
    /// # Errors
    /// A name is none, or the owner is no role.
    pub(crate) fn sql(&self) -> Result<Zeroizing<String>, ComputeError> {
        let roles = &self.creation.roles;
        let owner = self
            .owner
            .as_deref()
            .or(roles.first().map(|(role, _)| role.as_str()))
            .unwrap_or(SUPERUSER);
        if owner != SUPERUSER && roles.iter().all(|(role, _)| role != owner) {
            return Err(ComputeError::new(format!(
                "{owner:?} is to own the new database, but is none of the roles that it is made with"
            )));
        }
        let mut sql = Zeroizing::new(String::new());
        for (role, verifier) in roles {
            let action = if role == SUPERUSER { "ALTER" } else { "CREATE" };
            let text = Zeroizing::new(match verifier {
                Some(Verifier::Scram(verifier)) => verifier.to_text(),
                Some(Verifier::Md5(verifier)) => format!("md5{}", String::from_utf8_lossy(&verifier.hex)),
                None => {
                    let _ = writeln!(sql, "{action} ROLE {} LOGIN;", name(role)?);
                    continue;
                }
            });
            let password = Zeroizing::new(quoted(&text, '\''));
            let line = Zeroizing::new(format!(
                "{action} ROLE {} LOGIN PASSWORD {};\n",
                name(role)?,
                *password
            ));
            sql.push_str(&line);
        }
        if let Some(database) = &self.database {
            let line = match database.as_str() {
                // initdb makes these.
                "postgres" | "template1" => {
                    format!("ALTER DATABASE {database} OWNER TO {};\n", name(owner)?)
                }
                database => format!("CREATE DATABASE {} OWNER {};\n", name(database)?, name(owner)?),
            };
            sql.push_str(&line);
        }
        Ok(sql)
    }
}

/// An identifier (<https://www.postgresql.org/docs/current/sql-syntax-lexical.html>). What would end the line is written
/// by its number: names may have it.
fn name(text: &str) -> Result<String, ComputeError> {
    if text.is_empty() || text.contains('\0') {
        return Err(ComputeError::new(format!(
            "{text:?} cannot be the name of a role or database"
        )));
    }
    let name = quoted(text, '"');
    if is_of_one_line(text) {
        return Ok(name);
    }
    let mut escaped = "U&".to_owned();
    for character in name.chars() {
        let _ = match character {
            '\\' => escaped.write_str("\\\\"),
            control if control.is_ascii_control() => write!(escaped, "\\{:04x}", u32::from(control)),
            other => escaped.write_char(other),
        };
    }
    Ok(escaped)
}

/// Whether a name can stand in a line as it is.
fn is_of_one_line(name: &str) -> bool {
    !name.chars().any(|character| character.is_ascii_control())
}

/// In quotes, with those inside doubled: right for identifiers, and for literals without backslash escapes, as
/// `standard_conforming_strings` has them.
fn quoted(text: &str, quote: char) -> String {
    let doubled: String = [quote, quote].iter().collect();
    format!("{quote}{}{quote}", text.replace(quote, &doubled))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MD5: &str = "md50123456789abcdef0123456789abcdef";
    const SCRAM: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

    fn contents(roles: &[(&str, &str)], database: Option<&str>, owner: Option<&str>) -> Contents {
        let role =
            |(role, verifier): &(&str, &str)| ((*role).to_owned(), Some(Verifier::parse(verifier).unwrap()));
        Contents {
            creation: Creation {
                roles: roles.iter().map(role).collect(),
            },
            database: database.map(str::to_owned),
            owner: owner.map(str::to_owned),
            bootstrap: None,
        }
    }

    #[test]
    fn names_are_quoted_and_the_first_role_owns_the_database() {
        let contents = contents(&[("my\"role", MD5), ("b", SCRAM)], Some("it's"), None);
        let expected = format!(
            "CREATE ROLE \"my\"\"role\" LOGIN PASSWORD '{MD5}';\nCREATE ROLE \"b\" LOGIN PASSWORD '{SCRAM}';\n\
             CREATE DATABASE \"it's\" OWNER \"my\"\"role\";\n"
        );
        assert_eq!(*contents.sql().unwrap(), expected);
    }

    #[test]
    fn what_initdb_has_made_is_altered() {
        let contents = contents(&[("postgres", MD5)], Some("postgres"), None);
        let expected = format!(
            "ALTER ROLE \"postgres\" LOGIN PASSWORD '{MD5}';\nALTER DATABASE postgres OWNER TO \"postgres\";\n"
        );
        assert_eq!(*contents.sql().unwrap(), expected);
        assert_eq!(
            *self::contents(&[], Some("template1"), None).sql().unwrap(),
            "ALTER DATABASE template1 OWNER TO \"postgres\";\n"
        );
        assert_eq!(
            *self::contents(&[], Some("app"), None).sql().unwrap(),
            "CREATE DATABASE \"app\" OWNER \"postgres\";\n"
        );
    }

    #[test]
    fn an_unknown_owner_is_refused() {
        let unknown = contents(&[("a", MD5)], Some("app"), Some("b")).sql().unwrap_err();
        assert!(unknown.reason.contains("\"b\" is to own"), "{unknown}");
    }

    /// One such role, which the configuration takes, kept every data directory of its tenant from being made.
    #[test]
    fn a_name_over_two_lines_is_written_on_one() {
        let role = "a\"\\\nDROP TABLE x;";
        let mut contents = contents(&[(role, MD5)], None, None);
        contents.creation.roles.push(("two\nlines".to_owned(), None));
        let expected = format!(
            "CREATE ROLE U&\"a\"\"\\\\\\000aDROP TABLE x;\" LOGIN PASSWORD '{MD5}';\nCREATE ROLE U&\"two\\000alines\" LOGIN;\n"
        );
        assert_eq!(*contents.sql().unwrap(), expected);
        // Lines of pg_hba.conf cannot name it.
        assert!(contents.roles_without_password().is_empty());
    }

    #[test]
    fn a_role_without_a_password_is_let_in_for_pgwake_alone() {
        let mut contents = contents(&[("b", SCRAM)], None, None);
        let odd = ["token \"role\"", "+app", "all", "/.*"];
        let without = odd.iter().map(|role| ((*role).to_owned(), None));
        contents.creation.roles.extend(without);
        let sql = contents.sql().unwrap();
        assert!(
            sql.contains("CREATE ROLE \"token \"\"role\"\"\" LOGIN;\n"),
            "{}",
            *sql
        );
        let [(_, hba), (_, ident)] = contents.access_files(&Account::ourselves());
        let lines = |text: &str, end: &str| text.lines().filter(|line| line.ends_with(end)).count();
        for (role, expected) in [
            ("\"token \"\"role\"\"\"", 2),
            ("\"+app\"", 2),
            ("\"all\"", 2),
            ("\"b\"", 0),
        ] {
            assert_eq!(
                lines(&hba, &format!(" {role:<9} peer map=pgwake")),
                expected,
                "{hba}"
            );
            assert_eq!(lines(&ident, &format!(" {role}")) > 0, expected > 0, "{ident}");
        }
        assert!(
            !hba.contains("/.*") && !ident.contains("/.*"),
            "it would be a pattern"
        );
        assert!(hba.trim_end().ends_with("all       scram-sha-256"), "{hba}");
    }

    #[test]
    fn md5_roles_get_a_method_that_fits_them() {
        let method = |verifier| {
            let [(_, hba), _] = contents(&[("a", verifier)], None, None).access_files(&Account::ourselves());
            hba.lines()
                .last()
                .unwrap()
                .split_whitespace()
                .last()
                .unwrap()
                .to_owned()
        };
        assert_eq!(method(SCRAM), "scram-sha-256");
        assert_eq!(method(MD5), "md5");
    }
}
