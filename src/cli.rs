//! Arguments and exit codes. Each command is a file of its own; this one chooses.
//!
//! Exit codes: 0 done, 1 failed (`wait`: not in time; `doctor`: something is wrong), 2 wrong arguments, 64 wrong
//! configuration.

mod branch;
pub mod check;
mod demo;
pub mod dev_ca;
mod doctor;
pub mod hash_password;
mod import;
mod replace;
mod running;
mod serve;
mod wait;

use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::auth::ITERATIONS_DEFAULT;
use crate::config::parse_duration;
use crate::telemetry::{self, LogFormat};

/// The arguments are wrong, as clap has it.
const EXIT_ARGUMENTS: u8 = 2;
/// The configuration is wrong (EX_USAGE of sysexits.h).
const EXIT_CONFIG: u8 = 64;

const EXAMPLES: &str = "\
Try it:
  pgwake demo                                  two sleeping Postgres, and lines to paste
Run it:
  pgwake hash-password --role app              what a configuration knows of a password
  pgwake check /etc/pgwake/pgwake.toml         all problems at once, or what holds and why
  pgwake serve --config /etc/pgwake/pgwake.toml
  pgwake import-pgbouncer pgbouncer.ini        PgBouncer's configuration as one of pgwake
  pgwake replace                               after an upgrade: the new program takes the old one's place without a gap
  pgwake wait --for ready --max 30s            for scripts: returns once clients may come
  pgwake branch create demo-main agent-42      a copy of a database, as demo-main--agent-42.<domain>
When a client cannot connect:
  pgwake doctor \"host=main.db.example.com user=app sslmode=verify-full sslrootcert=system\"

Signals: SIGTERM or Ctrl-C drains (transactions may finish) and stops the computes; a second one does not wait.
SIGHUP has the configuration read again.";

/// The address that applications connect to when their Postgres is serverless.
///
/// pgwake terminates TLS, finds the endpoint by the server name, proves who the client is, wakes the Postgres
/// behind it, relays, and lets it go back to sleep.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    logging: Logging,
}

#[derive(Debug, Args)]
struct Logging {
    /// Log more: -v every session's line in the demo and debug elsewhere, -vv everything. RUST_LOG wins.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
    /// Form of the log lines on standard error.
    #[arg(long, value_enum, default_value_t = Format::Text, global = true)]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One object per line.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start two sleeping Postgres of its own to try pgwake with; Ctrl-C ends it, the data stays.
    Demo(DemoArguments),
    /// Serve what a configuration file says.
    Serve {
        /// The configuration; config/reference.toml lists every key.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Take the place of the pgwake that serves the same state_dir, if one does, without a gap.
        #[arg(long)]
        replace: bool,
    },
    /// Have a running pgwake start its successor: its own program, as it is by now, with its own arguments.
    Replace(replace::ReplaceArguments),
    /// Check a configuration: all of its problems, or the values that hold and where each comes from.
    Check {
        /// The configuration.
        file: PathBuf,
        /// Show this endpoint alone, with all of its values.
        #[arg(long, value_name = "NAME")]
        endpoint: Option<String>,
    },
    /// Turn a password into what pgwake and Postgres know of it. Asks without echo, or reads a line of stdin.
    HashPassword {
        /// The role, for the ALTER ROLE statement.
        #[arg(long, value_name = "NAME")]
        role: Option<String>,
        /// Rounds of PBKDF2; what Postgres itself would use.
        #[arg(long, value_name = "N", default_value_t = ITERATIONS_DEFAULT)]
        iterations: u32,
    },
    /// Wait until a pgwake is ready, for scripts and sidecars: asks its port for operators, needs no token.
    Wait(wait::WaitArguments),
    /// Make, list, reset and delete branches of a local Postgres, by way of the pgwake that serves it.
    Branch(branch::BranchArguments),
    /// Walk the way of a connection from here, step by step, to the first thing that is wrong, and say what to do.
    Doctor(doctor::DoctorArguments),
    /// Print PgBouncer's configuration as one of pgwake; what does not carry over is a comment that says what to do.
    ImportPgbouncer(import::ImportArguments),
}

#[derive(Debug, Args)]
struct DemoArguments {
    /// Where the demo keeps its databases and its password.
    #[arg(long, value_name = "DIR", default_value = ".demo")]
    data: PathBuf,
    /// Where clients connect; port 0 lets the system choose. [default: 127.0.0.1:6432, or a free port]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How long after its last client a Postgres is suspended, e.g. 20s or 5m.
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    suspend_after: Duration,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| error.to_string())
}

/// Runs the program with the arguments of the process.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let format = match arguments.logging.log_format {
        Format::Text => LogFormat::Text,
        Format::Json => LogFormat::Json,
    };
    let filter = filter(
        arguments.logging.verbose,
        matches!(arguments.command, Command::Demo(_)),
    );
    let _logging = match telemetry::begin(format, filter) {
        Ok(logging) => logging,
        Err(error) => return fail(&error, 1),
    };
    match arguments.command {
        Command::Demo(demo) => demo::run(&demo),
        Command::Serve { config, replace } => serve::run(
            &config,
            match replace {
                true => serve::Beginning::InPlace,
                false => serve::Beginning::Alone,
            },
        ),
        Command::Replace(replace) => match replace::run(&replace, &mut io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, error.exit_code()),
        },
        Command::Check { file, endpoint } => check_file(&file, endpoint.as_deref()),
        Command::HashPassword { role, iterations } => {
            match hash_password::run(role.as_deref(), iterations, &mut io::stdout().lock()) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error, 1),
            }
        }
        Command::Wait(wait) => match wait::run(&wait) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, error.exit_code()),
        },
        Command::Branch(branch) => match branch::run(&branch, &mut io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, error.exit_code()),
        },
        Command::Doctor(doctor) => match doctor::run(&doctor, &mut io::stdout().lock()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error @ doctor::DoctorError::Asked(_)) => fail(&error, EXIT_ARGUMENTS),
            Err(error) => fail(&error, 1),
        },
        Command::ImportPgbouncer(import) => match import::run(&import, &mut io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error, 1),
        },
    }
}

fn filter(verbose: u8, demo: bool) -> &'static str {
    match (verbose, demo) {
        // The demo is about waking and sleeping; a line per session would hide it.
        (0, true) => "warn,pgwake=info,pgwake::access=warn",
        (0, false) | (1, true) => "warn,pgwake=info",
        (1, false) | (2, true) => "info,pgwake=debug",
        _ => "debug,pgwake=trace",
    }
}

fn check_file(file: &std::path::Path, endpoint: Option<&str>) -> ExitCode {
    match check::run(file, endpoint, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(check::CheckError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error @ check::CheckError::Output(_)) => fail(&error, 1),
        Err(error) => fail(&error, EXIT_CONFIG),
    }
}

/// Says why on standard error.
fn fail(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    // Nobody may be reading; the exit code says it in any case.
    let _ = writeln!(io::stderr().lock(), "pgwake: {error}");
    ExitCode::from(code)
}
