//! How this process logs: readable lines for a terminal, or JSON, one object per line.
//!
//! It only sets up; what is worth a line is each module's own business. Set up once, by `cli`.

mod lines;

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

use lines::{Lines, Writing};

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// Logging has begun. Dropping it writes what is still waiting.
pub struct Logging(#[expect(dead_code, reason = "held for its drop")] Writing);

/// Begins to log to standard error, on a thread of its own. `RUST_LOG` wins over `filter`.
///
/// # Errors
/// `RUST_LOG` is not a filter, or there can be no thread; the text says what is wrong.
pub fn begin(format: LogFormat, filter: &str) -> Result<Logging, String> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(text) if !text.is_empty() => text
            .parse::<EnvFilter>()
            .map_err(|error| format!("RUST_LOG: {error}"))?,
        _ => EnvFilter::new(filter),
    };
    let writer = Lines::default();
    let tell_dropped = |lines| tracing::warn!(lines, "log lines were left out: they were not read in time");
    let writing = writer
        .write_to(io::stderr(), tell_dropped)
        .map_err(|error| format!("no thread for log lines: {error}"))?;
    let registry = registry().with(filter);
    let result = match format {
        LogFormat::Text => {
            let ansi = io::stderr().is_terminal();
            let lines = fmt::layer()
                .with_writer(writer)
                .with_ansi(ansi)
                .with_target(false);
            registry.with(lines).try_init()
        }
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_writer(writer);
            registry.with(lines).try_init()
        }
    };
    result
        .map(|()| Logging(writing))
        .map_err(|error| error.to_string())
}
