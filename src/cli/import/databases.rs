//! `[databases]`: each becomes an endpoint with a `fixed` compute, reached by the database's name.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    ini::{Ini, pairs_of},
    keys::{Fate, carried, fate},
    page::{Page, key, text},
};
use crate::ids::EndpointName;

/// Whom all that is imported belongs to.
pub(super) const TENANT: &str = "pgbouncer";
/// Where a database without a host is looked for, on Debian.
const SOCKET_FOLDER: &str = "/var/run/postgresql";
/// The authorities of the system, on Debian.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";
/// The database for all that are not listed.
const FALLBACK: &str = "*";

/// What the databases come to.
#[derive(Debug, Default)]
pub(super) struct Databases {
    /// `[tenants.pgbouncer.endpoints.…]`
    pub(super) endpoints: Page,
    /// Database to endpoint.
    pub(super) routing: BTreeMap<String, EndpointName>,
    /// The endpoint of `*`.
    pub(super) fallback: Option<EndpointName>,
}

/// # Errors
/// A connection string is none.
pub(super) fn databases(ini: &Ini) -> Result<Databases, String> {
    let mut all = Databases::default();
    let mut taken = BTreeSet::new();
    let listed: BTreeSet<&str> = ini.databases.iter().map(|(name, _)| name.as_str()).collect();
    for (name, connection) in &ini.databases {
        let pairs = pairs_of(connection).map_err(|error| format!("database {name}: {error}"))?;
        let said: BTreeMap<&str, &str> = pairs
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let endpoint = endpoint_name(name, &mut taken);
        let mut page = Page::default();
        page.gap();
        page.comment(&format!("PgBouncer's database {name}"));
        page.line(&format!("[tenants.{TENANT}.endpoints.{endpoint}]"));
        server(&said, ini, &mut page);
        for (key, value) in &pairs {
            of_database(key, value, &mut page);
        }
        let target = said
            .get("dbname")
            .copied()
            .filter(|target| !target.is_empty())
            .unwrap_or(name);
        if name == FALLBACK {
            page.comment(
                "clients reach it with any database that is not listed: see default_endpoint under [listen]",
            );
            all.fallback = Some(endpoint);
        } else if target == name {
            all.routing.insert(name.clone(), endpoint);
        } else if listed.contains(target) || all.routing.contains_key(target) {
            page.comment(&format!("dbname = {target}"));
            page.comment(&format!(
                "    pgwake passes a database's name on as it is, and {target} already leads elsewhere: let clients name \
                 dbname={target} options=endpoint={endpoint}"
            ));
        } else {
            page.comment(&format!("dbname = {target}"));
            page.comment(&format!(
                "    pgwake passes a database's name on as it is: let clients name {target} in place of {name}"
            ));
            all.routing.insert(target.to_owned(), endpoint);
        }
        page.gap();
        all.endpoints.add(&page);
    }
    Ok(all)
}

/// `compute`.
fn server(said: &BTreeMap<&str, &str>, ini: &Ini, page: &mut Page) {
    let said_host = said.get("host").copied().unwrap_or(SOCKET_FOLDER);
    let host = said_host.split(',').next().unwrap_or(said_host);
    if host != said_host {
        page.told("host", said_host, "pgwake has one server for an endpoint: this is the first; put the others into DNS, or make endpoints of them");
    }
    let said_port = said.get("port").copied().unwrap_or("5432");
    let port = said_port.split(',').next().unwrap_or(said_port);
    if host.starts_with(['/', '@']) {
        let address = format!("{}/.s.PGSQL.{port}", host.trim_end_matches('/'));
        page.line(&format!(
            "compute = {{ kind = \"fixed\", address = {} }}",
            text(&address)
        ));
        return;
    }
    let address = match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    };
    let is_here = host == "localhost" || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    let ca = text(ini.setting("server_tls_ca_file").unwrap_or(SYSTEM_CA));
    let tls = match ini.setting("server_tls_sslmode").unwrap_or("prefer") {
        "disable" | "allow" => "tls = \"disable\"".to_owned(),
        mode @ ("verify-ca" | "verify-full") => format!("tls = \"{mode}\", ca = {ca}"),
        "prefer" if is_here => "tls = \"disable\"".to_owned(),
        "prefer" => {
            page.comment(
                "PgBouncer takes TLS if the server has it; pgwake wants to know: \"disable\" if it has none",
            );
            "tls = \"require\"".to_owned()
        }
        _ => "tls = \"require\"".to_owned(),
    };
    page.line(&format!(
        "compute = {{ kind = \"fixed\", address = {}, {tls} }}",
        text(&address)
    ));
}

