//! `pgwake branch`: makes, lists, renews, resets and deletes branches.
//!
//! The pgwake that serves the parent does it, because it alone knows when the parent's files rest. It is asked over the
//! socket in its `state_dir`, by the same API as over the port of operators. Called by `cli`.

use std::{
    fmt,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, Subcommand};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::UnixStream, runtime::Builder};

use super::{
    EXIT_CONFIG,
    running::{Unreached, state_dir},
};
use crate::config::{DurationText, Problems, SizeText};
use crate::ids::{BranchName, EndpointName, NameError};
use crate::store::control;

/// Longest answer: a page of a thousand branches has some 600 KB.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What is to be done, and by which pgwake.
#[derive(Debug, Args)]
pub(super) struct BranchArguments {
    #[command(subcommand)]
    what: What,
    /// Take the state_dir from this configuration.
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "state_dir")]
    config: Option<PathBuf>,
    /// The state_dir of the pgwake that serves the parent. [default: /var/lib/pgwake]
    #[arg(long, value_name = "DIR", global = true)]
    state_dir: Option<PathBuf>,
    /// Print what the API answers.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the branch PARENT--NAME, or find the one that is there.
    Create {
        /// The endpoint to branch from.
        parent: String,
        /// The branch's name beside its parent's.
        name: String,
        /// Remove it when nobody has used it for so long, e.g. 1h.
        #[arg(long, value_name = "DURATION", value_parser = super::duration)]
        ttl: Option<Duration>,
        /// How long making it may take. [default: the parent's hold_timeout]
        #[arg(long, value_name = "DURATION", value_parser = super::duration)]
        max: Option<Duration>,
    },
    /// List all branches, or those of one endpoint.
    List {
        /// The endpoint.
        parent: Option<String>,
    },
    /// Delete a branch with its data: PARENT--NAME, or PARENT NAME.
    Delete {
        /// Which.
        #[arg(num_args = 1..=2, required = true, value_name = "BRANCH")]
        branch: Vec<String>,
    },
    /// Make a branch anew, as its parent is now: PARENT--NAME, or PARENT NAME.
    Reset {
        /// Which.
        #[arg(num_args = 1..=2, required = true, value_name = "BRANCH")]
        branch: Vec<String>,
        /// How long it may take. [default: the parent's hold_timeout]
        #[arg(long, value_name = "DURATION", value_parser = super::duration)]
        max: Option<Duration>,
    },
    /// Let a branch's ttl begin anew: PARENT--NAME, or PARENT NAME.
    Renew {
        /// Which.
        #[arg(num_args = 1..=2, required = true, value_name = "BRANCH")]
        branch: Vec<String>,
        /// Another one from now on: a duration, or never.
        #[arg(long, value_name = "DURATION", value_parser = ttl)]
        ttl: Option<String>,
    },
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    /// The configuration is wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// No branch has such a name.
    #[error("{0:?}: {1}")]
    Name(String, NameError),
    /// The name is an endpoint's.
    #[error("{0:?} names no branch: write PARENT--NAME, or PARENT NAME")]
    NoBranch(String),
    /// Nothing could be said.
    #[error(transparent)]
    Unreached(#[from] Unreached),
    /// It does not do it.
    #[error("{0}")]
    Refused(String),
    /// It has ended in the middle, or something else is there.
    #[error("pgwake did not answer: {0}")]
    NoAnswer(String),
    /// Nobody reads what is printed.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
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

fn ttl(text: &str) -> Result<String, String> {
    match text {
        "never" => Ok(text.to_owned()),
        text => super::duration(text).map(|_| text.to_owned()),
    }
}

/// Has it done, and prints what came of it.
///
/// # Errors
/// [`CommandError`]
pub(super) fn run(arguments: &BranchArguments, out: &mut impl Write) -> Result<(), CommandError> {
    let (method, path) = request(&arguments.what)?;
    let state_dir = state_dir(arguments.config.as_ref(), arguments.state_dir.as_ref())?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(ask(&state_dir, method, &path))?;
    if arguments.json {
        writeln!(out, "{answer}")?;
        return Ok(());
    }
    match &arguments.what {
        What::List { .. } => list(&answer, out)?,
        What::Delete { branch } => writeln!(out, "deleted {}", branch.join("--"))?,
        What::Create { .. } | What::Reset { .. } | What::Renew { .. } => describe(&answer, out)?,
    }
    Ok(())
}

/// The request of the API that does it.
fn request(what: &What) -> Result<(Method, String), CommandError> {
    let duration = |name: &str, duration: &Option<Duration>| {
        duration.map(|duration| format!("{name}={}", DurationText(duration)))
    };
    let with = |path: String, parameters: Vec<String>| match parameters.is_empty() {
        true => path,
        false => format!("{path}?{}", parameters.join("&")),
    };
    Ok(match what {
        What::Create {
            parent,
            name,
            ttl,
            max,
        } => {
            let wrong = |text: &str, error| CommandError::Name(text.to_owned(), error);
            let parent = EndpointName::parse(parent).map_err(|error| wrong(parent, error))?;
            let name = BranchName::parse(name).map_err(|error| wrong(name, error))?;
            let said = [
                Some(format!("name={name}")),
                duration("ttl", ttl),
                duration("max", max),
            ];
            let path = format!("endpoints/{parent}/branches");
            (Method::POST, with(path, said.into_iter().flatten().collect()))
        }
        What::List { parent: None } => (Method::GET, "branches?limit=1000".to_owned()),
        What::List { parent: Some(parent) } => {
            let parent =
                EndpointName::parse(parent).map_err(|error| CommandError::Name(parent.clone(), error))?;
            (Method::GET, format!("endpoints/{parent}/branches?limit=1000"))
        }
        What::Delete { branch } => (Method::DELETE, format!("branches/{}", named(branch)?)),
        What::Reset { branch, max } => {
            let path = format!("branches/{}/reset", named(branch)?);
            (
                Method::POST,
                with(path, duration("max", max).into_iter().collect()),
            )
        }
        What::Renew { branch, ttl } => {
            let path = format!("branches/{}/renew", named(branch)?);
            let ttl = ttl.iter().map(|ttl| format!("ttl={ttl}"));
            (Method::POST, with(path, ttl.collect()))
        }
    })
}

/// `PARENT--NAME`, or both apart.
fn named(words: &[String]) -> Result<EndpointName, CommandError> {
    let text = words.join("--");
    match EndpointName::parse_any(&text) {
        Ok(name) if name.branch().is_some() => Ok(name),
        Ok(_) => Err(CommandError::NoBranch(text)),
        Err(error) => Err(CommandError::Name(text, error)),
    }
}

async fn ask(state_dir: &Path, method: Method, path: &str) -> Result<Value, CommandError> {
    let path = format!("/api/v1/{path}");
    let stream = control::connect(state_dir).and_then(|stream| {
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    });
    let stream = stream.map_err(|error| Unreached::new(state_dir, error))?;
    let lost = |error: &dyn fmt::Display| CommandError::NoAnswer(error.to_string());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost");
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| lost(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| lost(&error))?;
    // Ends with the runtime.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| lost(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
    let body = body.map_err(|error| lost(&error))?.to_bytes();
    let answer: Value = serde_json::from_slice(&body).map_err(|error| lost(&error))?;
    match status {
        StatusCode::OK => Ok(answer),
        status => Err(CommandError::Refused(match answer["error"].as_str() {
            Some(error) => error.to_owned(),
            None => format!("pgwake answered {status}"),
        })),
    }
}

fn describe(branch: &Value, out: &mut impl Write) -> io::Result<()> {
    let text = |field: &str| branch[field].as_str().unwrap_or("-").to_owned();
    writeln!(out, "branch   {}", text("branch"))?;
    writeln!(out, "url      {}", text("url"))?;
    writeln!(out, "size     {}", size(branch))?;
    writeln!(out, "expires  {}", branch["expires"].as_str().unwrap_or("never"))
}

fn list(answer: &Value, out: &mut impl Write) -> io::Result<()> {
    let mut rows = vec![["BRANCH", "STATE", "SESSIONS", "SIZE", "MADE", "EXPIRES"].map(str::to_owned)];
    for branch in answer["items"].as_array().into_iter().flatten() {
        let text = |field: &str| branch[field].as_str().unwrap_or("-").to_owned();
        rows.push([
            text("branch"),
            text("state"),
            branch["sessions"].to_string(),
            size(branch),
            text("made"),
            branch["expires"].as_str().unwrap_or("never").to_owned(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    for row in &rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        writeln!(out, "{}", cells.join("  ").trim_end())?;
    }
    let (shown, total) = (rows.len() - 1, answer["total"].as_u64().unwrap_or_default());
    if u64::try_from(shown).is_ok_and(|shown| shown < total) {
        writeln!(out, "… and {} more", total - shown as u64)?;
    }
    Ok(())
}

/// In whole MiB.
fn size(branch: &Value) -> String {
    let mib = branch["bytes"].as_u64().unwrap_or_default().div_ceil(1 << 20);
    SizeText(usize::try_from(mib << 20).unwrap_or(usize::MAX)).to_string()
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        branch: BranchArguments,
    }

    fn asked(line: &str) -> Result<String, String> {
        let words = ["pgwake"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let (method, path) = request(&line.branch.what).map_err(|error| error.to_string())?;
        Ok(format!("{method} {path}"))
    }

    #[test]
    fn each_command_is_a_request() {
        for (line, expected) in [
            ("create demo-main a", "POST endpoints/demo-main/branches?name=a"),
            (
                "create demo-main a --ttl 1h --max 10m",
                "POST endpoints/demo-main/branches?name=a&ttl=1h&max=10m",
            ),
            ("list", "GET branches?limit=1000"),
            ("list demo-main", "GET endpoints/demo-main/branches?limit=1000"),
            ("delete demo-main--a", "DELETE branches/demo-main--a"),
            ("delete demo-main a", "DELETE branches/demo-main--a"),
            (
                "reset demo-main a --max 1m",
                "POST branches/demo-main--a/reset?max=1m",
            ),
            (
                "renew demo-main--a --ttl never",
                "POST branches/demo-main--a/renew?ttl=never",
            ),
        ] {
            assert_eq!(asked(line).as_deref(), Ok(expected));
        }
        for wrong in [
            "create demo-main ../x",
            "create Demo a",
            "delete demo-main",
            "delete a b c",
            "renew demo-main a --ttl 5",
        ] {
            asked(wrong).unwrap_err();
        }
        let told = asked("delete demo-main").unwrap_err();
        assert_eq!(
            told,
            "\"demo-main\" names no branch: write PARENT--NAME, or PARENT NAME"
        );
    }

    #[test]
    fn a_list_has_a_line_for_each() {
        let branch = json!({
            "branch": "demo-main--a", "state": "asleep", "sessions": 0, "bytes": 23_000_000, "made": "2026-01-31T12:00:00.000Z",
            "expires": null,
        });
        let mut out = Vec::new();
        list(&json!({ "items": [branch], "total": 3 }), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "BRANCH        STATE   SESSIONS  SIZE   MADE                      EXPIRES\n\
             demo-main--a  asleep  0         22MiB  2026-01-31T12:00:00.000Z  never\n\
             … and 2 more\n"
        );
    }
}
