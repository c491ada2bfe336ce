//! Arguments and exit codes: 0 done, 1 failed or worse than before, 2 wrong arguments.

mod run;

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime;

use crate::{
    bench::{self, Order, Size},
    compare, figures, report,
    results::Results,
};

const EXAMPLES: &str = "\
  pgwake-loadtest bench                            pgwake, PgBouncer and Postgres itself, set up by this program
  pgwake-loadtest run targets.json query --clients 64 --protocol prepared
  pgwake-loadtest compare before/ after/           what changed beyond noise
  pgwake-loadtest report after/                    the report again, from its results";

/// Measures what a Postgres proxy costs and what a wake feels like.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Set up Postgres, PgBouncer and pgwake on loopback and measure them side by side.
    Bench {
        /// How much.
        #[arg(long, value_enum, default_value_t = Size::Short)]
        size: Size,
        /// The pgwake to be measured. [default: beside this program]
        #[arg(long, value_name = "PROGRAM")]
        pgwake: Option<PathBuf>,
        /// A PgBouncer of 1.21 or later, for prepared statements where the system's is older.
        #[arg(long, value_name = "PROGRAM")]
        newer_pgbouncer: Option<PathBuf>,
        /// Where results and report go.
        #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
        out: PathBuf,
        /// Only these scenarios.
        #[arg(long, value_name = "SCENARIO", value_delimiter = ',')]
        only: Vec<String>,
    },
    /// Run one scenario at targets that are there, in turn.
    Run(run::RunArguments),
    /// Make the report of a run again.
    Report {
        /// A results.json, or its folder.
        results: PathBuf,
        /// [default: report.html beside the results]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Tell what changed beyond noise; exit code 1 where something became worse.
    Compare {
        /// A results.json, or its folder.
        old: PathBuf,
        /// A results.json, or its folder.
        new: PathBuf,
    },
    /// Print the targets and what was measured as a table of Markdown.
    Figures {
        /// A results.json, or its folder.
        results: PathBuf,
    },
}

/// Runs the program with the arguments of the process.
pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    raise_file_limit();
    match execute(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            // Nobody may be reading; the exit code says it too.
            let _ = writeln!(io::stderr(), "pgwake-loadtest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> Result<ExitCode, String> {
    match command {
        Command::Bench {
            size,
            pgwake,
            newer_pgbouncer,
            out,
            only,
        } => {
            let order = Order {
                size,
                pgwake: found(&pgwake.map_or_else(beside, Ok)?)?,
                newer_pgbouncer: newer_pgbouncer.as_deref().map(found).transpose()?,
                only,
            };
            let results = block_on(bench::run(&order))?;
            finish(&results, &out)
        }
        Command::Run(arguments) => {
            let results = block_on(run::run(&arguments))?;
            finish(&results, &arguments.out)
        }
        Command::Report { results, out } => {
            let file = results_file(&results);
            let page = report::page(&Results::read(&file)?);
            let out = out.unwrap_or_else(|| file.with_file_name("report.html"));
            fs::write(&out, page).map_err(|error| format!("{}: {error}", out.display()))?;
            print(&format!("{}\n", out.display()));
            Ok(ExitCode::SUCCESS)
        }
        Command::Compare { old, new } => {
            let (text, is_good) = compare::run(
                &Results::read(&results_file(&old))?,
                &Results::read(&results_file(&new))?,
            );
            print(&text);
            Ok(if is_good {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            })
        }
        Command::Figures { results } => {
            print(&figures::markdown(&Results::read(&results_file(&results))?));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// A program, from wherever it is run.
fn found(program: &Path) -> Result<PathBuf, String> {
    let found = program.canonicalize();
    found.map_err(|error| format!("{}: {error}", program.display()))
}

/// Writes everything; fails where a target did.
fn finish(results: &Results, out: &Path) -> Result<ExitCode, String> {
    let wrong = |error: io::Error| format!("{}: {error}", out.display());
    results.write(out).map_err(wrong)?;
    let report = out.join("report.html");
    fs::write(&report, report::page(results)).map_err(wrong)?;
    print(&figures::markdown(results));
    print(&format!("{}\n", report.display()));
    let failed: Vec<_> = results.measurements.iter().filter(|m| m.is_failed()).collect();
    for measurement in &failed {
        let words: Vec<&str> = measurement.words.values().map(String::as_str).collect();
        print(&format!(
            "failed: {}: {}: {}: {}\n",
            measurement.scenario,
            measurement.case,
            measurement.target,
            words.join("; ")
        ));
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(text: &str) {
    // Nobody may be reading.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn results_file(path: &Path) -> PathBuf {
    if path.is_dir() {
        path.join("results.json")
    } else {
        path.to_owned()
    }
}

fn beside() -> Result<PathBuf, String> {
    let own = env::current_exe().map_err(|error| error.to_string())?;
    let pgwake = own.with_file_name("pgwake");
    match pgwake.exists() {
        true => Ok(pgwake),
        false => Err(format!(
            "no {}: build pgwake, or name one with --pgwake",
            pgwake.display()
        )),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(work)
}

/// Each client needs a file.
fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    // Where it cannot be raised, connects fail and are counted.
    let _ = setrlimit(Resource::Nofile, wanted);
}
