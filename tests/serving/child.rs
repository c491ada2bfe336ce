//! pgwake in a process of its own, so that its memory is its own.

use std::{fs, net::SocketAddr, path::Path};

use tokio_postgres::{Config, config::SslMode};

use super::served::{Key, logged_in};
use crate::harness::{
    gateway::{DOMAIN, Setup},
    postgres::{PASSWORD, Postgres, SUPERUSER},
    programs::{Program, Running},
    raw::{PROTOCOL_3_0, Raw},
    tls_client,
    wait::PATIENCE,
};

/// A gateway for TLS and plaintext clients in front of one server; ends with this value.
pub(crate) struct Child {
    /// What holds its files.
    setup: Setup,
    process: Running,
    address: SocketAddr,
    endpoint: String,
}

impl Child {
    /// Starts it and waits until it listens and knows the server's roles.
    pub(crate) async fn start(endpoint: &str, postgres: &Postgres) -> Self {
        let listen =
            format!(r#"[{{ address = "127.0.0.1:0", tls = "optional", default_endpoint = "{endpoint}" }}]"#);
        let setup = Setup::new().listen(&listen).fixed(endpoint, postgres, "");
        let file = setup.write();
        // Its log is on standard error.
        let mut process = Program::new("sh")
            .arguments(&["-c", "exec \"$@\" 2>&1", "sh", env!("CARGO_BIN_EXE_pgwake")])
            .argument("serve")
            .argument("--config")
            .argument(file)
            .limit(PATIENCE * 2)
            .start();
        process.hear("listening address=").await;
        let address = process.hear("\n").await.trim().parse().unwrap();
        let child = Self {
            setup,
            process,
            address,
            endpoint: endpoint.to_owned(),
        };
        child.knows_roles().await;
        child
    }

    async fn knows_roles(&self) {
        let config = self.config();
        crate::harness::wait::until("the child to let clients in", async || {
            tls_client::connect_plain(&config).await.is_ok()
        })
        .await;
    }

    fn config(&self) -> Config {
        let mut config = Config::new();
        config
            .host(format!("{}.{DOMAIN}", self.endpoint))
            .hostaddr(self.address.ip())
            .port(self.address.port())
            .user(SUPERUSER)
            .password(PASSWORD)
            .dbname("postgres")
            .ssl_mode(SslMode::Disable)
            .connect_timeout(PATIENCE);
        config
    }

    /// A session over TLS whose every byte the test says.
    pub(crate) async fn raw_tls(&self) -> (Raw, Key) {
        let name = format!("{}.{DOMAIN}", self.endpoint);
        let client = Raw::tcp(self.address)
            .await
            .request_tls(self.setup.authority().client_config(&[]), name.leak())
            .await;
        logged_in(client, PROTOCOL_3_0, &[]).await
    }

    /// The same in plaintext.
    pub(crate) async fn raw_plain(&self) -> (Raw, Key) {
        logged_in(Raw::tcp(self.address).await, PROTOCOL_3_0, &[]).await
    }

    /// Memory that it has resident now, in KiB.
    pub(crate) fn resident(&self) -> u64 {
        status(self.process.pid(), "VmRSS:")
    }

    /// The most that it ever had.
    pub(crate) fn resident_most(&self) -> u64 {
        status(self.process.pid(), "VmHWM:")
    }

    /// Forgets what it had at most so far.
    pub(crate) fn forget_most(&self) {
        let path = format!("/proc/{}/clear_refs", self.process.pid());
        fs::write(Path::new(&path), "5").unwrap();
    }
}

fn status(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
