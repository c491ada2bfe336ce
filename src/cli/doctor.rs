//! `pgwake doctor CONNINFO`: walks the way of a connection from the client's side, step by step, and stops at the first
//! thing that is wrong with what to do.
//!
//! It does what libpq does for the same connection string, says what it sees, and runs `SELECT 1`: so it wakes a compute
//! that sleeps, as any client does. No secret is in what it writes. Called by `cli`.

mod certificate;
mod conninfo;
mod files;
mod report;
mod shown;
mod talk;

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use clap::Args;
use rustls::ClientConnection;
use rustls_pki_types::{ServerName, UnixTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream, lookup_host},
    runtime::Builder,
    task::spawn_blocking,
    time::timeout,
};

use crate::config::{DurationText, PoolMode};
use crate::pool::Privacy;
use crate::tls::{SSL_REQUEST, Stream, end_point, has_pending_bytes};
use crate::wire::options::take_own_words;
use certificate::{DAYS_FEW, Trusted, examine, handshake, list};
use conninfo::{Asked, Direct, SslMode};
use report::{Report, Trouble};
use shown::Showing;
use talk::{Link, Talk};

/// For each address, where the connection string has no `connect_timeout`: a lost SYN is repeated after 1, 3 and 7 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// What is looked at.
#[derive(Debug, Args)]
pub(super) struct DoctorArguments {
    /// As libpq takes it: "host=… user=… dbname=…" or postgresql://…; PGPASSWORD and the like hold, too.
    #[arg(value_name = "CONNINFO")]
    connection: String,
    /// The longest time for all of it, the wake included.
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = super::duration)]
    max: Duration,
}

/// Why nothing was looked at.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoctorError {
    /// The connection string.
    #[error("the connection string: {0}")]
    Asked(String),
    /// The system has no threads or files left.
    #[error("cannot look: {0}")]
    Runtime(#[from] io::Error),
}

/// Walks the way. `false`: something is wrong, and told.
///
/// # Errors
/// [`DoctorError`], before anything was tried.
pub(super) fn run(arguments: &DoctorArguments, out: &mut dyn Write) -> Result<bool, DoctorError> {
    let asked = Asked::parse(&arguments.connection).map_err(DoctorError::Asked)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::new(out);
    let place = match asked.is_local() {
        true => asked.host.clone(),
        false => format!("{}, port {}", asked.host, asked.port),
    };
    report.line(&format!(
        "{place}, role {}, database {}\n",
        asked.user, asked.dbname
    ));
    let walked = runtime.block_on(async {
        match timeout(arguments.max, walk(&asked, &mut report)).await {
            Ok(walked) => walked,
            Err(_) => Err(Trouble::new(
                format!("no answer within {}", DurationText(arguments.max)),
                "something on the way swallows packets, or the wake takes longer: look at what pgwake's log says of it; \
                 --max gives it more time",
            )),
        }
    });
    match &walked {
        Ok(()) => report.line("\neverything is right"),
        Err(trouble) => report.wrong(trouble),
    }
    // What a resolver of names is still busy with is not waited for.
    runtime.shutdown_background();
    Ok(walked.is_ok())
}

async fn walk(asked: &Asked, report: &mut Report<'_>) -> Result<(), Trouble> {
    for aside in &asked.asides {
        report.aside(aside);
    }
    let link = match asked.is_local() {
        true => through_socket(asked, report).await?,
        false => {
            let stream = reach(asked, report).await?;
            encrypt(stream, asked, report).await?
        }
    };
    name_endpoint(asked, &link, report);
    let mut talk = Talk::log_in(link, asked, report).await?;
    talk.greeted(report).await?;
    talk.query(report).await
}

async fn through_socket(asked: &Asked, report: &mut Report<'_>) -> Result<Link, Trouble> {
    report.begin("socket");
    let path = format!("{}/.s.PGSQL.{}", asked.host.trim_end_matches('/'), asked.port);
    let connected = UnixStream::connect(&path).await;
    let stream = connected.map_err(|error| {
        Trouble::new(
            format!("{path}: {error}"),
            "look whether pgwake runs, and whether its listener's `unix` is this path; the folder has to let you in",
        )
    })?;
    report.right(path);
    Ok(Link {
        stream: Stream::Unix(stream),
        end_point: None,
        privacy: Privacy::Private,
    })
}