/// One key of a connection string, beside those of the server and its database.
fn of_database(name: &str, value: &str, page: &mut Page) {
    // The same as for all, for this one alone.
    let (place, global) = match name {
        "host" | "port" | "dbname" => return,
        "pool_size" => ("pool.size", "default_pool_size"),
        "pool_mode" => ("pool.mode", "pool_mode"),
        "server_lifetime" => ("pool.lifetime", "server_lifetime"),
        "max_db_connections" => ("limits.per_endpoint.server_sessions_max", name),
        "max_db_client_connections" => ("limits.per_endpoint.clients_max", name),
        other => return page.told(name, value, advice(other)),
    };
    let Fate::Carried(_, _, kind) = fate(global) else {
        return page.told(name, value, advice(name));
    };
    match carried(kind, value) {
        Ok(value) => page.line(&format!("{place} = {value}")),
        Err(advice) => page.told(name, value, &advice),
    }
}

fn advice(key: &str) -> &'static str {
    match key {
        "user" | "password" => {
            "PgBouncer logs everybody in as this one role; with pgwake a client is who it is: list the role with its \
             verifier, and let clients log in as it"
        }
        "connect_query" => "ALTER ROLE … IN DATABASE … SET … has Postgres do that",
        "client_encoding" | "datestyle" | "timezone" | "application_name" => {
            "clients say it themselves, or ALTER ROLE … IN DATABASE … SET …"
        }
        "load_balance_hosts" | "target_session_attrs" => "pgwake has one server for an endpoint",
        other => match fate(other) {
            Fate::Told(advice) => advice,
            Fate::Carried(..) | Fate::Together => {
                "pgwake has this for all, or for a tenant: see config/reference.toml"
            }
            Fate::Unknown => UNKNOWN,
        },
    }
}

/// What is said of a key that nobody here has heard of.
pub(super) const UNKNOWN: &str =
    "not known here: look what PgBouncer's documentation says of it, and whether you need it";

/// A name that endpoints may have, near to the database's.
fn endpoint_name(database: &str, taken: &mut BTreeSet<EndpointName>) -> EndpointName {
    let letters = database.chars().map(|letter| match letter.to_ascii_lowercase() {
        letter @ ('a'..='z' | '0'..='9') => letter,
        _ => '-',
    });
    let mut label: String = letters.take(30).collect();
    while label.contains("--") {
        label = label.replace("--", "-");
    }
    let label = match label.trim_matches('-').trim_end_matches("-pooler") {
        "" if database == FALLBACK => "fallback".to_owned(),
        "" => "database".to_owned(),
        label if label.len() < 3 => format!("db-{label}"),
        label => label.to_owned(),
    };
    let numbered = (2..).map(|number| format!("{label}-{number}"));
    let mut names = [label.clone()]
        .into_iter()
        .chain(numbered)
        .filter_map(|name| EndpointName::parse(&name).ok());
    let free = names.find(|name| !taken.contains(name));
    let free =
        free.expect("the label is made of what names are made of, and there are more numbers than databases");
    taken.insert(free.clone());
    free
}

/// The tables of `[users]`: none of it holds for one role over all endpoints.
pub(super) fn users(ini: &Ini, page: &mut Page) {
    for (name, said) in &ini.users {
        page.told(
            &format!("[users] {}", key(name)),
            said,
            "limits.per_role holds for every role alike; an endpoint of its own, with its own limits and pool, can hold for one",
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_database_gets_a_name_of_its_own() {
        let mut taken = BTreeSet::new();
        let mut named = |database: &str| endpoint_name(database, &mut taken).to_string();
        for (database, name) in [
            ("shop", "shop"),
            ("Shop", "shop-2"),
            ("my_shop", "my-shop"),
            ("my shop", "my-shop-2"),
            ("a", "db-a"),
            ("*", "fallback"),
            ("___", "database"),
            ("x--y", "x-y"),
            ("shop-pooler", "shop-3"),
            ("ünïcödé", "n-c-d"),
        ] {
            assert_eq!(named(database), name, "{database}");
        }
        assert_eq!(named(&"long".repeat(20)).len(), 30);
    }
}
