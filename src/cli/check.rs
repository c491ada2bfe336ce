//! `pgwake check FILE [--endpoint NAME]`: what a configuration comes to, and where each value comes from.
//!
//! Starts nothing and connects to nothing. Secrets print as `…`. The exit code is its caller's work.

mod certificates;
mod control_plane;
mod limits;
mod places;
mod servers;
mod unreachable;

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::audit::{To, WhenFull};
use crate::config::{
    Compute, Config, DurationText, Endpoint, GateRules, Level, Loaded, LoginMethod, Made, OriginsByKey, Pool,
    Problems, ProcessCompute, RateText, RolesFrom, SizeText, TokenKeys, Tokens, WakeOn, load, nearest,
};
use crate::metrics::Per;
use crate::store::Store;
use places::{databases, listen, server};

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The configuration is wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
    /// It is right, and has no endpoint of the name that was asked for.
    #[error("there is no endpoint {name:?}{}", .near.as_ref().map(|near| format!(": did you mean {near:?}?")).unwrap_or_default())]
    UnknownEndpoint {
        /// What was asked for.
        name: String,
        /// The endpoint that may have been meant.
        near: Option<String>,
    },
    /// The output could not be written.
    #[error("the result cannot be written: {0}")]
    Output(#[from] io::Error),
}

/// Loads `file` and writes what holds: for the whole process, or for one endpoint.
///
/// # Errors
/// [`CheckError::Problems`] and [`CheckError::UnknownEndpoint`] before anything is written.
pub fn run(file: &Path, endpoint: Option<&str>, out: &mut dyn io::Write) -> Result<(), CheckError> {
    let loaded = load(file)?;
    let doubts = certificates::check(&loaded)?;
    match endpoint {
        Some(name) => write_endpoint(&loaded, name, out),
        None => Ok(write_process(&loaded, (file, &doubts), out)?),
    }
}

fn write_process(
    loaded: &Loaded,
    (file, doubts): (&Path, &[String]),
    out: &mut dyn io::Write,
) -> io::Result<()> {
    let Loaded { config, origins } = loaded;
    let endpoints = counted(config.endpoints.len(), "endpoint");
    writeln!(
        out,
        "{} is right: {endpoints} in {}\n",
        file.display(),
        counted(origins.files.len(), "file")
    )?;
    for pattern in &origins.includes_unmatched {
        writeln!(out, "note: include = [{pattern:?}] matches no file\n")?;
    }
    if let Err(error) = Store::check_folder(&config.state_dir) {
        writeln!(out, "note: {error}\n")?;
    }
    for note in doubts {
        writeln!(out, "note: {note}\n")?;
    }
    for note in unreachable::notes(loaded) {
        writeln!(out, "note: {note}\n")?;
    }
    write_values(&process_values(config), &origins.process, out)?;
    if config.endpoints.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nendpoints (more of one with --endpoint NAME):")?;
    let width = config
        .endpoints
        .names()
        .map(|name| name.as_str().len())
        .max()
        .unwrap_or(0);
    for endpoint in config.endpoints.values() {
        let compute = match &endpoint.compute {
            Compute::Process(process) => format!("process {}", process.data_dir.display()),
            Compute::Fixed(fixed) => format!("fixed {}", server(&fixed.address)),
            Compute::Command(command) => servers::command_line(command),
            Compute::Controlled(_) => "control_plane".to_owned(),
        };
        let name = endpoint.name.as_str();
        writeln!(out, "  {name:width$}  tenant {}, {compute}", endpoint.tenant)?;
    }
    Ok(())
}

