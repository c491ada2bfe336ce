//! `pgwake replace`: has the pgwake that serves a `state_dir` start its own successor, and waits until that has taken over.
//!
//! The running one starts it because then it belongs to the same service, whoever looks after that. Called by `cli`.

use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use tokio::{runtime::Builder, time::timeout};

use super::{
    EXIT_CONFIG,
    running::{Unreached, state_dir},
};
use crate::config::Problems;
use crate::succession::{Channel, Word};

/// Longer than the running one gives its successor.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);

/// Which pgwake.
#[derive(Debug, Args)]
pub(super) struct ReplaceArguments {
    /// Take the state_dir from this configuration.
    #[arg(long, value_name = "FILE", conflicts_with = "state_dir")]
    config: Option<PathBuf>,
    /// The state_dir of the pgwake that is to be replaced. [default: /var/lib/pgwake]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

/// Why it serves as before, or why nobody knows.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The configuration is wrong: the successor would not take it, either.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// Nothing could be said.
    #[error(transparent)]
    Unreached(#[from] Unreached),
    /// It goes on serving.
    #[error("not replaced: {0}")]
    Refused(String),
    /// It has ended in the middle, or something else is there.
    #[error("pgwake did not answer: its log says what became of it")]
    NoAnswer,
    /// Nobody reads what is printed, or there is no runtime.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl CommandError {
    /// What scripts tell it by.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Problems(_) => EXIT_CONFIG,
            _ => 1,
        }
    }
}

/// Has it done, and prints what came of it.
///
/// # Errors
/// [`CommandError`]
pub(super) fn run(arguments: &ReplaceArguments, out: &mut impl Write) -> Result<(), CommandError> {
    let state_dir = state_dir(arguments.config.as_ref(), arguments.state_dir.as_ref())?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let pid = runtime.block_on(async {
        let channel = Channel::connect(&state_dir).map_err(|error| Unreached::new(&state_dir, error))?;
        channel.say(&Word::Start).await?;
        match timeout(ANSWER_TIMEOUT, channel.hear()).await {
            Ok(Ok(Some((Word::Done(pid), _)))) => Ok(pid),
            Ok(Ok(Some((Word::Refused(reason), _)))) => Err(CommandError::Refused(reason)),
            _ => Err(CommandError::NoAnswer),
        }
    })?;
    writeln!(out, "replaced: pgwake with pid {pid} serves from now on")?;
    Ok(())
}