/// The steps `name` and `tcp`.
async fn reach(asked: &Asked, report: &mut Report<'_>) -> Result<TcpStream, Trouble> {
    report.begin("name");
    let addresses = addresses(asked).await?;
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    match asked.hostaddr {
        Some(_) => report.right(format_args!(
            "{} (hostaddr; {} is not resolved)",
            list(&shown),
            asked.host
        )),
        None => report.right(list(&shown)),
    }
    report.begin("tcp");
    let limit = asked.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let mut trouble = Trouble::default();
    for address in addresses {
        if !trouble.what.is_empty() {
            report.aside(&trouble.what);
        }
        let error = match timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                report.right(address);
                return Ok(stream);
            }
            Ok(Err(error)) => error,
            Err(_) => io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {}", DurationText(limit)),
            ),
        };
        trouble = Trouble::new(format!("{address}: {error}"), connect_advice(&error));
    }
    Err(trouble)
}

async fn addresses(asked: &Asked) -> Result<Vec<SocketAddr>, Trouble> {
    if let Some(address) = asked.hostaddr {
        return Ok(vec![(address, asked.port).into()]);
    }
    let found = lookup_host((asked.host.as_str(), asked.port)).await;
    let found: Result<Vec<SocketAddr>, _> = found.map(Iterator::collect);
    let why = match found {
        Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
        Ok(_) => "it has no address".to_owned(),
        Err(error) => error.to_string(),
    };
    let advice = match asked.host.ends_with(".localhost") {
        true => "names under .localhost do not resolve everywhere: add hostaddr=127.0.0.1",
        false => {
            "look at its spelling and at DNS: a wildcard record *.DOMAIN names all endpoints at once; or add hostaddr=ADDRESS"
        }
    };
    Err(Trouble::new(
        format!("{} does not resolve: {why}", asked.host),
        advice,
    ))
}

fn connect_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there: look whether pgwake runs, and at the address in its log's line \"listening\""
        }
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "look at firewalls and routes between here and there"
        }
        _ => "look at the network between here and there",
    }
}

/// The steps `tls` and `certificate`.
async fn encrypt(mut stream: TcpStream, asked: &Asked, report: &mut Report<'_>) -> Result<Link, Trouble> {
    report.begin("tls");
    if asked.ssl_mode == SslMode::Disable {
        report.right("none (sslmode=disable): passwords and rows go in clear");
        return Ok(plain(stream));
    }
    if asked.direct_tls == Direct::No {
        let answer = ask_for_tls(&mut stream).await.map_err(|error| {
            Trouble::new(
                format!("no answer to the request for TLS: {error}"),
                "what listens there is no Postgres, or closes at once",
            )
        })?;
        match answer {
            b'S' if !has_pending_bytes(&stream) => (),
            b'N' if asked.ssl_mode == SslMode::Prefer => {
                report.right("none: the server has no TLS, and sslmode does not ask for it");
                return Ok(plain(stream));
            }
            b'N' => {
                return Err(Trouble::new(
                    "the server has no TLS",
                    "give pgwake a certificate ([tls] certificates)",
                ));
            }
            _ => {
                return Err(Trouble::new(
                    "what answers is no Postgres",
                    "look at the port: another program listens there, or something sits in between",
                ));
            }
        }
    }
    let name = ServerName::try_from(asked.host.clone()).map_err(|_| {
        Trouble::new(
            format!("{} can stand in no certificate", asked.host),
            "a name for TLS has letters, digits, hyphens and dots",
        )
    })?;
    let showing = showing(asked).await?;
    let secured = handshake(
        stream,
        name.clone(),
        showing.as_ref().map(|showing| showing.key.clone()),
    );
    let secured = secured.await.map_err(|error| {
        Trouble::new(
            format!("the handshake failed: {error}"),
            "if it was ended with an alert: pgwake has no certificate for this name, or something in between speaks an old TLS",
        )
    })?;
    let connection = secured.get_ref().1;
    report.right(spoken(connection));
    if let (Some(showing), Some(shown)) = (showing, &asked.shown) {
        let (file, subject, doubt) = (shown.certificate.display(), showing.subject, showing.doubt);
        report.aside(format_args!(
            "{file} ({subject}) is shown to a server that asks for a certificate{doubt}"
        ));
    }
    let chain = connection.peer_certificates().unwrap_or_default().to_vec();
    check(&chain, &name, asked, report).await?;
    Ok(Link {
        end_point: chain.first().and_then(end_point),
        stream: Stream::TlsToServer(Box::new(secured)),
        privacy: Privacy::Private,
    })
}

