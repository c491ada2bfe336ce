//! The server that all proxies stand in front of, with pgbench's table.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::time::sleep;

use super::{
    certificates::Certificate,
    work::{Running, Work, complete, free_port, version},
};
use crate::{
    connection::{Connection, Door},
    target::{Part, Target},
    workload::{ACCOUNTS, query},
};

/// The role and the database of all clients.
pub(super) const ROLE: &str = "app";
pub(super) const DATABASE: &str = "app";

const SUPERUSER: &str = "postgres";
const CONNECTIONS_MAX: &str = "400";
/// How long a server may take until it takes logins.
const READY_PATIENCE: Duration = Duration::from_secs(60);

/// A server that takes logins.
#[derive(Debug)]
pub(super) struct Postgres {
    _running: Running,
    pub(super) port: u16,
}

/// The folder of the server's programs: the newest version.
pub(super) fn programs() -> Result<PathBuf, String> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.parse().ok()?,
                entry.path().join("bin"),
            ))
        })
        .filter(|(_, folder)| folder.join("postgres").exists())
        .collect();
    found.sort();
    let newest = found.pop().map(|(_, folder)| folder);
    newest.ok_or_else(|| "no Postgres in /usr/lib/postgresql: run `make setup`".into())
}

impl Postgres {
    pub(super) async fn start(
        work: &Work,
        certificate: &Certificate,
        verifier: &str,
    ) -> Result<Self, String> {
        let programs = programs()?;
        let data = work.folder("postgres")?;
        let mut command = work.as_servers(&programs.join("initdb"), "KILL");
        command
            .arg("-D")
            .arg(&data)
            .args(["-U", SUPERUSER, "-A", "trust", "--no-sync", "-E", "UTF8"]);
        complete(command)?;
        let rules = format!(
            "hostssl all {ROLE} 127.0.0.1/32 scram-sha-256\nhost all {ROLE} 127.0.0.1/32 scram-sha-256\nhost all {SUPERUSER} 127.0.0.1/32 trust\n"
        );
        work.file("postgres/pg_hba.conf", &rules)?;
        let port = free_port()?;
        let mut command = work.as_servers(&programs.join("postgres"), "QUIT");
        command.arg("-D").arg(&data);
        let key = certificate.key.display().to_string();
        let chain = certificate.certificate.display().to_string();
        for (name, value) in [
            ("port", port.to_string().as_str()),
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", ""),
            ("max_connections", CONNECTIONS_MAX),
            ("shared_buffers", "128MB"),
            ("fsync", "off"),
            ("ssl", "on"),
            ("ssl_cert_file", &chain),
            ("ssl_key_file", &key),
        ] {
            command.args(["-c", &format!("{name}={value}")]);
        }
        let mut running = Running::start(command, work.path("postgres.log"), Signal::INT)?;
        running.listens(port).await?;
        let postgres = Self {
            _running: running,
            port,
        };
        postgres.fill(verifier).await?;
        Ok(postgres)
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    async fn fill(&self, verifier: &str) -> Result<(), String> {
        let superuser = |database: &str| Target {
            name: SUPERUSER.into(),
            part: Part::Direct,
            address: self.address(),
            ca: None,
            server_name: None,
            options: None,
            role: SUPERUSER.into(),
            database: database.into(),
            password: String::new(),
            pid: None,
            version: String::new(),
            configuration: String::new(),
            sleeper: None,
        };
        say(
            &superuser("postgres"),
            &[
                format!("CREATE ROLE {ROLE} LOGIN PASSWORD '{verifier}'"),
                format!("CREATE DATABASE {DATABASE} OWNER {ROLE}"),
            ],
        )
        .await?;
        say(
            &superuser(DATABASE),
            &[
                "CREATE TABLE pgbench_accounts (aid int, bid int, abalance int, filler char(84))".into(),
                format!("INSERT INTO pgbench_accounts SELECT aid, 1, 0, '' FROM generate_series(1, {ACCOUNTS}) aid"),
                "ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid)".into(),
                "CREATE UNLOGGED TABLE bulk_sink (line text)".into(),
                format!("ALTER TABLE pgbench_accounts OWNER TO {ROLE}"),
                format!("ALTER TABLE bulk_sink OWNER TO {ROLE}"),
                "VACUUM ANALYZE pgbench_accounts".into(),
                "CHECKPOINT".into(),
            ],
        )
        .await
    }

    /// The server itself as a target.
    pub(super) fn target(&self, ca: &Path, password: &str) -> Result<Target, String> {
        Ok(Target {
            name: "Postgres".into(),
            part: Part::Direct,
            address: self.address(),
            ca: Some(ca.to_owned()),
            server_name: Some("localhost".into()),
            options: None,
            role: ROLE.into(),
            database: DATABASE.into(),
            password: password.into(),
            pid: None,
            version: version(&programs()?.join("postgres")),
            configuration: format!(
                "max_connections = {CONNECTIONS_MAX}, shared_buffers = 128MB, fsync = off, ssl = on; all proxies \
                 reach it over TCP on loopback, without TLS"
            ),
            sleeper: None,
        })
    }
}

async fn say(target: &Target, statements: &[String]) -> Result<(), String> {
    let mut connection = patiently(&Door::new(target)?).await?;
    for statement in statements {
        let asked = connection.exchange(&query(statement)).await;
        asked.map_err(|failure| format!("Postgres: {failure}"))?;
    }
    connection.close().await;
    Ok(())
}

/// A server listens before it takes logins.
async fn patiently(door: &Door) -> Result<Connection, String> {
    let deadline = Instant::now() + READY_PATIENCE;
    loop {
        match Connection::open(door).await {
            Ok((connection, _)) => return Ok(connection),
            Err(failure) if failure.code() == "57P03" && Instant::now() < deadline => {
                sleep(Duration::from_millis(20)).await;
            }
            Err(failure) => return Err(format!("Postgres: {failure}")),
        }
    }
}
