//! `pgwake demo`: two sleeping Postgres, a development certificate, and lines to paste.
//!
//! It writes an ordinary configuration and serves it, so that what it shows is what everybody gets. Databases,
//! password and configuration stay for the next time.

mod screen;

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
};

use super::{
    DemoArguments,
    dev_ca::{self, DevCertificates},
    fail,
    serve::{Beginning, serve},
};
use crate::auth::{ITERATIONS_DEFAULT, verifier_for};
use crate::config::{Config, DurationText, load};
use crate::ids::Secret;
use crate::listener::BoundAddress;
use crate::server::check_computes;
use screen::Screen;

/// Where clients connect unless the arguments say otherwise.
const PORT: u16 = 6432;
/// Where the dashboard is.
const ADMIN_PORT: u16 = 9090;
/// Where the development certificates are, beside the project's README about them.
const CERTIFICATES: &str = "certs/dev";
/// The endpoints that the demo has.
const ENDPOINTS: [&str; 2] = ["demo-main", "demo-preview"];
/// A branch of the first one, which is made as somebody connects to it.
const BRANCH: &str = "demo-main--agent-42";

/// Sets everything up and serves until Ctrl-C.
pub(super) fn run(arguments: &DemoArguments) -> ExitCode {
    match prepare(arguments) {
        Ok(demo) => serve_and_show(demo, arguments),
        Err(error) => fail(&error, 1),
    }
}

/// What the demo has made, or found from the last time.
struct Demo {
    config: Config,
    password: Secret,
    /// What the dashboard's buttons need.
    token: Secret,
    certificates: DevCertificates,
    is_new: bool,
}

fn prepare(arguments: &DemoArguments) -> Result<Demo, String> {
    let data = &arguments.data;
    let failed =
        |what: &str, path: &Path, error: &io::Error| format!("cannot {what} {}: {error}", path.display());
    fs::create_dir_all(data).map_err(|error| failed("make", data, &error))?;
    let data = &data
        .canonicalize()
        .map_err(|error| failed("enter", data, &error))?;
    // The user that Postgres runs as must be able to pass through.
    fs::set_permissions(data, Permissions::from_mode(0o755)).map_err(|error| failed("open", data, &error))?;
    let certificates = dev_ca::ensure(Path::new(CERTIFICATES)).map_err(|error| error.to_string())?;
    let is_new = !data.join(ENDPOINTS[0]).exists();
    let password = password(data).map_err(|error| failed("keep the password in", data, &error))?;
    let token = token(data).map_err(|error| failed("keep the token in", data, &error))?;
    let listen = Listen {
        clients: arguments.listen.unwrap_or_else(|| free_address(PORT)),
        operators: free_address(ADMIN_PORT),
    };
    let file = data.join("pgwake.toml");
    let text = configuration(data, &certificates, listen, DurationText(arguments.suspend_after))
        .map_err(|error| failed("find", &certificates.certificate, &error))?;
    fs::write(&file, text).map_err(|error| failed("write", &file, &error))?;
    let config = load(&file).map_err(|problems| problems.to_string())?.config;
    // A screen full of lines that do not work helps nobody.
    check_computes(&config).map_err(|error| error.to_string())?;
    Ok(Demo {
        config,
        password,
        token,
        certificates,
        is_new,
    })
}

/// Where the demo listens.
struct Listen {
    clients: SocketAddr,
    operators: SocketAddr,
}

/// The usual port, or any other where that one is taken.
fn free_address(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(usual) {
        Ok(_) => usual,
        Err(_) => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
    }
}

/// The role's password: made once, with its verifier beside it.
fn password(data: &Path) -> io::Result<Secret> {
    let (password_file, verifier_file) = (data.join("password"), data.join("verifier"));
    if let (Ok(password), true) = (fs::read_to_string(&password_file), verifier_file.exists()) {
        return Ok(Secret::new(password.trim_end()));
    }
    let password = random_secret();
    write_secret(
        &verifier_file,
        &verifier_for(&password, ITERATIONS_DEFAULT).to_text(),
    )?;
    write_secret(&password_file, password.reveal())?;
    Ok(password)
}

/// The dashboard's token: made once.
fn token(data: &Path) -> io::Result<Secret> {
    let file = data.join("operate-token");
    if let Ok(token) = fs::read_to_string(&file) {
        return Ok(Secret::new(token.trim_end()));
    }
    let token = random_secret();
    write_secret(&file, token.reveal())?;
    Ok(token)
}

/// Short enough to be looked at, long enough not to be guessed.
fn random_secret() -> Secret {
    let mut random = [0; 9];
    aws_lc_rs::rand::fill(&mut random).expect("the system's random source does not fail once it is seeded");
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Secret::new(digits)
}

fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")
}

fn configuration(
    data: &Path,
    certificates: &DevCertificates,
    listen: Listen,
    suspend_after: DurationText,
) -> io::Result<String> {
    let quoted = |path: PathBuf| toml::Value::String(path.display().to_string()).to_string();
    let certificate = quoted(certificates.certificate.canonicalize()?);
    let key = quoted(certificates.key.canonicalize()?);
    let state_dir = quoted(data.join("state"));
    let Listen { clients, operators } = listen;
    let mut text = format!(
        r#"# Written by `pgwake demo` at every start. To play with it, copy it and run
# `pgwake serve --config COPY`; config/reference.toml lists every key.
state_dir = {state_dir}

[listen]
postgres = "{clients}"
admin = "{operators}"

[admin]
operate_tokens = [{{ file = "operate-token" }}]

[routing]
domains = ["db.localhost"]

[tls]
certificates = [{{ certificate = {certificate}, key = {key} }}]

[limits]
drain_timeout = "3s"

[tenants.demo.roles.app]
verifier = {{ file = "verifier" }}
"#
    );
    for name in ENDPOINTS {
        let data_dir = quoted(data.join(name));
        let branches = match name == ENDPOINTS[0] {
            true => "branches = { on_connect = true, ttl = \"1h\" }\n",
            false => "",
        };
        text.push_str(&format!(
            r#"
[tenants.demo.endpoints.{name}]
suspend_after = "{suspend_after}"
roles_from = "postgres"
compute = {{ kind = "process", data_dir = {data_dir}, database = "app", owner = "app" }}
{branches}"#
        ));
    }
    Ok(text)
}

fn serve_and_show(demo: Demo, arguments: &DemoArguments) -> ExitCode {
    let Demo {
        config,
        password,
        token,
        certificates,
        is_new,
    } = demo;
    serve(config, Beginning::Alone, |server| {
        let BoundAddress::Tcp(address) = &server.addresses()[0] else {
            unreachable!("the demo listens on TCP");
        };
        let screen = Screen {
            address: *address,
            operators: server.admin_address(),
            token: &token,
            endpoints: &ENDPOINTS,
            branch: BRANCH,
            password: &password,
            ca: &certificates.ca,
            suspend_after: DurationText(arguments.suspend_after),
            is_new,
        };
        // Nobody may be reading; the demo runs all the same.
        let _ = screen.write(&mut io::stdout().lock());
    })
}
