//! What a run measures, in which order, and how much of it.

use std::time::Duration;

use clap::ValueEnum;
use rustix::process::Signal;

use super::{
    Order,
    stage::{POOL, Stage},
};
use crate::{
    crew::Pace,
    machine::Machine,
    progress::Progress,
    results::{Measurement, Results},
    rounds::Rhythm,
    scenario::{
        Case, agents, alternate,
        bulk::{self, Way},
        drain, idle,
        neighbour::{self, Loudness},
        parked, storm, wake,
    },
    target::{Part, Target},
    workload::{Protocol, Statement, Workload},
};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Size {
    /// Every scenario once, with numbers too small to mean anything.
    Smoke,
    /// Under five minutes.
    Short,
    /// All cases, long windows, many rounds.
    Full,
}

struct Scale {
    rhythm: Rhythm,
    /// Clients of the simple protocol, plain.
    clients: &'static [usize],
    tls_clients: &'static [usize],
    connects_per_second: f64,
    wakes: usize,
    storms: &'static [usize],
    /// Clients, endpoints.
    many: (usize, usize),
    /// Clients, cycles.
    parked: (usize, usize),
    idle: &'static [usize],
    agents: usize,
    megabytes: usize,
    drain_clients: usize,
    loud_clients: usize,
    /// Windows of `neighbour`: a p99 needs some 1,000 answers in each.
    neighbour: Rhythm,
}

const fn rhythm(warm_ms: u64, window_ms: u64, rounds: usize) -> Rhythm {
    Rhythm {
        warm: Duration::from_millis(warm_ms),
        window: Duration::from_millis(window_ms),
        rounds,
    }
}

const SMOKE: Scale = Scale {
    rhythm: rhythm(50, 250, 2),
    clients: &[2],
    tls_clients: &[2],
    connects_per_second: 20.0,
    wakes: 2,
    storms: &[5],
    many: (4, 2),
    parked: (10, 1),
    idle: &[60],
    agents: 2,
    megabytes: 2,
    drain_clients: 4,
    loud_clients: 4,
    neighbour: rhythm(50, 250, 2),
};

const SHORT: Scale = Scale {
    rhythm: rhythm(250, 1250, 3),
    clients: &[1, 16, 64, 256],
    tls_clients: &[64],
    connects_per_second: 150.0,
    wakes: 50,
    storms: &[1, 10, 100, 1000],
    many: (100, 10),
    parked: (500, 3),
    idle: &[1000],
    agents: 12,
    megabytes: 150,
    drain_clients: 32,
    loud_clients: 64,
    neighbour: rhythm(250, 3000, 5),
};

const FULL: Scale = Scale {
    rhythm: rhythm(500, 4000, 7),
    clients: &[1, 16, 64, 256, 1000],
    tls_clients: &[1, 16, 64, 256, 1000],
    connects_per_second: 200.0,
    wakes: 50,
    storms: &[1, 10, 100, 1000],
    many: (1000, 20),
    parked: (2000, 5),
    idle: &[1000, 5000, 10_000],
    agents: 40,
    megabytes: 500,
    drain_clients: 64,
    loud_clients: 256,
    neighbour: rhythm(500, 8000, 7),
};

const SIMPLE: Workload = Workload {
    statement: Statement::Account,
    protocol: Protocol::Simple,
};
const PREPARED: Workload = Workload {
    protocol: Protocol::Prepared,
    ..SIMPLE
};
const ONE: Workload = Workload {
    statement: Statement::One,
    protocol: Protocol::Simple,
};
/// Beyond this the server itself gets a process per client that nobody would have.
const DIRECT_CLIENTS_MAX: usize = 64;
/// What the tenant asks for whose p99 is looked at.
const QUIET_PER_SECOND: f64 = 500.0;
/// Clients that connect at a time.
const CONNECTING: usize = 4;

impl Size {
    fn scale(self) -> &'static Scale {
        match self {
            Self::Smoke => &SMOKE,
            Self::Short => &SHORT,
            Self::Full => &FULL,
        }
    }
}

struct Suite {
    stage: Stage,
    targets: Vec<Target>,
    results: Results,
    progress: Progress,
    scale: &'static Scale,
    size: Size,
}