fn write_endpoint(loaded: &Loaded, name: &str, out: &mut dyn io::Write) -> Result<(), CheckError> {
    let Loaded { config, origins } = loaded;
    let Some(endpoint) = config.endpoint(name) else {
        let names = config.endpoints.names().map(|name| name.as_str());
        return Err(CheckError::UnknownEndpoint {
            name: name.to_owned(),
            near: nearest(name, names).map(str::to_owned),
        });
    };
    let none = OriginsByKey::new();
    let origins = origins.endpoints.get(name).unwrap_or(&none);
    let place = origins.get("").map(|origin| format!(" ({})", origin.place));
    writeln!(
        out,
        "endpoint {name} of tenant {}{}\n",
        endpoint.tenant,
        place.unwrap_or_default()
    )?;
    Ok(write_values(&endpoint_values(endpoint), origins, out)?)
}

/// Keys with their values, as TOML would have them.
type Values = Vec<(String, String)>;

fn write_values(values: &Values, origins: &OriginsByKey, out: &mut dyn io::Write) -> io::Result<()> {
    let key_width = values
        .iter()
        .map(|(key, _)| key.chars().count())
        .max()
        .unwrap_or(0);
    let widths = values.iter().map(|(_, value)| value.chars().count());
    // A long list does not push every origin to the right.
    let value_width = widths.filter(|width| *width <= 40).max().unwrap_or(0);
    for (key, value) in values {
        let origin = match origins.get(key) {
            Some(origin) => match origin.level {
                Level::Own => origin.place.to_string(),
                Level::Tenant => format!("{} (from the tenant)", origin.place),
                Level::Defaults => format!("{} (from [defaults])", origin.place),
            },
            None => "built-in".to_owned(),
        };
        writeln!(out, "  {key:key_width$}  {value:value_width$}  {origin}")?;
    }
    Ok(())
}

fn process_values(config: &Config) -> Values {
    let mut values = Values::new();
    let mut add = |key: &str, value: String| values.push((key.to_owned(), value));
    add("state_dir", quoted(config.state_dir.display()));
    add(
        "socket_dir",
        config
            .socket_dir
            .as_ref()
            .map_or("a short folder is chosen".to_owned(), |dir| quoted(dir.display())),
    );
    add("listen.postgres", list(config.listen.iter().map(listen)));
    let admin = &config.admin;
    add("listen.admin", admin.address.map_or("nowhere".to_owned(), quoted));
    add("routing.domains", list(config.domains.iter().map(quoted)));
    add("routing.databases", databases(config));
    let certificates = config.certificates.iter();
    add(
        "tls.certificates",
        list(certificates.map(|files| quoted(files.certificate.display()))),
    );
    let to = match &config.audit.to {
        To::Nowhere => quoted("nowhere"),
        To::Stdout => quoted("stdout"),
        To::File(file) => quoted(file.display()),
    };
    add("audit.to", to);
    let when_full = match config.audit.when_full {
        WhenFull::Drop => "drop",
        WhenFull::Block => "block",
    };
    add("audit.when_full", quoted(when_full));
    add("admin.read_tokens", list(admin.read_tokens.iter().map(quoted)));
    add(
        "admin.operate_tokens",
        list(admin.operate_tokens.iter().map(quoted)),
    );
    add("admin.roles", list(admin.roles.keys().map(quoted)));
    let per = match admin.metrics_per {
        Per::Process => "process",
        Per::Tenant => "tenant",
        Per::Endpoint => "endpoint",
    };
    add("admin.metrics_per", quoted(per));
    add("admin.metrics_names_max", admin.metrics_names_max.to_string());
    let limits = &config.limits;
    add("limits.clients_max", limits.clients_max.to_string());
    add("limits.wakes_at_once_max", limits.wakes_at_once_max.to_string());
    for (key, duration) in [
        ("limits.login_timeout", limits.login_timeout),
        ("limits.drain_delay", limits.drain_delay),
        ("limits.drain_timeout", limits.drain_timeout),
        ("limits.connect_timeout", limits.connect_timeout),
        ("limits.tcp_user_timeout", limits.tcp_user_timeout),
        ("limits.tcp_keepalive", limits.tcp_keepalive),
    ] {
        add(key, quoted(DurationText(duration)));
    }
    add("limits.commands_at_once", limits.commands_at_once.to_string());
    let free_min = SizeText(usize::try_from(limits.disk_free_min).unwrap_or(usize::MAX));
    values.push(("limits.disk_free_min".to_owned(), quoted(free_min)));
    values.extend(limits::of_process(limits));
    values.extend(gate(&config.gate));
    values.extend(config.control_plane.iter().flat_map(control_plane::values));
    values
}

