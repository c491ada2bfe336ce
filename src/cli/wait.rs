//! `pgwake wait`: returns when a pgwake is ready, alive, started or gone. For scripts, Makefiles and the hooks of
//! sidecars.
//!
//! Asks the port of operators again and again; its probes need no token. It starts nothing and orders nothing. Called
//! by `cli`.

use std::{
    error::Error,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    runtime::Builder,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{EXIT_ARGUMENTS, EXIT_CONFIG};
use crate::config::{DurationText, Problems, load};

/// Where the guide's examples have the port of operators.
const ADMIN_DEFAULT: &str = "127.0.0.1:9090";
/// Between two questions: a start takes some 50 ms, and nobody minds ten questions a second.
const PAUSE: Duration = Duration::from_millis(100);
/// Whoever does not answer within this is asked anew.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Probes answer with one word.
const BODY_BYTES_MAX: usize = 64;

/// What is waited for, where, and how long.
#[derive(Debug, Args)]
pub(super) struct WaitArguments {
    /// What is waited for.
    #[arg(long = "for", value_enum, value_name = "WHAT", default_value_t = Wanted::Ready)]
    wanted: Wanted,
    /// The longest wait, e.g. 30s or 2m; then the exit code is 1.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::duration)]
    max: Duration,
    /// The port for operators, as host:port or http://host:port. [default: 127.0.0.1:9090]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    admin: Option<String>,
    /// Take the address from this configuration (`[listen] admin`).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A state of another pgwake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// New clients may come: it has started, and does not drain.
    Ready,
    /// The process answers.
    Live,
    /// It has started; it may be draining.
    Startup,
    /// Nobody listens there any more: it has ended, or has never been there.
    Gone,
}

impl Wanted {
    /// The probe, and its one right answer.
    fn probe(self) -> (&'static str, &'static str) {
        match self {
            Self::Ready => ("/ready", "ready\n"),
            Self::Live | Self::Gone => ("/live", "alive\n"),
            Self::Startup => ("/startup", "started\n"),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ready => "ready",
            Self::Live => "alive",
            Self::Startup => "started",
            Self::Gone => "gone",
        })
    }
}

/// Why it is not so, or nobody knows.
#[derive(Debug, thiserror::Error)]
pub(super) enum WaitError {
    /// The configuration is wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// The configuration is right, and tells no address.
    #[error("{} opens no port for operators: add `admin = \"{ADMIN_DEFAULT}\"` to [listen]", .0.display())]
    NoAdmin(PathBuf),
    /// The system will choose the port.
    #[error("{} lets the system choose the port for operators: name it with --admin", .0.display())]
    AnyPort(PathBuf),
    /// `--admin` says no address.
    #[error("--admin {0:?}: {1}")]
    Address(String, &'static str),
    /// The time is over.
    #[error("pgwake at {place} is not {wanted} after {}: {seen}", DurationText(*.max))]
    TimedOut {
        /// Who was asked.
        place: String,
        /// What was waited for.
        wanted: String,
        /// How long.
        max: Duration,
        /// The last that was seen.
        seen: String,
    },
    /// The system has no threads or files left.
    #[error("cannot wait: {0}")]
    Runtime(#[from] io::Error),
}

impl WaitError {
    /// What scripts tell it by.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Problems(_) | Self::NoAdmin(_) | Self::AnyPort(_) => EXIT_CONFIG,
            Self::Address(..) => EXIT_ARGUMENTS,
            Self::TimedOut { .. } | Self::Runtime(_) => 1,
        }
    }
}

