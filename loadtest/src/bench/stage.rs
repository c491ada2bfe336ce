//! Everything that a run is made on: the folder, certificates, a server, the proxies, sleeping computes.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::{
    Order, Proxied,
    certificates::Certificates,
    gateway::Gateway,
    pgbouncer::{self, PgBouncer},
    postgres::{DATABASE, Postgres, ROLE, programs},
    work::Work,
};
use crate::{
    connection::{Connection, Door},
    scenario::wake::DirectStart,
    scram,
    target::{Part, Target},
};

/// Known to nobody but this run, which ends with its processes.
const PASSWORD: &str = "only for this run";
/// How long the first data directory may take to be made.
const FIRST_USE_PATIENCE: Duration = Duration::from_secs(120);
/// Server sessions of each proxy.
pub(super) const POOL: usize = 16;

/// What runs. Its parts end in this order: proxies before what they stand in front of.
#[derive(Debug)]
pub(super) struct Stage {
    gateway: Gateway,
    bouncer: PgBouncer,
    /// For prepared statements, where the other does not keep them.
    newer_bouncer: Option<PgBouncer>,
    postgres: Postgres,
    verifier: String,
    certificates: Certificates,
    pgwake: PathBuf,
    work: Work,
}

impl Stage {
    /// Starts all of it. `sleepers` are the endpoints with computes that sleep; the first is made by pgwake, the
    /// others are copies of it.
    pub(super) async fn set(order: &Order, sleepers: &[String]) -> Result<Self, String> {
        let work = Work::new()?;
        let certificates = Certificates::make(&work)?;
        let verifier = scram::verifier(PASSWORD);
        let postgres = Postgres::start(&work, &certificates.theirs, &verifier).await?;
        let bounced = Proxied {
            program: Path::new(pgbouncer::PROGRAM),
            server: postgres.port,
            verifier: &verifier,
            certificate: &certificates.theirs,
            pool: POOL,
        };
        let bouncer = PgBouncer::start(&work, &bounced).await?;
        let newer_bouncer = match &order.newer_pgbouncer {
            Some(program) if !bouncer.keeps_prepared() => {
                let program = &work.program(program, "newer-pgbouncer")?;
                Some(PgBouncer::start(&work, &Proxied { program, ..bounced }).await?)
            }
            _ => None,
        };
        let proxied = Proxied {
            program: &order.pgwake,
            certificate: &certificates.ours,
            ..bounced
        };
        let gateway = Gateway::start(&work, "pgwake", &proxied, sleepers).await?;
        let stage = Self {
            gateway,
            bouncer,
            newer_bouncer,
            postgres,
            verifier,
            certificates,
            pgwake: order.pgwake.clone(),
            work,
        };
        stage.make_computes(sleepers).await?;
        Ok(stage)
    }

    async fn make_computes(&self, sleepers: &[String]) -> Result<(), String> {
        let Some((first, others)) = sleepers.split_first() else {
            return Ok(());
        };
        let door = Door::new(&self.sleeper(first))?;
        let deadline = Instant::now() + FIRST_USE_PATIENCE;
        loop {
            match Connection::open(&door).await {
                Ok((connection, _)) => break connection.close().await,
                // Making a data directory takes longer than a client is held, on a busy machine.
                Err(failure) if failure.code() == "57P03" && Instant::now() < deadline => {}
                Err(failure) => return Err(format!("pgwake: the first connect to {first}: {failure}")),
            }
        }
        self.gateway.rests(first).await?;
        for other in others {
            self.gateway.copy(first, &self.gateway.data_dir(other))?;
        }
        Ok(())
    }

    /// pgwake, PgBouncer and the server itself, with TLS.
    pub(super) fn targets(&self) -> Result<Vec<Target>, String> {
        Ok(vec![
            self.gateway.target("bench-main", self.ca(), PASSWORD),
            self.bouncer.target(self.ca(), PASSWORD),
            self.postgres.target(self.ca(), PASSWORD)?,
        ])
    }

    /// The PgBouncer that prepared statements are measured beside, and what is to be known of it.
    pub(super) fn prepared_baseline(&self) -> (Target, String) {
        let keeping = self.newer_bouncer.as_ref().unwrap_or(&self.bouncer);
        let target = keeping.target(self.ca(), PASSWORD);
        let version = target.version.clone();
        if keeping.keeps_prepared() {
            let text = format!(
                "Prepared statements are measured beside {version}, which keeps them in transaction pooling."
            );
            return (target, text);
        }
        let text = format!(
            "Prepared statements through PgBouncer run in its session pooling with a session for each client, because {version} \
             cannot keep them in transaction pooling: that is the easier task."
        );
        (pgbouncer::with_sessions(&target), text)
    }

    /// The endpoint of the tenant that is loud.
    pub(super) fn loud(&self) -> Target {
        self.gateway.target("loud-main", self.ca(), PASSWORD)
    }

    /// An endpoint that sleeps, with transaction pooling.
    pub(super) fn sleeper(&self, endpoint: &str) -> Target {
        self.gateway.sleeping(endpoint, self.ca(), PASSWORD)
    }

    /// An endpoint that sleeps, with session pooling.
    pub(super) fn sleeper_with_sessions(&self, endpoint: &str) -> Target {
        self.gateway.sleeping_sessions(endpoint, self.ca(), PASSWORD)
    }

    /// The same Postgres as a sleeping endpoint's, to be started without pgwake.
    pub(super) fn direct_start(&self, endpoint: &str) -> Result<DirectStart, String> {
        let data_dir = self.work.path("direct");
        if !data_dir.exists() {
            self.gateway.copy(endpoint, &data_dir)?;
        }
        Ok(DirectStart {
            program: programs()?.join("postgres"),
            data_dir,
            socket_dir: self.work.folder("direct-socket")?,
            account: self.work.account,
            target: Target {
                part: Part::Direct,
                ca: None,
                options: None,
                role: ROLE.into(),
                database: DATABASE.into(),
                ..self.postgres.target(self.ca(), PASSWORD)?
            },
        })
    }

    /// Proxies that nobody has used yet, in front of the same server; they end with the value.
    pub(super) async fn fresh(&self, name: &str) -> Result<Fresh, String> {
        let bounced = Proxied {
            program: Path::new(pgbouncer::PROGRAM),
            server: self.postgres.port,
            verifier: &self.verifier,
            certificate: &self.certificates.theirs,
            pool: POOL,
        };
        let proxied = Proxied {
            program: &self.pgwake,
            certificate: &self.certificates.ours,
            ..bounced
        };
        let gateway = Gateway::start(&self.work, name, &proxied, &[]).await?;
        let bouncer = PgBouncer::start(&self.work, &bounced).await?;
        let targets = [
            gateway.target("bench-main", self.ca(), PASSWORD),
            bouncer.target(self.ca(), PASSWORD),
        ];
        Ok(Fresh {
            targets,
            _gateway: gateway,
            _bouncer: bouncer,
        })
    }

    fn ca(&self) -> &Path {
        &self.certificates.ca
    }
}

/// Proxies for one measurement.
#[derive(Debug)]
pub(super) struct Fresh {
    pub(super) targets: [Target; 2],
    _gateway: Gateway,
    _bouncer: PgBouncer,
}
