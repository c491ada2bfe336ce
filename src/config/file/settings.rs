//! `settings = { … }` of a local compute: what its Postgres is started with.
//!
//! Which settings there are and what they may be is Postgres' affair, and of each version's own; here is what pgwake
//! has to keep to itself. Who calls: `ProcessTable`.

use std::collections::BTreeMap;

use crate::config::{
    ServerSetting,
    problem::{Report, Spot, Wrong},
    read::Read,
    tree::{Node, Table, Value},
};

/// Settings of one server, and bytes of each name and value: more than anybody sets, far less than the system takes
/// as arguments.
const SETTINGS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 200;
const VALUE_BYTES_MAX: usize = 4096;

/// What cannot be set, why not, and what to do instead.
const OWN: [(&[&str], &str, &str); 5] = [
    (
        &[
            "port",
            "listen_addresses",
            "unix_socket_directories",
            "unix_socket_permissions",
            "unix_socket_group",
        ],
        "pgwake alone reaches this server, through a socket in a folder that it keeps closed to others",
        "remove it; `listen.postgres` says where clients come in",
    ),
    (
        &["data_directory"],
        "pgwake starts the server on the data directory that it has locked",
        "remove it, and write data_dir = \"…\" beside `settings`",
    ),
    (
        &["config_file", "hba_file", "ident_file"],
        "pgwake and branches know the files in the data directory alone",
        "remove it, and change the file in the data directory",
    ),
    (
        &["external_pid_file"],
        "a branch would write over the file of its parent",
        "remove it, and read postmaster.pid in the data directory",
    ),
    (
        &["primary_conninfo"],
        "it may have a password in it, and whoever is on this machine can read the arguments of programs",
        "remove it, and write it in postgresql.conf in the data directory",
    ),
];

/// Settings, each once, in the order of their names.
pub(crate) struct SettingsTable(pub(crate) Vec<ServerSetting>);

impl Read for SettingsTable {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            let message = format!("expected a table, found {}", node.value.kind());
            let fix = "write the settings of postgresql.conf as a table: { shared_buffers = \"64MB\", jit = false }";
            report.add(spot, Wrong::new(message, fix));
            return None;
        };
        let mut found = Found::default();
        found.collect("", table, spot, report);
        if found.number > SETTINGS_MAX {
            let message = format!("{} settings; {SETTINGS_MAX} are the limit", found.number);
            let fix = "write the rest in postgresql.conf in the data directory";
            report.add(spot, Wrong::new(message, fix));
            return None;
        }
        let settings = found.settings.into_iter();
        Some(Self(
            settings
                .map(|(name, (value, _))| ServerSetting { name, value })
                .collect(),
        ))
    }
}

#[derive(Default)]
struct Found {
    /// Right or wrong.
    number: usize,
    /// By name in lower case, with where it stands.
    settings: BTreeMap<String, (String, Spot)>,
}

impl Found {
    /// Takes in a table; `prefix` is what its names begin with: TOML makes a table of `a` out of `a.b = …`.
    fn collect(&mut self, prefix: &str, table: &Table, spot: &Spot, report: &mut Report) {
        for (name, node) in table {
            let spot = spot.key(name, &node.place);
            let name = format!("{prefix}{name}");
            if let Value::Table(table) = &node.value {
                self.collect(&format!("{name}."), table, &spot, report);
                continue;
            }
            self.number += 1;
            let name = report.note(&spot, check_name(&name));
            let value = report.note(&spot, check_value(&node.value));
            let (Some(name), Some(value)) = (name, value) else {
                continue;
            };
            if let Some((_, first)) = self.settings.get(&name) {
                let message = format!(
                    "{name} stands here twice ({}): Postgres does not tell upper and lower case apart",
                    first.place
                );
                report.add(&spot, Wrong::new(message, "remove one of the two"));
            } else {
                self.settings.insert(name, (value, spot));
            }
        }
    }
}

