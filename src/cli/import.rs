//! `pgwake import-pgbouncer pgbouncer.ini [userlist.txt]`: prints the same as a configuration of pgwake.
//!
//! Databases become endpoints, secrets become roles, sizes and times carry over, and every key that does not is a comment
//! with what to do. It reads the two files and changes nothing. What it prints has the secrets of `userlist.txt` in it:
//! that is its purpose. Called by `cli`.

mod databases;
mod ini;
mod keys;
mod listen;
mod page;
mod roles;

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use clap::Args;

use databases::{Databases, TENANT, UNKNOWN, users};
use ini::{Ini, Pairs, read_userlist};
use keys::{Fate, Table, carried, fate};
use listen::listen;
use page::{Page, key, text};
use roles::{Encryption, operators, roles};

/// What is read.
#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// PgBouncer's configuration.
    #[arg(value_name = "PGBOUNCER.INI")]
    ini: PathBuf,
    /// Its users with their secrets. [default: what `auth_file` names]
    #[arg(value_name = "USERLIST.TXT")]
    userlist: Option<PathBuf>,
}

/// Why nothing is printed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImportError {
    /// A file cannot be read, or is not PgBouncer's.
    #[error("{0}")]
    Read(String),
    /// The output could not be written.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Prints a configuration.
