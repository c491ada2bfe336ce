//! What stands in the tables of the console.

mod figures;

use std::{collections::BTreeMap, time::SystemTime};

use super::{
    commands::Wanted,
    tables::{Cell, Shown, Table},
};
use crate::admin::{
    View,
    order::Order,
    process,
    time::{milliseconds, rfc3339},
};
use crate::ids::EndpointName;
use crate::session::roster::{Doing, Listed};
use crate::shutdown::Phase;

impl View {
    /// A table.
    pub(super) fn table(&self, shown: Shown) -> Table {
        let rows = match shown {
            Shown::Help => help(),
            Shown::Version => vec![vec![concat!("pgwake ", env!("CARGO_PKG_VERSION")).into()]],
            Shown::State => self.state_rows(),
            Shown::Databases => self.database_rows(),
            Shown::Pools => self.pool_rows(),
            Shown::Clients => self.client_rows(),
            Shown::Servers => self.server_rows(),
            Shown::Users => self.user_rows(),
            Shown::Lists => self.list_rows(),
            Shown::Totals => self.total_rows(),
            Shown::Stats => self.stats_rows(),
            Shown::StatsTotals => self.stats_total_rows(),
            Shown::StatsAverages => self.stats_average_rows(),
            // Those who forward cancel requests to each other: pgwake has none.
            Shown::Peers | Shown::PeerPools => Vec::new(),
            Shown::Config => self.config_rows(),
            Shown::Mem => {
                let memory = process::read().memory;
                let [size, used, free] = [Cell::Nothing, Cell::Nothing, Cell::Nothing];
                vec![vec!["process".into(), size, used, free, Cell::total(memory)]]
            }
            Shown::Endpoints => self.endpoint_rows(),
            Shown::Wakes => self.wake_rows(),
            Shown::Waiters => self.waiter_rows(),
            Shown::Tenants => self.tenant_rows(),
            Shown::Quotas => self.quota_rows(),
        };
        Table {
            columns: shown.columns(),
            rows,
        }
    }

    /// What a command comes to.
    pub(super) fn orders(&self, wanted: Wanted) -> Vec<Order> {
        let each = |one: Option<EndpointName>, order: fn(EndpointName) -> Order| match one {
            Some(one) => vec![order(one)],
            None => {
                let endpoints = self.house.directory.endpoints();
                endpoints.map(|endpoint| order(endpoint.name.clone())).collect()
            }
        };
        match wanted {
            Wanted::Pause(one) => each(one, Order::Pause),
            Wanted::Resume(one) => each(one, Order::Resume),
            Wanted::Reconnect(one) => each(one, Order::Reconnect),
            Wanted::Suspend(one) => each(one, Order::Suspend),
            Wanted::Wake(one) => vec![Order::Wake(one)],
            Wanted::Disable(one) => vec![Order::Disable(one)],
            Wanted::Enable(one) => vec![Order::Enable(one)],
            Wanted::Kill(one) => {
                let listed = self.house.roster.all().into_iter();
                let of_it = listed.filter(|listed| listed.who.endpoint == one);
                of_it.map(|listed| Order::Terminate(listed.who.id)).collect()
            }
            Wanted::KillClient(one) => vec![Order::Terminate(one)],
            Wanted::Reload => vec![Order::Reload],
            Wanted::Shutdown => vec![Order::Drain],
        }
    }

    fn state_rows(&self) -> Vec<Vec<Cell>> {
        let yes = |is: bool| if is { "yes" } else { "no" };
        let is_draining = self.house.shutdown.phase() != Phase::Running;
        let pools = self.house.pooling.all();
        let is_paused = !pools.is_empty() && pools.iter().all(|pooling| pooling.pool.figures().is_paused);
        [
            ("active", yes(!is_draining)),
            ("paused", yes(is_paused)),
            ("draining", yes(is_draining)),
        ]
        .map(|(key, value)| vec![key.into(), value.into()])
        .to_vec()
    }