/// Version and suite.
fn spoken(connection: &ClientConnection) -> String {
    let version = connection
        .protocol_version()
        .and_then(|version| version.as_str())
        .unwrap_or("TLS");
    let suite = connection
        .negotiated_cipher_suite()
        .and_then(|suite| suite.suite().as_str());
    format!("{} {}", version.replace('_', "."), suite.unwrap_or_default())
}

/// What to show where the server asks for a certificate.
async fn showing(asked: &Asked) -> Result<Option<Showing>, Trouble> {
    let Some(shown) = asked.shown.clone() else {
        return Ok(None);
    };
    let reading = spawn_blocking(move || shown.read()).await;
    reading.expect("it does not panic, and the runtime waits for it")
}

fn plain(stream: TcpStream) -> Link {
    let is_here = stream.peer_addr().is_ok_and(|peer| peer.ip().is_loopback());
    Link {
        stream: Stream::Tcp(stream),
        end_point: None,
        privacy: if is_here { Privacy::Private } else { Privacy::Open },
    }
}

async fn ask_for_tls(stream: &mut TcpStream) -> io::Result<u8> {
    stream.write_all(&SSL_REQUEST).await?;
    stream.read_u8().await
}

async fn check(
    chain: &[rustls_pki_types::CertificateDer<'static>],
    name: &ServerName<'_>,
    asked: &Asked,
    report: &mut Report<'_>,
) -> Result<(), Trouble> {
    report.begin("certificate");
    let roots = asked.roots.clone();
    let reading = spawn_blocking(move || Trusted::read(&roots)).await;
    let trusted = reading.expect("it does not panic, and the runtime waits for it");
    let trusted = trusted.map_err(|error| {
        Trouble::new(
            format!("sslrootcert: {error}"),
            "name the authority's certificate as PEM",
        )
    })?;
    let verifies = asked.ssl_mode >= SslMode::VerifyCa;
    if verifies && trusted.is_none() {
        return Err(Trouble::new(
            "nothing says whom to trust, and sslmode asks for it",
            "add sslrootcert=FILE with the authority's certificate (certs/dev/ca.pem of the demo), or sslrootcert=system",
        ));
    }
    let found = examine(chain, name, trusted.as_ref(), UnixTime::now())
        .map_err(|what| Trouble::new(what, "look at the files of [tls] certificates"))?;
    let (refused, passed): (Vec<_>, Vec<_>) = found
        .flaws
        .into_iter()
        .partition(|flaw| flaw.refused_by <= asked.ssl_mode);
    if let Some(flaw) = refused.into_iter().next() {
        return Err(Trouble::new(flaw.what, flaw.advice));
    }
    let (names, issuer, days) = (list(&found.names), &found.issuer, found.days_left);
    report.right(format_args!("{names}; from {issuer}; {days} days left"));
    for flaw in passed {
        report.aside(format_args!(
            "{}; sslmode does not ask, stricter ones would refuse it",
            flaw.what
        ));
    }
    if (0..DAYS_FEW).contains(&days) {
        report.aside("it ends soon: renew it");
    }
    Ok(())
}

/// The step `endpoint`: what pgwake will understand. Only the login shows whether there is one of that name.
fn name_endpoint(asked: &Asked, link: &Link, report: &mut Report<'_>) {
    report.begin("endpoint");
    let own = take_own_words(asked.options.as_deref().unwrap_or_default().as_bytes()).own;
    let is_encrypted = matches!(link.stream, Stream::TlsToServer(_));
    // Clients send no server name without TLS, and none that is an address.
    let server_name = (is_encrypted && asked.host.parse::<IpAddr>().is_err()).then_some(&*asked.host);
    let label = server_name
        .and_then(|name| name.split_once('.'))
        .map(|(label, _)| label);
    let named = match (&own.endpoint, server_name, label) {
        (Some(option), ..) => format!("{option} (options)"),
        (None, Some(name), Some(label)) => {
            format!("{label} (server name {name}, unless that is one of its `hosts`)")
        }
        (None, Some(name), None) => format!("by the server name {name} alone"),
        (None, None, _) => "the listener's default_endpoint, if it has one: nothing names another".to_owned(),
    };
    report.right(named);
    let pooled = own.endpoint.as_deref().or(label).map(PoolMode::split_name);
    let asks = own
        .pool
        .as_deref()
        .or_else(|| pooled.and_then(|(_, mode)| Some(mode?.as_str())));
    if let Some(mode) = asks {
        report.aside(format_args!("{mode} pooling is asked for"));
    }
}
