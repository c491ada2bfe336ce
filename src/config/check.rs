//! From raw to checked: what the keys of a configuration mean together.
//!
//! Fills in what was not said, notes where everything comes from and collects what does not fit. This file does
//! what belongs to the whole process; `listen`, `endpoint`, `roles` and `compute` do the rest. Who calls: `config::load`.

mod admin;
mod audit;
mod branches;
mod certificates;
mod command;
mod compute;
mod control_plane;
mod endpoint;
mod gate;
mod listen;
mod pool;
mod quota;
mod roles;
mod suspend;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    time::Duration,
};

use super::{
    CertificateFiles, Config, DefaultEndpoint, Defaults, Limits, built_in,
    file::{LimitsTable, Root},
    origin::{Origins, OriginsByKey, record_own},
    problem::{Report, Spot, Wrong},
    read::{At, Setting, nearest},
    secret,
};

/// The shortest wait that makes sense where zero would refuse everyone.
const MOMENT: Duration = Duration::from_millis(1);

/// The longest wait of any kind; reading a duration has already refused more.
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// A drain that is put off for longer has been forgotten.
const HOUR: Duration = Duration::from_secs(3600);

/// The checked configuration. What it returns is only to be used where nothing was reported.
pub(crate) fn check(root: Root, spot: &Spot, origins: &mut Origins, report: &mut Report) -> Config {
    let mut config = check_all(&root, spot, origins, report);
    // Also without a control plane: one that is taken out of the file goes on until a restart.
    config.defaults = Defaults::of(root);
    config
}

fn check_all(root: &Root, spot: &Spot, origins: &mut Origins, report: &mut Report) -> Config {
    let domains = check_domains(root, &mut origins.process, report);
    let databases = check_databases(root, &mut origins.process, report);
    let certificates = check_certificates(root, &mut origins.process, report);
    let limits = check_limits(&root.limits, &mut origins.process, report);
    record_own(&mut origins.process, "include", &root.include);
    record_own(&mut origins.process, "state_dir", &root.state_dir);
    record_own(&mut origins.process, "socket_dir", &root.socket_dir);
    let gate = gate::check(&root.gate, &mut origins.process, report);
    let audit = audit::check(root, &mut origins.process, report);
    let admin = admin::check(root, &mut origins.process, report);
    let listen = listen::check(root, spot, &mut origins.process, report);
    let control_plane = control_plane::check(root, &mut origins.process, report);
    let endpoints = endpoint::check(root, &domains, &mut origins.endpoints, report);
    listen::check_apart(root, &listen, report);
    tokens::check_apart(root, &endpoints, report);
    certificates::check_apart(root, &endpoints, report);
    Config {
        state_dir: root
            .state_dir
            .given()
            .map_or_else(|| built_in::state_dir().to_owned(), |at| at.value.clone()),
        socket_dir: root.socket_dir.given().map(|at| at.value.clone()),
        listen,
        domains,
        databases,
        certificates,
        limits,
        gate,
        audit,
        admin,
        login: root
            .defaults
            .key(|defaults| &defaults.login)
            .given()
            .map_or(built_in::LOGIN, |at| at.value),
        tokens: tokens::of_defaults(root),
        control_plane,
        defaults: Defaults::default(),
        endpoints,
    }
}

/// Remembers where a thing was first said; the second time is a problem that names the first.
struct Once<K> {
    what: &'static str,
    first: BTreeMap<K, (Spot, String)>,
}

impl<K: Ord> Once<K> {
    fn new(what: &'static str) -> Self {
        let first = BTreeMap::new();
        Self { what, first }
    }

    /// Whether `key` is new. `owner` tells whose it is, in words.
    fn claim(&mut self, key: K, owner: &str, spot: &Spot, report: &mut Report) -> bool {
        let Some((first, first_owner)) = self.first.get(&key) else {
            self.first.insert(key, (spot.clone(), owner.to_owned()));
            return true;
        };
        let message = format!("this {} is already {first_owner} ({})", self.what, first.place);
        let fix = format!("give each its own {}, or remove one of the two", self.what);
        report.add(spot, Wrong::new(message, fix));
        false
    }
}

fn check_domains(root: &Root, origins: &mut OriginsByKey, report: &mut Report) -> Vec<String> {
    let setting = root.routing.key(|routing| &routing.domains);
    record_own(origins, "routing.domains", setting);
    let mut seen = Once::new("domain");
    let mut domains = Vec::new();
    for at in setting.given().iter().flat_map(|at| &at.value.0) {
        let name = &at.value.0;
        if seen.claim(name, "listed", &at.spot, report) {
            domains.push(name.clone());
        }
    }
    domains
}

fn check_databases(
    root: &Root,
    origins: &mut OriginsByKey,
    report: &mut Report,
) -> BTreeMap<String, DefaultEndpoint> {
    let setting = root.routing.key(|routing| &routing.databases);
    record_own(origins, "routing.databases", setting);
    let named = setting.given().into_iter().flat_map(|at| &at.value.0);
    named
        .map(|(database, at)| {
            check_exists(root, at, report);
            (database.0.clone(), at.value.clone())
        })
        .collect()
}

/// An endpoint that is named for clients that name none has to be there, or a control plane may have it.
fn check_exists(root: &Root, at: &At<DefaultEndpoint>, report: &mut Report) {
    let names = endpoint_names(root);
    let name = at.value.name.as_str();
    if names.contains(name) || root.control_plane.given().is_some() {
        return;
    }
    let fix = match nearest(name, names.into_iter()) {
        Some(near) => format!("did you mean {near:?}?"),
        None => format!("name an endpoint that exists, or add [tenants.<tenant>.endpoints.{name}]"),
    };
    let message = format!("there is no endpoint {name:?}");
    report.add(&at.spot, Wrong::new(message, fix));
}

