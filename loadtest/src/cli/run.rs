//! `run`: one scenario at targets that are there.

use std::{fs, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use rustix::process::Signal;

use crate::{
    crew::Pace,
    machine::Machine,
    progress::Progress,
    results::Results,
    rounds::Rhythm,
    scenario::{
        Case, agents, alternate,
        bulk::{self, Way},
        drain, idle,
        neighbour::{self, Loudness},
        parked, storm, wake,
    },
    target::Target,
    workload::{Protocol, Statement, Workload},
};

#[derive(Debug, Args)]
pub(super) struct RunArguments {
    /// A JSON list of targets; see loadtest/README.md.
    targets: PathBuf,
    #[arg(value_enum)]
    scenario: Scenario,
    /// Clients at once.
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Seconds of each window.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Windows of each target; wakes, storms, cycles of sleep.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests or connects per second at an open pace; without it, as fast as answers come.
    #[arg(long)]
    rate: Option<f64>,
    /// What is asked.
    #[arg(long, value_enum, default_value_t = StatementName::One)]
    statement: StatementName,
    /// How it is sent.
    #[arg(long, value_enum, default_value_t = ProtocolName::Simple)]
    protocol: ProtocolName,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Megabytes of each round of `bulk`.
    #[arg(long, default_value_t = 200)]
    megabytes: usize,
    /// Where results and report go.
    #[arg(long, value_name = "FOLDER", default_value = "target/loadtest")]
    pub(super) out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Warm connects: TCP, TLS, SCRAM, first answer.
    Connect,
    /// Statements of connected clients.
    Query,
    /// One client at a sleeping compute, again and again.
    Wake,
    /// All clients at once on the sleeping computes of all targets.
    Storm,
    /// One short session for each target, at `--rate`.
    Agents,
    /// The first target's p99 beside the second one's clients.
    Neighbour,
    /// Pooled clients through cycles of sleep.
    Parked,
    /// Memory per idle client.
    Idle,
    /// Large select and COPY both ways (needs a table `bulk_sink (line text)`).
    Bulk,
    /// SIGTERM under load.
    Drain,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StatementName {
    /// `select 1`
    One,
    /// A row of 1 KiB.
    Kilobyte,
    /// pgbench's select by key (needs its tables).
    Account,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProtocolName {
    Simple,
    Extended,
    Prepared,
}

impl RunArguments {
    fn workload(&self) -> Workload {
        Workload {
            statement: match self.statement {
                StatementName::One => Statement::One,
                StatementName::Kilobyte => Statement::Kilobyte,
                StatementName::Account => Statement::Account,
            },
            protocol: match self.protocol {
                ProtocolName::Simple => Protocol::Simple,
                ProtocolName::Extended => Protocol::Extended,
                ProtocolName::Prepared => Protocol::Prepared,
            },
        }
    }

    fn rhythm(&self) -> Result<Rhythm, String> {
        let window =
            Duration::try_from_secs_f64(self.seconds).map_err(|error| format!("--seconds: {error}"))?;
        Ok(Rhythm {
            warm: window / 5,
            window,
            rounds: self.rounds,
        })
    }
}

/// Runs the scenario.
///
/// # Errors
/// Targets cannot be read or lack what the scenario needs.
pub(super) async fn run(arguments: &RunArguments) -> Result<Results, String> {
    let file = &arguments.targets;
    let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let targets: Vec<Target> =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    let first = targets.first().ok_or("no targets")?;
    let (clients, rounds) = (arguments.clients, arguments.rounds);
    let mut results = Results::new(&targets, Machine::look());
    let progress = Progress::begin(0);
    let measured = match arguments.scenario {
        Scenario::Connect | Scenario::Query => {
            alternate(&case(arguments, first), &targets, arguments.rhythm()?, &progress).await?
        }
        Scenario::Wake => wake::run(&targets, None, rounds, &progress).await?,
        Scenario::Storm => vec![storm::run(&targets, &first.name, clients, rounds, &progress).await?],
        Scenario::Agents => {
            let rate = arguments.rate.unwrap_or(4.0);
            vec![agents::run(&targets, &first.name, rate, &progress).await?]
        }
        Scenario::Neighbour => {
            let loud = targets
                .get(1)
                .ok_or("neighbour needs a second target, the loud one")?;
            let loudness = Loudness {
                quiet_per_second: arguments.rate.unwrap_or(200.0),
                loud_clients: clients,
            };
            vec![neighbour::run(first, loud, loudness, arguments.rhythm()?, &progress).await?]
        }
        Scenario::Parked | Scenario::Idle | Scenario::Drain => each(arguments, &targets, &progress).await?,
        Scenario::Bulk => {
            let mut measured = Vec::new();
            for way in [Way::Select, Way::CopyOut, Way::CopyIn] {
                measured.extend(bulk::run(&targets, way, arguments.megabytes, rounds, &progress).await?);
            }
            measured
        }
    };
    progress.end();
    results.measurements = measured;
    Ok(results)
}

fn case(arguments: &RunArguments, first: &Target) -> Case {
    let pace = arguments.rate.map_or(Pace::Closed, Pace::Open);
    let (workload, clients, threads) = (arguments.workload(), arguments.clients, arguments.threads.max(1));
    if arguments.scenario == Scenario::Connect {
        return Case::connect(workload, first.security(), pace, (clients, threads));
    }
    let case = Case::query(workload, first.security(), clients, threads);
    match arguments.rate {
        Some(rate) => case.at_rate(rate),
        None => case,
    }
}

/// Scenarios of one target at a time.
async fn each(
    arguments: &RunArguments,
    targets: &[Target],
    progress: &Progress,
) -> Result<Vec<crate::results::Measurement>, String> {
    let clients = arguments.clients;
    let mut measured = Vec::new();
    for target in targets {
        match arguments.scenario {
            Scenario::Parked => {
                measured.push(parked::run(target, clients, arguments.rounds, progress).await?)
            }
            Scenario::Idle => measured.extend(idle::run(target, &[clients], progress).await?),
            _ => measured.push(drain::run(target, clients, Signal::TERM, progress).await?),
        }
    }
    Ok(measured)
}