///
/// # Errors
/// [`ImportError::Read`] before anything is written.
pub(super) fn run(arguments: &ImportArguments, out: &mut dyn Write) -> Result<(), ImportError> {
    let ini = Ini::read(&arguments.ini).map_err(ImportError::Read)?;
    let mut notes = Page::default();
    let named = ini.setting("auth_file").map(PathBuf::from);
    let users = match (&arguments.userlist, named) {
        (Some(file), _) => read_userlist(file).map_err(ImportError::Read)?,
        (None, Some(file)) => read_userlist(&file).unwrap_or_else(|error| {
            notes.told(
                "auth_file",
                &file.display().to_string(),
                &format!("not read ({error}): name it as the second argument"),
            );
            Pairs::new()
        }),
        (None, None) => Pairs::new(),
    };
    let text = imported(&arguments.ini, &ini, &users, notes).map_err(ImportError::Read)?;
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

fn imported(file: &Path, ini: &Ini, secrets: &Pairs, mut notes: Page) -> Result<String, String> {
    let databases = databases::databases(ini)?;
    let files = ini
        .setting("client_tls_cert_file")
        .zip(ini.setting("client_tls_key_file"));
    let tls = files.map_or(Encryption::None, |_| Encryption::Possible);
    let roles = roles(secrets, tls);
    // Where nobody could log in, an endpoint would be a mistake.
    let is_usable = roles.says_something();
    let mut page = Page::default();
    page.comment(&format!(
        "Made of {} by `pgwake import-pgbouncer`.",
        file.display()
    ));
    page.comment(
        "It may have secrets in it: keep it from others (chmod 600). Look at it with `pgwake check`.",
    );
    page.comment("What PgBouncer's files do not say has pgwake's own defaults, which are others: config/reference.toml has them.");
    page.gap();
    page.comment("Where pgwake remembers roles and its lock: choose a folder.");
    page.line("state_dir = \"/var/lib/pgwake\"");
    page.gap();
    let fallback = databases.fallback.as_ref().filter(|_| is_usable);
    listen(
        ini,
        fallback.map(|endpoint| endpoint.as_str()),
        &mut page,
        &mut notes,
    );
    routing(&databases, is_usable, &mut page);
    settings(ini, &mut page, &mut notes);
    operators(ini, secrets, &mut page, &mut notes);
    page.gap();
    if !roles.is_empty() {
        page.comment("A verifier has to be the text that the server itself has in pg_authid.rolpassword.");
        page.add(&roles);
        page.gap();
    }
    match is_usable {
        true => page.add(&databases.endpoints),
        false if databases.endpoints.is_empty() => (),
        false => {
            page.comment(
                "No role is known, so nobody could log in: list roles with their verifiers, for example",
            );
            page.comment(&format!(
                "[tenants.{TENANT}.roles.NAME] verifier = \"SCRAM-SHA-256$…\", then take away the # below."
            ));
            page.add(&databases.endpoints.commented_out());
        }
    }
    users(ini, &mut notes);
    for (section, name, value) in &ini.others {
        notes.told(&format!("[{section}] {name}"), value, UNKNOWN);
    }
    page.gap();
    if !notes.is_empty() {
        page.comment("What does not carry over, and what to do:");
        page.comment("");
        page.add(&notes);
    }
    Ok(page.into_text())
}

/// `[routing]`: clients go on naming a database and nothing else.
fn routing(databases: &Databases, is_usable: bool, page: &mut Page) {
    if databases.routing.is_empty() {
        return;
    }
    let mut table = Page::default();
    table.comment("Clients that name a database reach its endpoint. With a domain and a wildcard certificate they could name it in");
    table.comment(
        "their host, and databases that are listed here are no secret to strangers: see config/README.md.",
    );
    table.line("[routing.databases]");
    for (database, endpoint) in &databases.routing {
        table.line(&format!("{} = {}", key(database), text(endpoint.as_str())));
    }
    table.gap();
    page.add(&if is_usable { table } else { table.commented_out() });
}

/// `[pgbouncer]`: what carries over into its tables, and all else into notes.
fn settings(ini: &Ini, page: &mut Page, notes: &mut Page) {
    let mut tables: BTreeMap<Table, Vec<(&str, String)>> = BTreeMap::new();
    for (name, value) in &ini.settings {
        match fate(name) {
            Fate::Carried(table, place, kind) => match carried(kind, value) {
                Ok(value) => tables.entry(table).or_default().push((place, value)),
                Err(advice) => notes.told(name, value, &advice),
            },
            Fate::Together => together(name, value, notes),
            Fate::Told(advice) => notes.told(name, value, advice),
            Fate::Unknown => notes.told(name, value, UNKNOWN),
        }
    }
    let mut put = |header: &str, table, says: &str| {
        let Some(pairs) = tables.get(&table) else {
            return;
        };
        page.comment(says);
        page.line(header);
        pairs
            .iter()
            .for_each(|(place, value)| page.line(&format!("{place} = {value}")));
        page.gap();
    };
    put("[limits]", Table::Limits, "Of the whole process.");
    put(
        "[defaults.pool]",
        Table::Pool,
        "The size is for all databases and roles of an endpoint together; PgBouncer's is for each pair.",
    );
    put(
        "[defaults.limits.per_endpoint]",
        Table::PerEndpoint,
        "What is beyond these is refused (53300); PgBouncer lets it wait.",
    );
    put(
        "[defaults.limits.per_role]",
        Table::PerRole,
        "Of each role at each endpoint.",
    );
}

/// What is left to say of keys that are looked at together.
fn together(name: &str, value: &str, notes: &mut Page) {
    let advice = match (name, value) {
        ("auth_type", "scram-sha-256" | "md5" | "plain") => return,
        ("auth_type", "any" | "trust") => {
            "pgwake lets nobody in without a proof: every role needs a verifier"
        }
        ("auth_type", "cert") => "login = \"certificate\" with client_certificates = { ca = \"…\" }",
        ("auth_type", _) => "pgwake proves clients by SCRAM, passwords, tokens and certificates; see `login`",
        ("client_tls_sslmode", "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full") => {
            return;
        }
        ("server_tls_sslmode", "disable" | "allow" | "prefer" | "require" | "verify-ca" | "verify-full") => {
            return;
        }
        ("client_tls_sslmode" | "server_tls_sslmode", _) => "PgBouncer has no such mode",
        _ => return,
    };
    notes.told(name, value, advice);
}

#[cfg(test)]
mod tests;