fn gate(rules: &GateRules) -> Values {
    let values = [
        ("unproved_max", rules.unproved_max.to_string()),
        (
            "unproved_per_network_max",
            rules.unproved_per_network_max.to_string(),
        ),
        ("attempts", quoted(RateText(rules.attempts))),
        (
            "attempts_per_endpoint",
            quoted(RateText(rules.attempts_per_endpoint)),
        ),
        ("failures_max", rules.failures_max.to_string()),
        ("lockout_min", quoted(DurationText(rules.lockout_min))),
        ("lockout_max", quoted(DurationText(rules.lockout_max))),
    ];
    values.map(|(key, value)| (format!("gate.{key}"), value)).into()
}

fn endpoint_values(endpoint: &Endpoint) -> Values {
    let mut values = Values::new();
    let mut add = |key: &str, value: String| values.push((key.to_owned(), value));
    limits::of_sleep(endpoint, &mut add);
    add("hold_timeout", quoted(DurationText(endpoint.hold_timeout)));
    add("start_timeout", quoted(DurationText(endpoint.start_timeout)));
    add("stop_timeout", quoted(DurationText(endpoint.stop_timeout)));
    let login = match endpoint.login {
        LoginMethod::Auto => "auto",
        LoginMethod::Scram => "scram",
        LoginMethod::Password => "password",
        LoginMethod::Token => "token",
        LoginMethod::PasswordOrToken => "password-or-token",
        LoginMethod::Certificate => "certificate",
    };
    add("login", quoted(login));
    add("access.allow", list(endpoint.access.allow.iter().map(quoted)));
    add("access.deny", list(endpoint.access.deny.iter().map(quoted)));
    add("roles_from", roles_from(&endpoint.roles_from));
    add("hosts", list(endpoint.hosts.iter().map(quoted)));
    for (name, role) in &endpoint.roles {
        if role.verifier.is_some() {
            add(&format!("roles.{name}.verifier"), "…".to_owned());
        }
        if !role.subjects.is_empty() {
            let subjects = list(role.subjects.iter().map(|subject| format!("{subject:?}")));
            add(&format!("roles.{name}.subjects"), subjects);
        }
        if !role.certificate_names.is_empty() {
            let names = list(role.certificate_names.iter().map(|name| format!("{name:?}")));
            add(&format!("roles.{name}.certificate_names"), names);
        }
        if role.server_password.is_some() {
            add(&format!("roles.{name}.server_password"), "…".to_owned());
        }
    }
    values.extend(endpoint.tokens.iter().flat_map(tokens));
    if let Some(rules) = &endpoint.client_certificates {
        let ca = ("client_certificates.ca", quoted(rules.ca.display()));
        let name = ("client_certificates.name", quoted(rules.name.as_str()));
        values.extend([ca, name].map(|(key, value)| (key.to_owned(), value)));
    }
    values.extend(pool(&endpoint.pool));
    values.extend(limits::of_endpoint(&endpoint.quotas));
    values.extend(limits::of_branches(&endpoint.branches));
    match &endpoint.compute {
        Compute::Process(process) => values.extend(process_compute(process)),
        Compute::Fixed(fixed) => {
            values.extend(servers::fixed(fixed));
            values.push(servers::expected(endpoint.expected_server));
        }
        Compute::Command(command) => {
            values.extend(servers::command(command));
            values.push(servers::expected(endpoint.expected_server));
        }
        Compute::Controlled(_) => (),
    }
    values
}