/// Waits.
///
/// # Errors
/// [`WaitError`]: it did not come to be so in time, or there is nobody to ask.
pub(super) fn run(arguments: &WaitArguments) -> Result<(), WaitError> {
    let (host, port) = match (&arguments.config, &arguments.admin) {
        (Some(file), _) => address_of(file)?,
        (None, Some(said)) => parse(said)?,
        (None, None) => parse(ADMIN_DEFAULT)?,
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(wait((&host, port), arguments))
}

async fn wait((host, port): (&str, u16), arguments: &WaitArguments) -> Result<(), WaitError> {
    let &WaitArguments { wanted, max, .. } = arguments;
    let (path, right) = wanted.probe();
    let deadline = Instant::now() + max;
    let mut seen = "no time to look".to_owned();
    loop {
        let asked = timeout(ANSWER_TIMEOUT, ask(host, port, path));
        let answered = timeout_at(deadline, asked).await;
        seen = match answered {
            Ok(Ok(Ok(_))) | Ok(Err(_)) if wanted == Wanted::Gone => "it is still there".to_owned(),
            Ok(Ok(Err(Unasked::NotThere(_)))) if wanted == Wanted::Gone => return Ok(()),
            Ok(Ok(Ok((StatusCode::OK, body)))) if body == right => return Ok(()),
            Ok(Ok(Ok((StatusCode::OK, _)))) => "something else than pgwake answers there".to_owned(),
            Ok(Ok(Ok((status, body)))) => match body.trim() {
                word if word.chars().all(|c| c.is_ascii_lowercase()) && !word.is_empty() => word.to_owned(),
                _ => format!("it answers {status}"),
            },
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(_)) => "it takes connections, and does not answer".to_owned(),
            // Cut off in the middle of a question: what was seen before says more.
            Err(_) => seen,
        };
        if deadline.saturating_duration_since(Instant::now()) <= PAUSE {
            let wanted = wanted.to_string();
            return Err(WaitError::TimedOut {
                place: place(host, port),
                wanted,
                max,
                seen,
            });
        }
        sleep(PAUSE).await;
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Unasked {
    /// Nobody listens there.
    #[error("{0}")]
    NotThere(io::Error),
    /// Nobody knows whether somebody does, or it is something else.
    #[error("{0}")]
    Unknown(Box<dyn Error + Send + Sync>),
}

impl Unasked {
    fn connecting(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::NotThere(error),
            _ => Self::unknown(error),
        }
    }

    fn unknown(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Unknown(error.into())
    }
}

/// One probe. Cancel safe: it is given up.
async fn ask(host: &str, port: u16, path: &str) -> Result<(StatusCode, String), Unasked> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(Unasked::connecting)?;
    let request = Request::get(path)
        .header(HOST, place(host, port))
        .body(Empty::<Bytes>::new())
        .map_err(Unasked::unknown)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Unasked::unknown)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(Unasked::unknown)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        // Pages of other programs are longer.
        let body = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
        Ok((status, body.unwrap_or_default()))
    };
    tokio::pin!(answer);
    tokio::select! { biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}

/// As it is written: an IPv6 address in brackets.
fn place(host: &str, port: u16) -> String {
    match host.parse() {
        Ok(ip) => SocketAddr::new(ip, port).to_string(),
        Err(_) => format!("{host}:{port}"),
    }
}

/// Where a configuration has the port. Listening everywhere is reached on this machine.
fn address_of(file: &Path) -> Result<(String, u16), WaitError> {
    let address = load(file)?.config.admin.address;
    let address = address.ok_or_else(|| WaitError::NoAdmin(file.to_owned()))?;
    if address.port() == 0 {
        return Err(WaitError::AnyPort(file.to_owned()));
    }
    Ok((reachable(address).to_string(), address.port()))
}

fn reachable(address: SocketAddr) -> IpAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// `host:port`, or a URL with both.
fn parse(said: &str) -> Result<(String, u16), WaitError> {
    let wrong = |why| WaitError::Address(said.to_owned(), why);
    let url = match said.contains("://") {
        true => said.to_owned(),
        false => format!("http://{said}"),
    };
    let url: Uri = url.parse().map_err(|_| wrong("write host:port"))?;
    if url.scheme_str() != Some("http") {
        return Err(wrong("that port speaks plain HTTP: write http://host:port"));
    }
    let host = url.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| wrong("write host:port"))?;
    let port = url
        .port_u16()
        .ok_or_else(|| wrong("the port is missing: write host:port"))?;
    // An IPv6 address stands in brackets in a URL, and nowhere else.
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_people_write_them() {
        for (said, host, port) in [
            ("127.0.0.1:9090", "127.0.0.1", 9090),
            ("pgwake:1", "pgwake", 1),
            ("http://localhost:9090/", "localhost", 9090),
            ("[::1]:9090", "::1", 9090),
        ] {
            assert_eq!(parse(said).unwrap(), (host.to_owned(), port), "{said}");
            assert!(said.trim_end_matches('/').ends_with(&place(host, port)), "{said}");
        }
    }

    #[test]
    fn what_is_no_address_is_told_with_what_to_write() {
        for (said, why) in [
            ("localhost", "port is missing"),
            ("https://localhost:9090", "plain HTTP"),
            (":9090", "host:port"),
            ("a b:1", "host:port"),
        ] {
            let error = parse(said).unwrap_err();
            assert!(
                error.exit_code() == 2 && error.to_string().contains(why),
                "{error}"
            );
        }
    }

    #[test]
    fn who_listens_everywhere_is_reached_here() {
        for (listens, reached) in [
            ("0.0.0.0:1", "127.0.0.1"),
            ("[::]:1", "::1"),
            ("10.0.0.7:1", "10.0.0.7"),
        ] {
            assert_eq!(reachable(listens.parse().unwrap()).to_string(), reached);
        }
    }
}