/// The name in lower case.
fn check_name(text: &str) -> Result<String, Wrong> {
    let begins = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
    let right = |part: &str| {
        part.as_bytes().first().is_some_and(begins)
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    if text.len() > NAME_BYTES_MAX || !text.split('.').all(right) {
        let fix = "write a name as in postgresql.conf: letters, digits and `_`, and for those of extensions `.` between";
        return Err(Wrong::new("this is not the name of a setting of Postgres", fix));
    }
    let name = text.to_ascii_lowercase();
    match OWN.iter().find(|(names, ..)| names.contains(&name.as_str())) {
        Some((_, why, fix)) => Err(Wrong::new(format!("{name} cannot be set here: {why}"), *fix)),
        None => Ok(name),
    }
}

/// The value as Postgres reads it.
fn check_value(value: &Value) -> Result<String, Wrong> {
    let text = match value {
        Value::Text(text) if text.contains('\0') => {
            return Err(Wrong::new("contains a NUL", "remove `\\u0000`"));
        }
        Value::Text(text) => text.as_str(),
        Value::Integer(number) | Value::Float(number) => number,
        Value::Bool(true) => "on",
        Value::Bool(false) => "off",
        other => {
            let message = format!("expected a string, a number or a boolean, found {}", other.kind());
            let fix = "write a value as Postgres shows it; lists are one text: \"a, b\"";
            return Err(Wrong::new(message, fix));
        }
    };
    if text.len() > VALUE_BYTES_MAX {
        let message = format!("a value of {} bytes; {VALUE_BYTES_MAX} are the limit", text.len());
        let fix = "write it in postgresql.conf in the data directory";
        return Err(Wrong::new(message, fix));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use super::*;
    use crate::config::tree;

    /// The settings as arguments, or what is wrong with them.
    fn read(settings: &str) -> Result<Vec<String>, String> {
        let file: Arc<Path> = Path::new("a.toml").into();
        let mut report = Report::default();
        let table = tree::parse(&file, &format!("settings = {settings}"), &mut report).unwrap();
        let spot = Spot::of_file(&file);
        let read = SettingsTable::read(&table["settings"], &spot, &mut report);
        report.finish(&file).map_err(|problems| problems.to_string())?;
        let settings = read.unwrap().0.into_iter();
        Ok(settings
            .map(|setting| format!("{}={}", setting.name, setting.value))
            .collect())
    }

    #[test]
    fn values_become_what_postgres_reads_and_nothing_else_is_touched() {
        let written = r#"{ Shared_Buffers = "64MB", max_connections = 1_000, jit = false, fsync = true,
            random_page_cost = 1.1, search_path = "", "pg_stat_statements.max" = 5, auto_explain.log_format = "json",
            log_line_prefix = "$(id) `id` ; | & \\ '\" -c port=1\n" }"#;
        assert_eq!(
            read(written).unwrap(),
            [
                "auto_explain.log_format=json",
                "fsync=on",
                "jit=off",
                "log_line_prefix=$(id) `id` ; | & \\ '\" -c port=1\n",
                "max_connections=1000",
                "pg_stat_statements.max=5",
                "random_page_cost=1.1",
                "search_path=",
                "shared_buffers=64MB",
            ]
        );
    }

    #[test]
    fn no_spelling_of_a_name_reaches_what_is_pgwakes_own() {
        for name in OWN.iter().flat_map(|(names, ..)| names.iter()) {
            for spelt in [(*name).to_owned(), name.to_uppercase()] {
                let problem = read(&format!("{{ {spelt} = 1 }}")).unwrap_err();
                assert!(
                    problem.contains(&format!("{name} cannot be set here: ")),
                    "{problem}"
                );
            }
            // Postgres takes `-` for `_`, spaces around a name for none, and what is behind `=` for the value.
            for spelt in [
                name.replace('_', "-"),
                format!(" {name}"),
                format!("{name} "),
                format!("{name}=1"),
            ] {
                let outcome = read(&format!("{{ {spelt:?} = 1 }}"));
                let own = spelt == *name;
                let problem = outcome.unwrap_err();
                assert!(
                    own || problem.contains("is not the name of a setting"),
                    "{problem}"
                );
            }
        }
        for name in ["", ".", "a.", ".a", "a..b", "1a", "ä", "a\\nb", "--port", "a b"] {
            let problem = read(&format!("{{ \"{name}\" = 1 }}")).unwrap_err();
            assert!(
                problem.contains("is not the name of a setting"),
                "{name:?}: {problem}"
            );
        }
    }

    #[test]
    fn a_name_stands_once_whatever_its_case_and_there_is_an_end_to_their_number() {
        let twice = read("{ jit = true, JIT = false }").unwrap_err();
        assert!(twice.contains("jit stands here twice"), "{twice}");
        let several = |number: usize| {
            let settings: Vec<_> = (0..number).map(|n| format!("a.s{n} = {n}")).collect();
            read(&format!("{{ {} }}", settings.join(", ")))
        };
        assert_eq!(several(SETTINGS_MAX).unwrap().len(), SETTINGS_MAX);
        let many = several(SETTINGS_MAX + 1).unwrap_err();
        assert!(many.contains("101 settings; 100 are the limit"), "{many}");
        let long = |bytes: usize| read(&format!("{{ a = {:?} }}", "x".repeat(bytes)));
        long(VALUE_BYTES_MAX).unwrap();
        assert!(
            long(VALUE_BYTES_MAX + 1)
                .unwrap_err()
                .contains("a value of 4097 bytes")
        );
    }
}
