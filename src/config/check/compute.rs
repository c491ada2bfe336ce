//! What runs an endpoint's server.

use std::{net::IpAddr, path::PathBuf};

use crate::config::{
    Compute, ExpectedServer, FixedCompute, ProcessCompute, RolesFrom, ServerAddress, ServerTls, built_in,
    file::{ComputeTable, FixedTable, ProcessTable},
    origin::{OriginsByKey, record_own},
    problem::{Report, Spot, Wrong},
    read::{At, Setting},
    secret,
    value::ServerTlsMode,
};

use super::{endpoint::Written, required};

/// The compute; `first_role` owns the database of a new data directory where nobody else is named.
pub(super) fn check(
    at: &At<ComputeTable>,
    first_role: Option<&str>,
    origins: &mut OriginsByKey,
    report: &mut Report,
) -> Option<Compute> {
    match &at.value {
        // Its own file, which knows the names that are put in.
        ComputeTable::Command(_) => None,
        ComputeTable::Process(table) => {
            check_process(table, &at.spot, origins, report).map(|process| with_owner(process, first_role))
        }
        ComputeTable::Fixed(table) => check_fixed(table, &at.spot, origins, report).map(Compute::Fixed),
    }
}

impl Written<'_> {
    /// Which server is the endpoint's own. That is read with its roles: a number that nobody looks at would be a false
    /// comfort.
    pub(super) fn check_expected_server(&mut self, roles_from: &RolesFrom) -> ExpectedServer {
        let setting = match self.own.value.compute.given().map(|at| &at.value) {
            Some(ComputeTable::Fixed(table)) => &table.system_identifier,
            Some(ComputeTable::Command(table)) => &table.server.system_identifier,
            // A local one is known by its socket, and has no such key.
            Some(ComputeTable::Process(_)) | None => return built_in::EXPECTED_SERVER,
        };
        let Some(at) = setting.given() else {
            return built_in::EXPECTED_SERVER;
        };
        if let (ExpectedServer::Is(_), RolesFrom::Config) = (at.value, roles_from) {
            let message = "nobody would look at it: pgwake has no login of its own to ask this server with";
            let fix = "add roles_from = { role = \"…\", password = { file = \"…\" } } to the endpoint, or remove the number and write tls = \"verify-full\"";
            self.report.add(&at.spot, Wrong::new(message, fix));
        }
        at.value
    }
}

fn with_owner(process: ProcessCompute, first_role: Option<&str>) -> Compute {
    let default = process.database.as_ref().and(first_role);
    let owner = process.owner.or_else(|| default.map(str::to_owned));
    Compute::Process(ProcessCompute { owner, ..process })
}

fn check_process(
    table: &ProcessTable,
    spot: &Spot,
    origins: &mut OriginsByKey,
    report: &mut Report,
) -> Option<ProcessCompute> {
    record_own(origins, "compute.data_dir", &table.data_dir);
    record_own(origins, "compute.create", &table.create);
    record_own(origins, "compute.programs", &table.programs);
    record_own(origins, "compute.run_as", &table.run_as);
    record_own(origins, "compute.database", &table.database);
    record_own(origins, "compute.owner", &table.owner);
    record_own(origins, "compute.bootstrap", &table.bootstrap);
    record_own(origins, "compute.settings", &table.settings);
    if let Some(at) = table.programs.given()
        && !at.value.join("postgres").is_file()
    {
        let message = format!("there is no `postgres` in {}", at.value.display());
        let fix = "name the folder of `postgres` and `initdb`, or remove the key: /usr/lib/postgresql/<version>/bin and PATH are looked at then";
        report.add(&at.spot, Wrong::new(message, fix));
    }
    if let Some(at) = table.owner.given()
        && table.database.is_absent()
    {
        let fix = "add database = \"…\", or remove `owner`";
        report.add(&at.spot, Wrong::new("an owner without a database to own", fix));
    }
    if let Some(at) = table.bootstrap.given() {
        report.note(&at.spot, secret::check_readable(&at.value));
    }
    let text = |setting: &Setting<String>| setting.given().map(|at| at.value.clone());
    let data_dir = required(&table.data_dir, "data_dir", spot, report)?;
    Some(ProcessCompute {
        data_dir: data_dir.value.clone(),
        programs: table.programs.given().map(|at| at.value.clone()),
        run_as: text(&table.run_as),
        database: table.database.given().map(|at| at.value.0.clone()),
        owner: text(&table.owner),
        bootstrap: table.bootstrap.given().map(|at| at.value.clone()),
        settings: table
            .settings
            .given()
            .map_or_else(Vec::new, |at| at.value.0.clone()),
        made: table.create.given().map_or(built_in::MADE, |at| at.value),
    })
}