fn check_certificates(root: &Root, origins: &mut OriginsByKey, report: &mut Report) -> Vec<CertificateFiles> {
    let setting = root.tls.key(|tls| &tls.certificates);
    record_own(origins, "tls.certificates", setting);
    let mut certificates = Vec::new();
    for at in setting.given().iter().flat_map(|at| &at.value.0) {
        let certificate = required(&at.value.certificate, "certificate", &at.spot, report);
        let key = required(&at.value.key, "key", &at.spot, report);
        if let Some(at) = certificate {
            report.note(&at.spot, secret::check_readable(&at.value));
        }
        if let Some(at) = key {
            report.note(&at.spot, secret::check_private(&at.value));
        }
        if let (Some(certificate), Some(key)) = (certificate, key) {
            certificates.push(CertificateFiles {
                certificate: certificate.value.clone(),
                key: key.value.clone(),
            });
        }
    }
    certificates
}

fn check_limits(table: &Setting<LimitsTable>, origins: &mut OriginsByKey, report: &mut Report) -> Limits {
    let default = Limits::default();
    let quota = quota::of_process(table, origins, report);
    let commands_at_once = table.key(|table| &table.commands_at_once);
    record_own(origins, "limits.commands_at_once", commands_at_once);
    let commands_at_once = commands_at_once.given();
    let wakes = table.key(|table| &table.wakes_at_once_max);
    record_own(origins, "limits.wakes_at_once_max", wakes);
    let wakes_at_once_max = wakes.given().map_or(default.wakes_at_once_max, |at| at.value.0);
    let processes = table.key(|table| &table.awake_processes_max);
    record_own(origins, "limits.awake_processes_max", processes);
    let awake_processes_max = processes.given().map(|at| at.value.0);
    let mut duration = |name: &str, pick: fn(&LimitsTable) -> &Setting<Duration>, range, default| {
        let setting = table.key(pick);
        record_own(origins, &format!("limits.{name}"), setting);
        match setting.given() {
            Some(at) => within(at, &range, report),
            None => default,
        }
    };
    // What the kernel takes: TCP_KEEPIDLE up to 32,767 whole seconds, TCP_USER_TIMEOUT up to 2³¹ ms.
    let keepalive = Duration::from_secs(1)..=Duration::from_secs(9 * 3600);
    let user_timeout = MOMENT..=Duration::from_secs(24 * 86_400);
    Limits {
        clients_max: quota.clients_max.unwrap_or(default.clients_max),
        login_timeout: duration(
            "login_timeout",
            |t| &t.login_timeout,
            MOMENT..=YEAR,
            default.login_timeout,
        ),
        drain_delay: duration(
            "drain_delay",
            |t| &t.drain_delay,
            Duration::ZERO..=HOUR,
            default.drain_delay,
        ),
        drain_timeout: duration(
            "drain_timeout",
            |t| &t.drain_timeout,
            Duration::ZERO..=YEAR,
            default.drain_timeout,
        ),
        connect_timeout: duration(
            "connect_timeout",
            |t| &t.connect_timeout,
            MOMENT..=YEAR,
            default.connect_timeout,
        ),
        wakes_at_once_max,
        awake_processes_max,
        tcp_user_timeout: duration(
            "tcp_user_timeout",
            |t| &t.tcp_user_timeout,
            user_timeout,
            default.tcp_user_timeout,
        ),
        tcp_keepalive: duration(
            "tcp_keepalive",
            |t| &t.tcp_keepalive,
            keepalive,
            default.tcp_keepalive,
        ),
        commands_at_once: commands_at_once.map_or(default.commands_at_once, |at| at.value.0),
        disk_free_min: check_free_min(table, origins).unwrap_or(default.disk_free_min),
        quota,
    }
}

fn check_free_min(table: &Setting<LimitsTable>, origins: &mut OriginsByKey) -> Option<u64> {
    let setting = table.key(|table| &table.disk_free_min);
    record_own(origins, "limits.disk_free_min", setting);
    setting.given().and_then(|at| u64::try_from(at.value.0).ok())
}

/// The duration itself; one outside the range is reported.
fn within(at: &At<Duration>, range: &RangeInclusive<Duration>, report: &mut Report) -> Duration {
    if !range.contains(&at.value) {
        let text = super::DurationText;
        let (least, most) = (text(*range.start()), text(*range.end()));
        let message = format!("{} is not between {least} and {most}", text(at.value));
        let fix = format!("write a duration from \"{least}\" to \"{most}\"");
        report.add(&at.spot, Wrong::new(message, fix));
    }
    at.value
}

/// A key that a table cannot do without.
fn required<'a, T>(
    setting: &'a Setting<T>,
    name: &str,
    table: &Spot,
    report: &mut Report,
) -> Option<&'a At<T>> {
    if setting.is_absent() {
        let message = format!("`{name}` is missing");
        report.add(table, Wrong::new(message, format!("add {name} = …")));
    }
    setting.given()
}

/// The names of all endpoints that are written down, whether right or wrong otherwise.
fn endpoint_names(root: &Root) -> BTreeSet<&str> {
    let tenants = root
        .tenants
        .given()
        .into_iter()
        .flat_map(|at| at.value.0.values());
    let endpoints = tenants.flat_map(|tenant| tenant.value.endpoints.given());
    endpoints
        .flat_map(|at| at.value.0.keys())
        .map(|name| name.as_str())
        .collect()
}
