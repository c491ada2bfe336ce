//! pgwake, in front of the same server, and with computes of its own that sleep.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tokio::time::sleep;

use super::{
    Proxied,
    postgres::{DATABASE, ROLE},
    work::{Running, Work, complete, free_port, version},
};
use crate::target::{Part, Sleeper, Target};

const DOMAIN: &str = "db.localhost";
/// How long after its last client a compute is suspended.
const SUSPEND_AFTER: &str = "150ms";

/// What the loud tenant may have; it asks for far more.
const LOUD_MAX: &str = "200/s";

/// A pgwake that takes clients.
#[derive(Debug)]
pub(super) struct Gateway {
    running: Running,
    port: u16,
    configuration: String,
    version: String,
    folder: PathBuf,
    log: PathBuf,
}

impl Gateway {
    /// Starts one; `name` is that of its folder, `sleepers` are endpoints with computes that sleep.
    pub(super) async fn start(
        work: &Work,
        name: &str,
        proxied: &Proxied<'_>,
        sleepers: &[String],
    ) -> Result<Self, String> {
        let folder = work.path(name);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let port = free_port()?;
        let configuration = configuration(&folder, port, proxied, sleepers);
        let file = folder.join("pgwake.toml");
        std::fs::write(&file, &configuration).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut command = work.as_ourselves(proxied.program, "TERM");
        command
            .args(["--log-format", "json", "serve", "--config"])
            .arg(&file);
        let log = folder.join("pgwake.log");
        let mut running = Running::start(command, log.clone(), Signal::TERM)?;
        running.listens(port).await?;
        Ok(Self {
            running,
            port,
            configuration: configuration.replace(proxied.verifier, "…"),
            version: version(proxied.program),
            folder,
            log,
        })
    }

    /// An endpoint as a target, with transaction pooling.
    pub(super) fn target(&self, endpoint: &str, ca: &Path, password: &str) -> Target {
        self.named(&format!("{endpoint}-pooler"), ca, password)
    }

    fn named(&self, label: &str, ca: &Path, password: &str) -> Target {
        Target {
            name: "pgwake".into(),
            part: Part::Subject,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)),
            ca: Some(ca.to_owned()),
            server_name: Some(format!("{label}.{DOMAIN}")),
            options: Some(format!("endpoint={label}")),
            role: ROLE.into(),
            database: DATABASE.into(),
            password: password.into(),
            pid: Some(self.running.pid()),
            version: self.version.clone(),
            configuration: self.configuration.clone(),
            sleeper: None,
        }
    }

    /// An endpoint with a compute that sleeps.
    pub(super) fn sleeping(&self, endpoint: &str, ca: &Path, password: &str) -> Target {
        let sleeper = Sleeper {
            endpoint: endpoint.into(),
            pid_file: self.data_dir(endpoint).join("postmaster.pid"),
            server_log: self.folder.join(format!("state/log/{endpoint}.log")),
            proxy_log: Some(self.log.clone()),
        };
        Target {
            sleeper: Some(sleeper),
            ..self.target(endpoint, ca, password)
        }
    }

    /// The same with session pooling.
    pub(super) fn sleeping_sessions(&self, endpoint: &str, ca: &Path, password: &str) -> Target {
        Target {
            sleeper: self.sleeping(endpoint, ca, password).sleeper,
            ..self.named(endpoint, ca, password)
        }
    }

    pub(super) fn data_dir(&self, endpoint: &str) -> PathBuf {
        self.folder.join("data").join(endpoint)
    }

    /// Waits until a data directory has been made and its server is stopped again.
    pub(super) async fn rests(&self, endpoint: &str) -> Result<(), String> {
        let data = self.data_dir(endpoint);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !data.join("PG_VERSION").exists() || data.join("postmaster.pid").exists() {
            if Instant::now() > deadline {
                return Err(format!("{}: not made, or not at rest", data.display()));
            }
            sleep(Duration::from_millis(20)).await;
        }
        // The last files of a stop are written after the process file is gone.
        sleep(Duration::from_millis(200)).await;
        Ok(())
    }

    /// Gives another endpoint, or somebody else, a copy of a data directory that is at rest.
    pub(super) fn copy(&self, from: &str, to: &Path) -> Result<(), String> {
        let mut command = std::process::Command::new("cp");
        command.arg("-aT").arg(self.data_dir(from)).arg(to);
        complete(command).map(drop)
    }
}

fn configuration(folder: &Path, port: u16, proxied: &Proxied<'_>, sleepers: &[String]) -> String {
    let (pool, verifier, server) = (proxied.pool, proxied.verifier, proxied.server);
    let mut text = format!(
        r#"state_dir = "{folder}/state"

[listen]
postgres = [{{ address = "127.0.0.1:{port}", tls = "optional" }}]

[routing]
domains = ["{DOMAIN}"]

[tls]
certificates = [{{ certificate = "{certificate}", key = "{key}" }}]

[defaults]
pool = {{ size = {pool} }}

[tenants.bench.roles.{ROLE}]
verifier = "{verifier}"

[tenants.bench.endpoints.bench-main]
compute = {{ kind = "fixed", address = "127.0.0.1:{server}", tls = "disable" }}

[tenants.loud]
limits.per_tenant = {{ transactions = "{LOUD_MAX}" }}

[tenants.loud.roles.{ROLE}]
verifier = "{verifier}"

[tenants.loud.endpoints.loud-main]
pool.size = 4
compute = {{ kind = "fixed", address = "127.0.0.1:{server}", tls = "disable" }}

[tenants.sleepy]
suspend_after = "{SUSPEND_AFTER}"

[tenants.sleepy.roles.{ROLE}]
verifier = "{verifier}"
"#,
        folder = folder.display(),
        certificate = proxied.certificate.certificate.display(),
        key = proxied.certificate.key.display(),
    );
    for name in sleepers {
        let _ = write!(
            text,
            "\n[tenants.sleepy.endpoints.{name}]\ncompute = {{ kind = \"process\", data_dir = \"{}/data/{name}\", \
             database = \"{DATABASE}\", owner = \"{ROLE}\" }}\n",
            folder.display()
        );
    }
    text
}