    fn client_rows(&self) -> Vec<Vec<Cell>> {
        let row = |listed: &Listed| {
            let who = &listed.who;
            let (doing, since) = listed.doing();
            let wait = if doing == Doing::Waiting {
                since
            } else {
                std::time::Duration::ZERO
            };
            let asked = match doing {
                Doing::Waiting | Doing::Active => rfc3339(SystemTime::now() - since).into(),
                Doing::Idle | Doing::Parked => Cell::Nothing,
            };
            let (address, port) = address_of(&who.peer);
            vec![
                "C".into(),
                (&*who.role).into(),
                who.endpoint.as_str().into(),
                if doing == Doing::Waiting {
                    "waiting"
                } else {
                    "active"
                }
                .into(),
                address.into(),
                port,
                Cell::Nothing,
                Cell::Nothing,
                rfc3339(who.since).into(),
                asked,
                Cell::total(wait.as_secs()),
                Cell::Number(i64::from(wait.subsec_micros())),
                Cell::Number(0),
                who.id.to_string().into(),
                Cell::Nothing,
                Cell::Nothing,
                if who.tls == "off" { "" } else { who.tls }.into(),
                (&*who.application).into(),
                Cell::Nothing,
                Cell::Nothing,
                who.id.to_string().into(),
                who.ignored.map_or(Cell::Nothing, |by| by.as_str().into()),
            ]
        };
        self.house.roster.all().iter().map(|listed| row(listed)).collect()
    }

    /// Server sessions stand in POOLS, by endpoint; no limit counts a role's of all endpoints.
    fn user_rows(&self) -> Vec<Vec<Cell>> {
        let mut users: BTreeMap<String, usize> = BTreeMap::new();
        for endpoint in self.house.directory.endpoints() {
            users.extend(endpoint.roles.keys().map(|name| (name.clone(), 0)));
        }
        for listed in self.house.roster.all() {
            // Roles that are read from Postgres are not listed.
            if let Some(clients) = users.get_mut(&*listed.who.role) {
                *clients += 1;
            }
        }
        let row = |(name, clients): (String, usize)| {
            let mut row = vec![name.into()];
            row.extend([const { Cell::Nothing }; 6]);
            row.push(Cell::count(clients));
            row
        };
        users.into_iter().map(row).collect()
    }

    fn config_rows(&self) -> Vec<Vec<Cell>> {
        let default = crate::config::Limits::default();
        let config = self.config.load();
        let limits = &config.limits;
        let durations = [
            ("login_timeout", limits.login_timeout, default.login_timeout),
            ("drain_delay", limits.drain_delay, default.drain_delay),
            ("drain_timeout", limits.drain_timeout, default.drain_timeout),
            ("connect_timeout", limits.connect_timeout, default.connect_timeout),
            (
                "tcp_user_timeout",
                limits.tcp_user_timeout,
                default.tcp_user_timeout,
            ),
            ("tcp_keepalive", limits.tcp_keepalive, default.tcp_keepalive),
        ];
        // The others hold as soon as the configuration is read again.
        let at_restart = ["tcp_user_timeout", "tcp_keepalive", "commands_at_once"];
        let row = |key: &str, value: String, default: String| {
            let changeable = if at_restart.contains(&key) { "no" } else { "yes" };
            vec![key.into(), value.into(), default.into(), changeable.into()]
        };
        let text = |duration| crate::config::DurationText(duration).to_string();
        let numbers = [
            ("clients_max", limits.clients_max, default.clients_max),
            // The same by PgBouncer's name.
            ("max_client_conn", limits.clients_max, default.clients_max),
            (
                "wakes_at_once_max",
                limits.wakes_at_once_max,
                default.wakes_at_once_max,
            ),
            (
                "commands_at_once",
                limits.commands_at_once,
                default.commands_at_once,
            ),
        ];
        let number =
            |(key, value, default): (&str, usize, usize)| row(key, value.to_string(), default.to_string());
        let mut rows: Vec<_> = numbers.map(number).into();
        rows.extend(durations.map(|(key, value, default)| row(key, text(value), text(default))));
        rows
    }

