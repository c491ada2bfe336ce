//! What operators look at, as JSON: endpoints, tenants, pools, sessions, wakes, refusals, what is configured.
//!
//! Every object here stands in API.md. A field is never taken away or given another meaning; new ones may come.

mod lines;
mod quotas;

use std::collections::{BTreeMap, HashMap};

use serde_json::{Value, json};

use super::{
    View,
    answer::{Listing, Order},
    reading::Clients,
    time::{milliseconds, rfc3339},
};
use crate::config::{Compute, Endpoint, ListenAddress, ListenTls};
use crate::ids::EndpointName;
use crate::pool::{CloseReason, PoolFigures};
use crate::wake::{ComputeState, WakeFigures};
use lines::session_line;
pub(super) use lines::{refusal_line, wake_line};

/// Sessions and refusals that an endpoint's own view has; the lists have all.
const IN_ENDPOINT_MAX: usize = 100;

impl View {
    /// `version`
    pub(super) fn version(&self) -> Value {
        let started = self.house.metrics.started();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "started": rfc3339(started),
            "uptime_ms": milliseconds(started.elapsed().unwrap_or_default()),
        })
    }

    /// `config`: what holds for the whole process.
    pub(super) fn configured(&self) -> Value {
        let config = self.config.load();
        let listen = config.listen.iter().map(|listen| {
            let address = match &listen.address {
                ListenAddress::Tcp(address) => address.to_string(),
                ListenAddress::Unix(path) => path.display().to_string(),
            };
            json!({
                "address": address,
                "tls": match listen.tls { ListenTls::Required => "required", ListenTls::Optional => "optional" },
                "default_endpoint": listen.default_endpoint.as_ref().map(ToString::to_string),
            })
        });
        let databases = config.databases.iter();
        let databases = databases.map(|(name, endpoint)| (name.clone(), endpoint.to_string().into()));
        let certificates = self
            .house
            .certificates
            .expiries()
            .into_iter()
            .map(|(file, ends)| {
                let ends = std::time::UNIX_EPOCH
                    + std::time::Duration::from_secs(u64::try_from(ends).unwrap_or_default());
                json!({ "file": file.display().to_string(), "ends": rfc3339(ends) })
            });
        let limits = &config.limits;
        json!({
            "state_dir": config.state_dir.display().to_string(),
            "listen": listen.collect::<Vec<_>>(),
            "domains": config.domains,
            "databases": databases.collect::<serde_json::Map<_, _>>(),
            "certificates": certificates.collect::<Vec<_>>(),
            "endpoints": config.endpoints.len(),
            "limits": {
                "clients_max": limits.clients_max,
                "login_timeout_ms": milliseconds(limits.login_timeout),
                "drain_delay_ms": milliseconds(limits.drain_delay),
                "drain_timeout_ms": milliseconds(limits.drain_timeout),
                "connect_timeout_ms": milliseconds(limits.connect_timeout),
                "wakes_at_once_max": limits.wakes_at_once_max,
                "awake_processes_max": limits.awake_processes_max,
                "commands_at_once": limits.commands_at_once,
                "tcp_user_timeout_ms": milliseconds(limits.tcp_user_timeout),
                "tcp_keepalive_ms": milliseconds(limits.tcp_keepalive),
            },
        })
    }

    /// `tenants`
    pub(super) fn tenants(&self) -> Listing {
        let mut tenants: BTreeMap<String, [usize; 5]> = BTreeMap::new();
        let clients = self.clients_by_endpoint();
        for endpoint in self.house.directory.endpoints() {
            let sums = tenants.entry(endpoint.tenant.to_string()).or_default();
            let figures = self.house.wakes.figures(&endpoint.name);
            let sessions = clients.get(&endpoint.name).map_or(0, Clients::count);
            let is_awake = |figures: &WakeFigures| figures.state == ComputeState::Awake;
            let failed = |figures: &WakeFigures| figures.state == ComputeState::Failed;
            sums[0] += 1;
            sums[1] += usize::from(figures.as_ref().is_some_and(is_awake));
            sums[2] += usize::from(figures.as_ref().is_some_and(failed));
            sums[3] += figures.as_ref().map_or(0, |figures| figures.held);
            sums[4] += sessions;
        }
        let items = tenants.into_iter().map(|(tenant, sums)| {
            let [endpoints, awake, failed, held, sessions] = sums;
            json!({
                "tenant": tenant, "endpoints": endpoints, "awake": awake, "failed": failed, "held": held,
                "sessions": sessions,
            })
        });
        Listing {
            key: "tenant",
            filters: &["tenant"],
            order: Order::ByKey,
            items: items.collect(),
        }
    }

    /// `endpoints`
    pub(super) fn endpoints(&self) -> Listing {
        let clients = self.clients_by_endpoint();
        let endpoints = self.house.directory.endpoints();
        Listing {
            key: "endpoint",
            filters: &["endpoint", "tenant", "state", "disabled"],
            order: Order::ByKey,
            items: endpoints
                .filter_map(|endpoint| self.endpoint_line(&endpoint, &clients))
                .collect(),
        }
    }

    /// `endpoints/NAME`
    pub(super) fn endpoint(&self, name: &EndpointName) -> Option<Value> {
        let endpoint = self.house.directory.endpoint(name)?;
        let mut value = self.endpoint_line(&endpoint, &self.clients_by_endpoint())?;
        let listed = self.house.roster.all();
        let here = listed.iter().filter(|listed| listed.who.endpoint == *name);
        let refusals = self.house.journal.refusals().into_iter();
        let refusals = refusals.filter(|line| line.endpoint == name.as_str());
        let roles = &self.house.roles;
        let of_endpoint = [
            ("compute", compute(&endpoint)),
            ("hosts", json!(endpoint.hosts)),
            (
                "system_identifier",
                json!(roles.server(name).map(|own| own.to_string())),
            ),
            (
                "other_server",
                json!(roles.other_server(name).map(|other| other.found.to_string())),
            ),
            ("pool", self.pool_line(&endpoint)),
            (
                "wakes",
                self.house.journal.wakes_of(name).iter().map(wake_line).collect(),
            ),
            (
                "refusals",
                refusals
                    .take(IN_ENDPOINT_MAX)
                    .map(|line| refusal_line(&line))
                    .collect(),
            ),
            (
                "session_list",
                here.take(IN_ENDPOINT_MAX)
                    .map(|listed| session_line(listed))
                    .collect(),
            ),
        ];
        for (field, of) in of_endpoint {
            value[field] = of;
        }
        Some(value)
    }

    /// `None`: a reload has taken it away since it was looked up.
    fn endpoint_line(&self, endpoint: &Endpoint, clients: &HashMap<EndpointName, Clients>) -> Option<Value> {
        let none = Clients::default();
        let clients = clients.get(&endpoint.name).unwrap_or(&none);
        let figures = self.house.wakes.figures(&endpoint.name)?;
        let left = figures
            .suspends_at
            .map(|at| milliseconds(at.saturating_duration_since(tokio::time::Instant::now())));
        Some(json!({
            "endpoint": endpoint.name.as_str(),
            "tenant": endpoint.tenant.as_str(),
            "state": figures.state.as_str(),
            "for_ms": milliseconds(figures.since.elapsed()),
            "why": why(&figures, clients),
            "disabled": figures.is_disabled,
            "suspendable": figures.is_suspendable,
            "suspend_after_ms": figures.suspend_after.map(milliseconds),
            "suspends_in_ms": left,
            "veto": figures.veto.as_deref(),
            "held": figures.held,
            "held_for_ms": figures.held_since.map(|since| milliseconds(since.elapsed())),
            "sessions": clients.count(),
            "waiting": clients.waiting,
            "active": clients.active,
            "idle": clients.idle,
            "parked": clients.parked,
            "pinned": clients.pinned,
            "wakes_started": figures.started,
            "coalesced_wakes": figures.joined,
            "awake_ms": milliseconds(figures.awake),
            "failure": figures.failure.as_deref(),
            "suspend_failure": figures.left.as_deref(),
            "failures_in_a_row": figures.backoff.map_or(0, |backoff| backoff.in_a_row),
            "retry_in_ms": figures.backoff.map(|backoff| milliseconds(backoff.again_in)),
        }))
    }

    /// `pools`
    pub(super) fn pools(&self) -> Listing {
        let endpoints = self.house.directory.endpoints();
        Listing {
            key: "endpoint",
            filters: &["endpoint", "tenant", "paused"],
            order: Order::ByKey,
            items: endpoints.map(|endpoint| self.pool_line(&endpoint)).collect(),
        }
    }

    fn pool_line(&self, endpoint: &Endpoint) -> Value {
        let Some(pooling) = self.house.pooling.get(&endpoint.name) else {
            return Value::Null;
        };
        let figures = pooling.pool.figures();
        let mut value = pool_figures(&figures);
        value["endpoint"] = json!(endpoint.name.as_str());
        value["tenant"] = json!(endpoint.tenant.as_str());
        value["mode"] = json!(endpoint.pool.mode.as_str());
        value["pinned"] = json!(pooling.pins.pinned());
        value
    }

    /// `sessions`
    pub(super) fn sessions(&self) -> Listing {
        let mut listed = self.house.roster.all();
        listed.sort_by_cached_key(|listed| listed.who.id.to_string());
        Listing {
            key: "session",
            filters: &[
                "session",
                "endpoint",
                "tenant",
                "role",
                "database",
                "application",
                "state",
                "pooling",
            ],
            order: Order::ByKey,
            items: listed.iter().map(|listed| session_line(listed)).collect(),
        }
    }

    /// `wakes`
    pub(super) fn wakes(&self) -> Listing {
        Listing {
            key: "wake",
            filters: &["wake", "endpoint", "state"],
            order: Order::Latest,
            items: self.house.journal.wakes().iter().map(wake_line).collect(),
        }
    }

    /// `refusals`
    pub(super) fn refusals(&self) -> Listing {
        Listing {
            key: "session",
            filters: &["session", "endpoint", "tenant", "role", "sqlstate", "kind"],
            order: Order::Latest,
            items: self.house.journal.refusals().iter().map(refusal_line).collect(),
        }
    }
}