/// Sets everything up, measures, takes everything down.
///
/// # Errors
/// Something could not be started, or does not do what a measurement needs.
pub(crate) async fn run(order: &Order) -> Result<Results, String> {
    let machine = Machine::look();
    let scale = order.size.scale();
    let names = sleepers(scale);
    let progress = Progress::begin(0);
    progress.step("starting Postgres, PgBouncer and pgwake");
    let stage = Stage::set(order, &names).await?;
    let targets = stage.targets()?;
    let mut results = Results::new(&targets, machine);
    results.notes = vec![note(), stage.prepared_baseline().1];
    let mut suite = Suite {
        stage,
        targets,
        results,
        progress,
        scale,
        size: order.size,
    };
    let wanted = |name: &str| order.only.is_empty() || order.only.iter().any(|only| only == name);
    for scenario in [
        "query",
        "connect",
        "wake",
        "storm",
        "parked",
        "agents",
        "neighbour",
        "bulk",
        "idle",
        "drain",
    ] {
        if wanted(scenario) {
            suite.scenario(scenario).await?;
        }
    }
    suite.progress.end();
    Ok(suite.results)
}

fn sleepers(scale: &Scale) -> Vec<String> {
    let mut names: Vec<String> = ["wake-one", "storm-one", "parked-one"].map(String::from).to_vec();
    names.extend((0..scale.many.1).map(|index| format!("many-{index:02}")));
    names.extend((0..scale.agents).map(|index| format!("agent-{index:02}")));
    names
}

fn note() -> String {
    format!(
        "Clients, proxies and servers share this machine's cores. {POOL} server sessions for each proxy, \
         transaction pooling; no client pins a session; no test aids are built in. pgwake ran with TLS, SNI \
         routing, access log and all checks on, PgBouncer with its log."
    )
}

impl Suite {
    async fn scenario(&mut self, name: &str) -> Result<(), String> {
        match name {
            "query" => self.query().await,
            "connect" => self.connect().await,
            "wake" => self.wake().await,
            "storm" => self.storm().await,
            "parked" => self.parked().await,
            "agents" => self.agents().await,
            "neighbour" => self.neighbour().await,
            "bulk" => self.bulk().await,
            "idle" => self.idle().await,
            _ => self.drain().await,
        }
    }

    fn add(&mut self, measurements: impl IntoIterator<Item = Measurement>) {
        self.results.measurements.extend(measurements);
    }

    async fn windows(&mut self, case: &Case, targets: &[Target]) -> Result<(), String> {
        let measured = alternate(case, targets, self.scale.rhythm, &self.progress).await?;
        self.add(measured);
        Ok(())
    }

    /// The targets that can have so many clients.
    fn targets_for(&self, clients: usize) -> Vec<Target> {
        let fits = |target: &&Target| target.part != Part::Direct || clients <= DIRECT_CLIENTS_MAX;
        self.targets.iter().filter(fits).cloned().collect()
    }

    async fn query(&mut self) -> Result<(), String> {
        for clients in self.scale.clients {
            let targets: Vec<Target> = self.targets_for(*clients).iter().map(Target::plain).collect();
            self.windows(&Case::query(SIMPLE, "plain", *clients, 1), &targets)
                .await?;
        }
        for clients in self.scale.tls_clients {
            self.windows(
                &Case::query(SIMPLE, "tls", *clients, 1),
                &self.targets_for(*clients),
            )
            .await?;
        }
        let prepared: Vec<Target> = self
            .targets
            .iter()
            .map(|target| match target.part {
                Part::Baseline => self.stage.prepared_baseline().0.plain(),
                _ => target.plain(),
            })
            .collect();
        self.windows(&Case::query(PREPARED, "plain", POOL, 1), &prepared)
            .await?;
        let plain: Vec<Target> = self.targets.iter().map(Target::plain).collect();
        self.windows(&Case::query(SIMPLE, "plain", POOL, 1).at_rate(1000.0), &plain)
            .await?;
        if self.size == Size::Full {
            for statement in [Statement::One, Statement::Kilobyte, Statement::Account] {
                for protocol in [Protocol::Simple, Protocol::Extended] {
                    let workload = Workload { statement, protocol };
                    self.windows(&Case::query(workload, "tls", POOL, 1), &self.targets.clone())
                        .await?;
                }
            }
        }
        Ok(())
    }