    /// The same as the API's list, column by column.
    fn endpoint_rows(&self) -> Vec<Vec<Cell>> {
        let fields = [
            "endpoint",
            "tenant",
            "state",
            "for_ms",
            "why",
            "held",
            "sessions",
            "pinned",
            "wakes_started",
            "disabled",
        ];
        cells_of(&self.endpoints().items, &fields)
    }

    fn tenant_rows(&self) -> Vec<Vec<Cell>> {
        let fields = ["tenant", "endpoints", "awake", "failed", "held", "sessions"];
        cells_of(&self.tenants().items, &fields)
    }

    fn quota_rows(&self) -> Vec<Vec<Cell>> {
        let fields = [
            "scope", "tenant", "endpoint", "role", "limit", "max", "per_ms", "used", "reserved",
        ];
        cells_of(&self.quotas().items, &fields)
    }

    fn wake_rows(&self) -> Vec<Vec<Cell>> {
        let wakes = self.house.journal.wakes().into_iter();
        let rows = wakes.map(|line| {
            let phase =
                |(phase, took): &(&str, std::time::Duration)| format!("{phase} {} ms", took.as_millis());
            let phases: Vec<String> = line.phases.iter().map(phase).collect();
            vec![
                line.id.into(),
                line.endpoint.as_str().into(),
                rfc3339(line.at).into(),
                line.state.as_str().into(),
                Cell::total(milliseconds(line.took)),
                Cell::total(line.held),
                phases.join(", ").into(),
                line.reason.into(),
            ]
        });
        rows.collect()
    }

    fn waiter_rows(&self) -> Vec<Vec<Cell>> {
        let listed = self.house.roster.all().into_iter();
        let rows = listed.filter_map(|listed| {
            let (doing, since) = listed.doing();
            let who = &listed.who;
            (doing == Doing::Waiting).then(|| {
                vec![
                    who.id.to_string().into(),
                    who.endpoint.as_str().into(),
                    (&*who.role).into(),
                    who.peer.as_str().into(),
                    Cell::total(milliseconds(since)),
                ]
            })
        });
        rows.collect()
    }
}

fn help() -> Vec<Vec<Cell>> {
    let shows = Shown::ALL
        .iter()
        .map(|shown| (format!("SHOW {}", shown.word()), "a table"));
    let commands = [
        ("PAUSE [endpoint]", "transaction pooling lends no server session"),
        ("RESUME [endpoint]", "the end of that"),
        ("RECONNECT [endpoint]", "server sessions are replaced"),
        (
            "SUSPEND [endpoint]",
            "suspends the compute, if nobody has it in use",
        ),
        ("WAKE endpoint", "wakes it"),
        ("DISABLE endpoint", "its clients get no compute"),
        ("ENABLE endpoint", "the end of that"),
        ("KILL endpoint", "ends its sessions"),
        (
            "KILL_CLIENT id",
            "ends the session that CLIENTS shows with this id",
        ),
        ("RELOAD", "reads the configuration again, as SIGHUP does"),
        ("SHUTDOWN", "drains, as SIGTERM does"),
    ];
    let commands = commands.map(|(command, what)| (command.to_owned(), what));
    let all = shows.chain(commands);
    all.map(|(command, what)| vec![command.into(), what.into()])
        .collect()
}

fn cells_of(items: &[serde_json::Value], fields: &[&str]) -> Vec<Vec<Cell>> {
    let cell = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Bool(is) => Cell::Number(i64::from(*is)),
        serde_json::Value::Number(number) => number.as_i64().map_or(Cell::Nothing, Cell::Number),
        _ => Cell::Nothing,
    };
    let row = |item: &serde_json::Value| fields.iter().map(|field| cell(&item[*field])).collect();
    items.iter().map(row).collect()
}

fn address_of(peer: &str) -> (&str, Cell) {
    match peer.rsplit_once(':') {
        Some((address, port)) => (address, port.parse().map_or(Cell::Nothing, Cell::Number)),
        None => (peer, Cell::Nothing),
    }
}