/// Why it is awake, or what it waits for, in a few words.
fn why(figures: &WakeFigures, clients: &Clients) -> String {
    let counted = |count: usize, one: &str, many: &str| match count {
        1 => format!("one {one}"),
        count => format!("{count} {many}"),
    };
    let keeps = |idle| counted(idle, "idle session keeps it awake", "idle sessions keep it awake");
    let pins = match &clients.pinned_first {
        None => String::new(),
        Some((who, pins)) => format!(", {} of them pinned: {pins} by {who}", clients.pinned_counted),
    };
    let idle = clients
        .idle_first
        .as_ref()
        .map_or_else(String::new, |who| format!(": {who}"));
    match figures.state {
        _ if figures.is_disabled => "disabled by an operator".to_owned(),
        ComputeState::Unknown | ComputeState::Inspecting => "nobody knows yet whether it runs".to_owned(),
        ComputeState::Asleep => "nobody needs it".to_owned(),
        ComputeState::InLine => "other computes are started before it".to_owned(),
        ComputeState::Waking => counted(
            figures.held_counted,
            "client is held for it",
            "clients are held for it",
        ),
        ComputeState::Suspending if figures.held_counted > 0 => {
            "it is woken again as soon as it has stopped".to_owned()
        }
        ComputeState::Emptying | ComputeState::Suspending => {
            "nobody has needed it for long enough".to_owned()
        }
        ComputeState::Failed => format!(
            "the last start failed: {}",
            figures.failure.as_deref().unwrap_or("nobody knows why")
        ),
        // A session that is not ended for a suspend has it in use also while it does nothing.
        ComputeState::Awake if figures.active > clients.idle_counted => {
            counted(figures.active, "client has it in use", "clients have it in use") + &pins
        }
        ComputeState::Awake if figures.active > 0 => {
            keeps(figures.active) + if pins.is_empty() { &idle } else { &pins }
        }
        ComputeState::Awake if !figures.is_suspendable => {
            "it is a server that pgwake does not stop".to_owned()
        }
        ComputeState::Awake if figures.suspend_after.is_none() => "suspend_after is \"never\"".to_owned(),
        ComputeState::Awake if figures.suspends_at.is_none() => keeps(figures.resting) + &idle,
        ComputeState::Awake => match (&figures.left, &figures.veto) {
            (Some(left), _) => format!("it could not be stopped, which is tried again: {left}"),
            (None, Some(veto)) => format!("vetoed: {veto}"),
            (None, None) => "it is suspended soon unless somebody comes".to_owned(),
        },
    }
}