    async fn connect(&mut self) -> Result<(), String> {
        let targets = self.targets.clone();
        let closed = Case::connect(ONE, "tls", Pace::Closed, (CONNECTING, 1));
        self.windows(&closed, &targets).await?;
        let open = Pace::Open(self.scale.connects_per_second);
        let open = Case::connect(ONE, "tls", open, (CONNECTING, 1));
        self.windows(&open, &targets).await
    }

    async fn wake(&mut self) -> Result<(), String> {
        let direct = self.stage.direct_start("wake-one")?;
        let pooled = self.stage.sleeper("wake-one");
        let sessions = Target {
            name: "pgwake, session pooling".into(),
            ..self.stage.sleeper_with_sessions("wake-one")
        };
        let measured = wake::run(
            &[pooled, sessions],
            Some(&direct),
            self.scale.wakes,
            &self.progress,
        )
        .await?;
        self.add(measured);
        Ok(())
    }

    async fn storm(&mut self) -> Result<(), String> {
        let one = [self.stage.sleeper("storm-one")];
        for clients in self.scale.storms {
            let measured = storm::run(&one, "pgwake", *clients, 1, &self.progress).await?;
            self.add([measured]);
        }
        let (clients, endpoints) = self.scale.many;
        let many: Vec<Target> = (0..endpoints)
            .map(|index| self.stage.sleeper(&format!("many-{index:02}")))
            .collect();
        let measured = storm::run(&many, "pgwake", clients, 1, &self.progress).await?;
        self.add([measured]);
        Ok(())
    }

    async fn parked(&mut self) -> Result<(), String> {
        let (clients, cycles) = self.scale.parked;
        let target = self.stage.sleeper("parked-one");
        let measured = parked::run(&target, clients, cycles, &self.progress).await?;
        self.add([measured]);
        Ok(())
    }

    async fn agents(&mut self) -> Result<(), String> {
        let endpoints: Vec<Target> = (0..self.scale.agents)
            .map(|index| self.stage.sleeper(&format!("agent-{index:02}")))
            .collect();
        let measured = agents::run(&endpoints, "pgwake", 4.0, &self.progress).await?;
        self.add([measured]);
        Ok(())
    }

    async fn neighbour(&mut self) -> Result<(), String> {
        let loudness = Loudness {
            quiet_per_second: QUIET_PER_SECOND,
            loud_clients: self.scale.loud_clients,
        };
        let (quiet, loud) = (self.targets[0].clone(), self.stage.loud());
        let measuring = neighbour::run(&quiet, &loud, loudness, self.scale.neighbour, &self.progress);
        self.add([measuring.await?]);
        Ok(())
    }

    async fn bulk(&mut self) -> Result<(), String> {
        let plain: Vec<Target> = self.targets.iter().map(Target::plain).collect();
        for (targets, ways) in [
            (plain, [Way::Select, Way::CopyOut, Way::CopyIn].as_slice()),
            (self.targets.clone(), &[Way::Select]),
        ] {
            for way in ways {
                let (size, rounds) = (self.scale.megabytes, self.scale.rhythm.rounds);
                let measured = bulk::run(&targets, *way, size, rounds, &self.progress).await?;
                self.add(measured);
            }
        }
        Ok(())
    }

    async fn idle(&mut self) -> Result<(), String> {
        for security in ["plain", "tls"] {
            let fresh = self.stage.fresh(&format!("idle-{security}")).await?;
            for target in &fresh.targets {
                let target = match security {
                    "plain" => target.plain(),
                    _ => target.clone(),
                };
                let measured = idle::run(&target, self.scale.idle, &self.progress).await?;
                self.add(measured);
            }
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), String> {
        let fresh = self.stage.fresh("drain").await?;
        // Each by the signal that lets transactions end.
        for (target, signal) in fresh.targets.iter().zip([Signal::TERM, Signal::INT]) {
            let measured = drain::run(target, self.scale.drain_clients, signal, &self.progress).await?;
            self.add([measured]);
        }
        Ok(())
    }
}