fn check_fixed(
    table: &FixedTable,
    spot: &Spot,
    origins: &mut OriginsByKey,
    report: &mut Report,
) -> Option<FixedCompute> {
    record_own(origins, "compute.address", &table.address);
    record_own(origins, "compute.tls", &table.tls);
    record_own(origins, "compute.ca", &table.ca);
    record_own(origins, "compute.system_identifier", &table.system_identifier);
    if let Some(at) = table.ca.given() {
        report.note(&at.spot, secret::check_readable(&at.value));
    }
    let address = required(&table.address, "address", spot, report)?;
    let tls = match address.value.0 {
        ServerAddress::Unix(_) => {
            refuse_tls_over_socket(table, report);
            ServerTls::Disable
        }
        ServerAddress::Tcp { ref host, .. } => check_tls(table, host, spot, report)?,
    };
    let address = address.value.0.clone();
    Some(FixedCompute { address, tls })
}

pub(super) fn refuse_tls_over_socket(table: &FixedTable, report: &mut Report) {
    let spots = [
        table
            .tls
            .given()
            .filter(|at| at.value != ServerTlsMode::Disable)
            .map(|at| &at.spot),
        table.ca.given().map(|at| &at.spot),
    ];
    for spot in spots.into_iter().flatten() {
        let message = "Postgres does not speak TLS over a Unix socket";
        report.add(spot, Wrong::new(message, "remove it, or name host and port"));
    }
}

/// What holds where `tls` is not said: everything is checked, but on this machine nothing is encrypted.
fn default_mode(host: &str, ca: Option<&At<PathBuf>>) -> ServerTlsMode {
    let is_loopback = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    match ca {
        None if is_loopback => ServerTlsMode::Disable,
        _ => ServerTlsMode::VerifyFull,
    }
}

/// How a server at `host` is reached; an empty one may be anywhere.
pub(super) fn check_tls(
    table: &FixedTable,
    host: &str,
    spot: &Spot,
    report: &mut Report,
) -> Option<ServerTls> {
    let mode = match &table.tls {
        Setting::Given(at) => at.value,
        Setting::Absent => default_mode(host, table.ca.given()),
        Setting::Refused => return None,
    };
    let unchecked = match mode {
        ServerTlsMode::Disable => ServerTls::Disable,
        ServerTlsMode::Require => ServerTls::Require,
        ServerTlsMode::VerifyCa | ServerTlsMode::VerifyFull => {
            if table.ca.is_absent() {
                let fix = "add ca = \"…\" with the PEM file of the roots to trust; tls = \"require\" encrypts without checking who answers, tls = \"disable\" does neither";
                let message = "the server's certificate is to be checked, but `ca` is missing";
                report.add(spot, Wrong::new(message, fix));
            }
            let ca = table.ca.given()?.value.clone();
            return Some(match mode {
                ServerTlsMode::VerifyCa => ServerTls::VerifyCa { ca },
                _ => ServerTls::VerifyFull { ca },
            });
        }
    };
    if let Some(at) = table.ca.given() {
        let fix = "write tls = \"verify-full\", or remove `ca`";
        report.add(&at.spot, Wrong::new("`ca` is not used with this `tls`", fix));
    }
    Some(unchecked)
}
