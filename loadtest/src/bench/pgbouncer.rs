//! Debian's PgBouncer, with the same pool, certificate and logins.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use rustix::process::Signal;

use super::{
    certificates::Certificate,
    postgres::{DATABASE, ROLE},
    work::{Running, Work, free_port, version},
};
use crate::target::{Part, Target};

/// Where Debian has it.
const PROGRAM: &str = "/usr/sbin/pgbouncer";
/// A second name of the database, with a session per client: where prepared statements work in every version.
const WITH_SESSIONS: &str = "app_sessions";

/// A PgBouncer that takes clients.
#[derive(Debug)]
pub(super) struct PgBouncer {
    running: Running,
    port: u16,
    configuration: String,
}

impl PgBouncer {
    pub(super) async fn start(
        work: &Work,
        certificate: &Certificate,
        server: u16,
        verifier: &str,
        pool: usize,
    ) -> Result<Self, String> {
        let program = PathBuf::from(PROGRAM);
        if !program.exists() {
            return Err(format!("no {PROGRAM}: run `make setup`"));
        }
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
             pool_mode = transaction\ndefault_pool_size = {pool}\nmax_client_conn = 20000\n\
             client_tls_sslmode = allow\nclient_tls_cert_file = {}\nclient_tls_key_file = {}\n\
             server_tls_sslmode = disable\n",
            users.display(),
            certificate.certificate.display(),
            certificate.key.display(),
        );
        let file = work.file(&format!("pgbouncer-{port}.ini"), &configuration)?;
        let mut command = work.as_servers(&program, "INT");
        command.arg(file);
        let log = work.path(&format!("pgbouncer-{port}.log"));
        let mut running = Running::start(command, log, Signal::TERM)?;
        running.listens(port).await?;
        Ok(Self {
            running,
            port,
            configuration,
        })
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
            version: version(Path::new(PROGRAM)),
            configuration: self.configuration.clone(),
            sleeper: None,
        }
    }
}

/// The same with a session per client.
pub(super) fn with_sessions(target: &Target) -> Target {
    Target {
        database: WITH_SESSIONS.into(),
        ..target.clone()
    }
}
