//! PgBouncer, with the same pool, certificate and logins: Debian's own, and where that is older a newer one for prepared
//! statements.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
};

use rustix::process::Signal;

use super::{
    Proxied,
    postgres::{DATABASE, ROLE},
    work::{Running, Work, free_port, version},
};
use crate::target::{Part, Target};

/// Where Debian has it.
pub(super) const PROGRAM: &str = "/usr/sbin/pgbouncer";
/// The version since which it keeps prepared statements in transaction pooling
/// (<https://www.pgbouncer.org/changelog.html>), and how it is told to: on by default since 1.24.
const KEEPS_PREPARED: (u32, u32) = (1, 21);
const KEEP_PREPARED: &str = "max_prepared_statements = 200\n";
/// A second name of the database, with a session per client: where prepared statements work in every version.
const WITH_SESSIONS: &str = "app_sessions";

/// A PgBouncer that takes clients.
#[derive(Debug)]
pub(super) struct PgBouncer {
    running: Running,
    port: u16,
    configuration: String,
    version: String,
}

impl PgBouncer {
    pub(super) async fn start(work: &Work, proxied: &Proxied<'_>) -> Result<Self, String> {
        let Proxied {
            program,
            server,
            verifier,
            certificate,
            pool,
        } = *proxied;
        if !program.exists() {
            return Err(format!("no {}: run `make setup`", program.display()));
        }
        let version = version(program);
        let prepared = match keeps_prepared(&version) {
            true => KEEP_PREPARED,
            false => "",
        };
        let port = free_port()?;
        let users = work.file(
            &format!("pgbouncer-{port}.users"),
            &format!("\"{ROLE}\" \"{verifier}\"\n"),
        )?;
        let configuration = format!(
            "[databases]\n\
             {DATABASE} = host=127.0.0.1 port={server}\n\
             {WITH_SESSIONS} = host=127.0.0.1 port={server} dbname={DATABASE} pool_mode=session pool_size=64\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = scram-sha-256\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = {pool}\nmax_client_conn = 20000\n{prepared}\
             client_tls_sslmode = allow\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n\
             server_tls_sslmode = disable\n",
            users.display(),
            certificate.certificate.display(),
            certificate.key.display(),
        );
        let file = work.file(&format!("pgbouncer-{port}.ini"), &configuration)?;
        let mut command = work.as_servers(program, "INT");
        command.arg(file);
        let log = work.path(&format!("pgbouncer-{port}.log"));
        let mut running = Running::start(command, log, Signal::TERM)?;
        running.listens(port).await?;
        Ok(Self {
            running,
            port,
            configuration,
            version,
        })
    }

    /// Whether it keeps prepared statements in transaction pooling.
    pub(super) fn keeps_prepared(&self) -> bool {
        keeps_prepared(&self.version)
    }

    pub(super) fn target(&self, ca: &Path, password: &str) -> Target {
        Target {
            name: "PgBouncer".into(),
            part: Part::Baseline,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
            ca: Some(ca.to_owned()),
            server_name: Some("localhost".into()),
            options: None,
            role: ROLE.into(),
            database: DATABASE.into(),
            password: password.into(),
            pid: Some(self.running.pid()),
            version: self.version.clone(),
            configuration: self.configuration.clone(),
            sleeper: None,
        }
    }
}

/// By what it says of its version: `PgBouncer 1.24.1`.
fn keeps_prepared(version: &str) -> bool {
    let mut numbers = version
        .trim_start_matches("PgBouncer ")
        .split('.')
        .map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= KEEPS_PREPARED,
        _ => false,
    }
}

/// The same with a session per client.
pub(super) fn with_sessions(target: &Target) -> Target {
    Target {
        database: WITH_SESSIONS.into(),
        ..target.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_told_apart() {
        for (version, keeps) in [
            ("PgBouncer 1.18.0", false),
            ("PgBouncer 1.20.1", false),
            ("PgBouncer 1.21.0", true),
            ("PgBouncer 1.24.1", true),
            ("PgBouncer 2.0.0", true),
            ("", false),
            ("PgBouncer devel", false),
        ] {
            assert_eq!(keeps_prepared(version), keeps, "{version}");
        }
    }
}