fn tokens(tokens: &Tokens) -> Values {
    let keys = match &tokens.keys {
        TokenKeys::File(file) => format!("{{ file = {:?} }}", file.display().to_string()),
        TokenKeys::Url { url, ca: None } => format!("{{ url = {url:?} }}"),
        TokenKeys::Url { url, ca: Some(ca) } => {
            format!("{{ url = {url:?}, ca = {:?} }}", ca.display().to_string())
        }
    };
    let tenant_claim = tokens.tenant_claim.as_ref();
    let values = [
        ("keys", keys),
        ("issuer", quoted(&tokens.issuer)),
        ("audiences", list(tokens.audiences.iter().map(quoted))),
        ("role_claim", quoted(&tokens.role_claim)),
        ("tenant_claim", tenant_claim.map_or("none".to_owned(), quoted)),
        ("leeway", quoted(DurationText(tokens.leeway))),
        ("end_sessions", tokens.end_sessions.to_string()),
    ];
    values.map(|(key, value)| (format!("tokens.{key}"), value)).into()
}

fn pool(pool: &Pool) -> Values {
    let wake_on = match pool.wake_on {
        WakeOn::Connect => "connect",
        WakeOn::Query => "query",
    };
    let duration = |duration| quoted(DurationText(duration));
    let values = [
        ("mode", quoted(pool.mode.as_str())),
        ("size", pool.size.to_string()),
        ("wait_timeout", duration(pool.wait_timeout)),
        ("connects_at_once", pool.connects_at_once.to_string()),
        ("lifetime", duration(pool.lifetime)),
        ("idle_time", duration(pool.idle_time)),
        ("pinned_max", pool.pinned_max.to_string()),
        ("startup_variants_max", pool.startup_variants_max.to_string()),
        ("sequence_grace", duration(pool.sequence_grace)),
        ("statements_max", pool.statements_max.to_string()),
        ("statement_bytes_max", quoted(SizeText(pool.statement_bytes_max))),
        ("wake_on", quoted(wake_on)),
    ];
    values.map(|(key, value)| (format!("pool.{key}"), value)).into()
}

fn process_compute(process: &ProcessCompute) -> Values {
    let or = |value: Option<String>, otherwise: &str| value.map_or(otherwise.to_owned(), quoted);
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let programs = path(&process.programs);
    let create = match process.made {
        Made::WheneverMissing => "always",
        Made::OnFirstUse | Made::AsBranch => "once",
    };
    let values = [
        ("kind", quoted("process")),
        ("data_dir", quoted(process.data_dir.display())),
        ("create", quoted(create)),
        ("programs", or(programs, "those of the data directory's version")),
        ("run_as", or(process.run_as.clone(), "the data directory's owner")),
        ("database", or(process.database.clone(), "none is made")),
        ("owner", or(process.owner.clone(), "none")),
        ("bootstrap", or(path(&process.bootstrap), "none")),
        ("settings", servers::settings(&process.settings)),
    ];
    values
        .map(|(key, value)| (format!("compute.{key}"), value))
        .into()
}

fn roles_from(roles_from: &RolesFrom) -> String {
    let RolesFrom::Postgres(reading) = roles_from else {
        return quoted("config");
    };
    let password = match reading.password {
        Some(_) => "password = …, ",
        None => "",
    };
    format!(
        "{{ role = {:?}, {password}database = {:?} }}",
        reading.role, reading.database
    )
}

fn quoted(value: impl std::fmt::Display) -> String {
    format!("\"{value}\"")
}

fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        _ => format!("{count} {noun}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const TEXT: &str = r#"
include = ["tenants.d/*.toml"]
[listen]
postgres = { address = "127.0.0.1:6432", tls = "optional", default_endpoint = "demo-main-pooler", proxies = ["10.0.0.0/24"] }
[limits]
clients_max = 20
[admin.roles.boss]
verifier = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
[defaults]
hold_timeout = "45s"
pool.size = 8
[tenants.demo]
pool = { mode = "transaction", statement_bytes_max = 65536 }
suspend_after = "never"
roles.app.verifier = "md50123456789abcdef0123456789abcdef"
endpoints.demo-main.compute = { kind = "fixed", address = "[::1]:5432" }
endpoints.demo-main.stop_timeout = "1m30s"
endpoints.demo-main.pool.wait_timeout = "5s"
"#;

    fn checked(text: &str, endpoint: Option<&str>) -> (Result<(), CheckError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgwake.toml");
        fs::write(&file, text).unwrap();
        let mut out = Vec::new();
        let result = run(&file, endpoint, &mut out);
        let text = String::from_utf8(out).unwrap();
        let text = text.replace(&format!("{}/", folder.path().display()), "");
        (result, text)
    }

    /// Words separated by one space, to compare lines whatever their columns.
    fn has_line(text: &str, line: &str) -> bool {
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().any(|candidate| words(candidate) == line)
    }

    #[test]
    fn an_endpoint_is_shown_with_the_origin_of_every_value() {
        let (result, text) = checked(TEXT, Some("demo-main"));
        result.unwrap();
        for line in [
            "endpoint demo-main of tenant demo (pgwake.toml:16)",
            "suspend_after \"never\" pgwake.toml:14 (from the tenant)",
            "hold_timeout \"45s\" pgwake.toml:10 (from [defaults])",
            "stop_timeout \"1m30s\" pgwake.toml:17",
            "start_timeout \"1m\" built-in",
            "roles.app.verifier … pgwake.toml:15 (from the tenant)",
            "compute.address \"[::1]:5432\" pgwake.toml:16",
            "compute.tls \"disable\" built-in",
            "pool.mode \"transaction\" pgwake.toml:13 (from the tenant)",
            "pool.size 8 pgwake.toml:11 (from [defaults])",
            "pool.wait_timeout \"5s\" pgwake.toml:18",
            "pool.pinned_max 4 built-in",
            "pool.statement_bytes_max \"64KiB\" pgwake.toml:13 (from the tenant)",
            "pool.wake_on \"connect\" built-in",
        ] {
            assert!(has_line(&text, line), "{line}\n{text}");
        }
        assert!(!text.contains("0123456789abcdef"), "a secret is shown");
    }

    #[test]
    fn the_whole_is_shown_with_its_endpoints_and_what_matched_nothing() {
        let (result, text) = checked(TEXT, None);
        result.unwrap();
        for line in [
            "pgwake.toml is right: 1 endpoint in 1 file",
            "note: include = [\"tenants.d/*.toml\"] matches no file",
            "limits.clients_max 20 pgwake.toml:6",
            "admin.roles [\"boss\"] pgwake.toml:7",
            "limits.login_timeout \"15s\" built-in",
            "state_dir \"/var/lib/pgwake\" built-in",
            "listen.postgres [{ address = \"127.0.0.1:6432\", tls = \"optional\", default_endpoint = \"demo-main-pooler\", proxies = [\"10.0.0.0/24\"] }] pgwake.toml:4",
            "demo-main tenant demo, fixed [::1]:5432",
        ] {
            assert!(has_line(&text, line), "{line}\n{text}");
        }
    }

    #[test]
    fn an_unknown_endpoint_is_told_its_likely_name_and_nothing_is_written() {
        let (result, text) = checked(TEXT, Some("demo-mian"));
        let message = result.unwrap_err().to_string();
        assert_eq!(
            message,
            "there is no endpoint \"demo-mian\": did you mean \"demo-main\"?"
        );
        assert_eq!(text, "");
    }

    #[test]
    fn problems_are_returned_not_written() {
        let (result, text) = checked("[listen]\n", None);
        assert!(matches!(result, Err(CheckError::Problems(_))));
        assert_eq!(text, "");
    }
}