fn compute(endpoint: &Endpoint) -> Value {
    match &endpoint.compute {
        Compute::Process(process) => json!({
            "kind": "process", "data_dir": process.data_dir.display().to_string(),
        }),
        Compute::Fixed(_) => json!({ "kind": "fixed" }),
        // What the commands are is for whoever may read the configuration.
        Compute::Command(_) => json!({ "kind": "command" }),
        Compute::Controlled(_) => json!({ "kind": "control_plane" }),
    }
}

fn pool_figures(figures: &PoolFigures) -> Value {
    let keys = figures.keys.iter().map(|key| {
        json!({
            "database": String::from_utf8_lossy(key.key.database()),
            "role": key.key.role(),
            "lent": key.lent, "kept": key.kept, "resting": key.resting,
        })
    });
    let sum = |pick: fn(&crate::pool::KeyFigures) -> usize| figures.keys.iter().map(pick).sum::<usize>();
    let counts = &figures.counts;
    let closed: BTreeMap<_, _> = CloseReason::ALL
        .into_iter()
        .map(|reason| (reason.as_str(), counts.closed(reason)))
        .collect();
    json!({
        "size": figures.size,
        "ceiling": figures.ceiling,
        "paused": figures.is_paused,
        "lent": sum(|key| key.lent),
        "kept": sum(|key| key.kept),
        "resting": sum(|key| key.resting),
        "closing": figures.closing,
        "waiting": figures.waiting + figures.waiting_for_slot,
        "waits": figures.waits.count,
        "wait_mean_ms": figures.waits.mean().as_secs_f64() * 1000.0,
        "wait_max_ms": figures.waits.max.as_secs_f64() * 1000.0,
        "turns": {
            "kept": counts.kept_taken, "resting": counts.resting_taken, "taken over": counts.stolen,
            "new": counts.adopted,
        },
        "closed": closed,
        "keys": keys.collect::<Vec<_>>(),
    })
}
