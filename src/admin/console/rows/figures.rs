//! DATABASES, POOLS, LISTS, the three of STATS and TOTALS: what is counted and added up.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Cell;
use crate::admin::{View, averages::Average, reading::Clients};
use crate::config::{Compute, Endpoint, PoolMode, ServerAddress};
use crate::session::roster::{Deeds, Doing, Listed};

impl View {
    pub(super) fn database_rows(&self) -> Vec<Vec<Cell>> {
        let clients = self.clients_by_endpoint();
        let endpoints = self.house.directory.endpoints();
        let row = |endpoint: Arc<Endpoint>| {
            let clients = clients.get(&endpoint.name).map_or(0, Clients::count);
            self.database_row(&endpoint, clients)
        };
        endpoints.map(row).collect()
    }

    fn database_row(&self, endpoint: &Endpoint, clients: usize) -> Vec<Cell> {
        let (host, port) = address(endpoint);
        let figures = self.house.wakes.figures(&endpoint.name);
        let pool = self
            .house
            .pooling
            .get(&endpoint.name)
            .map(|pooling| pooling.pool.figures());
        let live = pool.as_ref().map_or(0, |pool| {
            pool.keys
                .iter()
                .map(|key| key.lent + key.kept + key.resting)
                .sum()
        });
        vec![
            endpoint.name.as_str().into(),
            host,
            port,
            // Clients say which database; exporters tell rows apart by this column, as by STATS' and POOLS' own.
            endpoint.name.as_str().into(),
            Cell::Nothing,
            Cell::count(endpoint.pool.size),
            Cell::Number(0),
            Cell::Number(0),
            endpoint.pool.mode.as_str().into(),
            Cell::count(endpoint.pool.size),
            Cell::count(live),
            Cell::Number(i64::from(pool.is_some_and(|pool| pool.is_paused))),
            Cell::Number(i64::from(figures.is_some_and(|figures| figures.is_disabled))),
            Cell::Number(0),
            Cell::Nothing,
            Cell::Nothing,
            // PgBouncer's word for no limit.
            Cell::count(endpoint.quotas.per_endpoint.clients_max.unwrap_or(0)),
            Cell::count(clients),
        ]
    }

    /// One for each endpoint, role and kind of pooling that has a client or a server session.
    pub(super) fn pool_rows(&self) -> Vec<Vec<Cell>> {
        let mut pools: BTreeMap<(String, String, &str), Pool> = BTreeMap::new();
        for listed in self.house.roster.all() {
            let who = &listed.who;
            let key = (
                who.endpoint.to_string(),
                who.role.to_string(),
                who.pooling.as_str(),
            );
            let pool = pools.entry(key).or_default();
            pool.add(&listed);
            // In session pooling each client has a server session of its own; on the console nobody has one.
            let has_own = who.pooling == PoolMode::Session && listed.doing().0 != Doing::Waiting;
            pool.server_active += usize::from(has_own && self.house.pooling.get(&who.endpoint).is_some());
        }
        for (endpoint, pooling) in self.house.pooling.by_name() {
            for key in pooling.pool.figures().keys {
                let role = key.key.role().to_owned();
                let of = (endpoint.to_string(), role, PoolMode::Transaction.as_str());
                let pool = pools.entry(of).or_default();
                pool.server_active += key.lent;
                pool.server_idle += key.kept + key.resting;
            }
        }
        let rows = pools.into_iter().map(|((endpoint, role, mode), pool)| {
            let microseconds = pool.longest_wait.as_micros() % 1_000_000;
            vec![
                endpoint.into(),
                role.into(),
                Cell::count(pool.active),
                Cell::count(pool.waiting),
                Cell::Number(0),
                Cell::Number(0),
                Cell::count(pool.server_active),
                Cell::Number(0),
                Cell::Number(0),
                Cell::count(pool.server_idle),
                Cell::Number(0),
                Cell::Number(0),
                Cell::Number(0),
                Cell::total(pool.longest_wait.as_secs()),
                Cell::total(u64::try_from(microseconds).unwrap_or_default()),
                mode.into(),
                Cell::Nothing,
            ]
        });
        rows.collect()
    }

    /// One for each server session: those that clients have for their stay, and those of transaction pooling.
    pub(super) fn server_rows(&self) -> Vec<Vec<Cell>> {
        let mut rows = Vec::new();
        for listed in self.house.roster.all() {
            let has_own = listed.who.pooling == PoolMode::Session && listed.doing().0 != Doing::Waiting;
            let endpoint = self.house.directory.endpoint(&listed.who.endpoint);
            if let Some(endpoint) = endpoint.filter(|_| has_own) {
                rows.push(server_row(&endpoint, &listed.who.role, "active", Some(&listed)));
            }
        }
        for (name, pooling) in self.house.pooling.by_name() {
            let Some(endpoint) = self.house.directory.endpoint(&name) else {
                continue;
            };
            for key in pooling.pool.figures().keys {
                let row = |state| server_row(&endpoint, key.key.role(), state, None);
                rows.extend((0..key.lent).map(|_| row("active")));
                rows.extend((0..key.kept + key.resting).map(|_| row("idle")));
            }
        }
        rows
    }

    pub(super) fn list_rows(&self) -> Vec<Vec<Cell>> {
        let listed = self.house.roster.all();
        let (mut used, mut free) = (0, 0);
        for pooling in self.house.pooling.all() {
            for key in pooling.pool.figures().keys {
                used += key.lent;
                free += key.kept + key.resting;
            }
        }
        let clients = (self.clients)();
        [
            ("databases", self.house.directory.endpoints().count()),
            ("users", self.user_rows().len()),
            ("pools", self.pool_rows().len()),
            ("free_clients", 0),
            ("used_clients", listed.len()),
            ("login_clients", clients.saturating_sub(listed.len())),
            ("free_servers", free),
            ("used_servers", used),
            // PgBouncer's cache of names: pgwake has none.
            ("dns_names", 0),
            ("dns_zones", 0),
            ("dns_queries", 0),
            ("dns_pending", 0),
        ]
        .map(|(list, items)| vec![list.into(), Cell::count(items)])
        .to_vec()
    }

    /// Totals, and averages behind them.
    pub(super) fn stats_rows(&self) -> Vec<Vec<Cell>> {
        self.of_deeds(|deeds, average| {
            let figures = totals(deeds).into_iter().chain(averages(average));
            // PgBouncer called transactions requests before 1.8; exporters of that time look for it.
            let turns = [deeds.turns, deeds.turns, average.turns];
            figures.chain(turns.map(Cell::total)).collect()
        })
    }

    pub(super) fn stats_total_rows(&self) -> Vec<Vec<Cell>> {
        self.of_deeds(|deeds, _| {
            let turns = Cell::total(deeds.turns);
            totals(deeds).into_iter().chain([turns]).collect()
        })
    }

    pub(super) fn stats_average_rows(&self) -> Vec<Vec<Cell>> {
        self.of_deeds(|_, average| {
            let turns = Cell::total(average.turns);
            averages(average).into_iter().chain([turns]).collect()
        })
    }

    /// One for each endpoint, with its name in front.
    fn of_deeds(&self, cells: fn(Deeds, Average) -> Vec<Cell>) -> Vec<Vec<Cell>> {
        let done = self.house.roster.done();
        let averages = self.averages.of(&done).by_endpoint;
        let row = |endpoint: &Endpoint| {
            let mut row = vec![endpoint.name.as_str().into()];
            let deeds = done.by_endpoint.get(&endpoint.name).copied().unwrap_or_default();
            let average = averages.get(&endpoint.name).copied().unwrap_or_default();
            row.extend(cells(deeds, average));
            row
        };
        let endpoints = self.house.directory.endpoints();
        endpoints.map(|endpoint| row(&endpoint)).collect()
    }

    /// STATS of all endpoints together: counts and times added up, averages of times over all.
    pub(super) fn total_rows(&self) -> Vec<Vec<Cell>> {
        let done = self.house.roster.done();
        let (deeds, average) = (done.all, self.averages.of(&done).all);
        let names = ["xact_count", "query_count", "client_bytes", "server_bytes"];
        let names = names.into_iter().chain(["xact_time", "query_time", "wait_time"]);
        let row = |kind: &str, (name, cell): (&str, Cell)| vec![format!("{kind}_{name}").into(), cell];
        let total_rows = names.clone().zip(totals(deeds)).map(|of| row("total", of));
        let average_rows = names.zip(averages(average)).map(|of| row("avg", of));
        let assigned = [("total", deeds.turns), ("avg", average.turns)];
        let assigned =
            assigned.map(|(kind, turns)| row(kind, ("server_assignment_count", Cell::total(turns))));
        total_rows.chain(average_rows).chain(assigned).collect()
    }
}

fn totals(deeds: Deeds) -> [Cell; 7] {
    let microseconds = |spent: Duration| Cell::total(u64::try_from(spent.as_micros()).unwrap_or(u64::MAX));
    [
        Cell::total(deeds.turns),
        Cell::total(deeds.passed.queries),
        Cell::total(deeds.passed.bytes_in),
        Cell::total(deeds.passed.bytes_out),
        microseconds(deeds.active),
        microseconds(deeds.active),
        microseconds(deeds.waiting),
    ]
}

fn averages(average: Average) -> [Cell; 7] {
    [
        average.turns,
        average.queries,
        average.bytes_in,
        average.bytes_out,
        average.active,
        average.of_query,
        average.waiting,
    ]
    .map(Cell::total)
}

/// Where an endpoint's server is, if that is always there.
fn address(endpoint: &Endpoint) -> (Cell, Cell) {
    let address = match &endpoint.compute {
        Compute::Fixed(fixed) => Some(&fixed.address),
        Compute::Command(command) => command.address.as_ref(),
        Compute::Process(_) | Compute::Controlled(_) => None,
    };
    match address {
        Some(ServerAddress::Tcp { host, port }) => (Cell::from(host), Cell::Number(i64::from(*port))),
        // Some exporters take the port for a number, wherever the server is.
        Some(ServerAddress::Unix(path)) => (Cell::from(path.display().to_string()), Cell::Number(0)),
        None => (Cell::Nothing, Cell::Number(0)),
    }
}

/// A server session, with what is known of it: `link` is the client that has it for its whole stay.
fn server_row(endpoint: &Endpoint, role: &str, state: &str, link: Option<&Listed>) -> Vec<Cell> {
    let (host, port) = address(endpoint);
    let link_id = link.map_or(Cell::Nothing, |listed| listed.who.id.to_string().into());
    let application = link.map_or(Cell::Nothing, |listed| (&*listed.who.application).into());
    vec![
        "S".into(),
        role.into(),
        endpoint.name.as_str().into(),
        state.into(),
        host,
        port,
        Cell::Nothing,
        Cell::Nothing,
        Cell::Nothing,
        Cell::Nothing,
        Cell::Number(0),
        Cell::Number(0),
        Cell::Number(0),
        Cell::Nothing,
        link_id,
        Cell::Nothing,
        Cell::Nothing,
        application,
        Cell::Nothing,
        Cell::Nothing,
        Cell::Nothing,
    ]
}

/// The clients and server sessions of one row of POOLS.
#[derive(Default)]
struct Pool {
    active: usize,
    waiting: usize,
    longest_wait: Duration,
    server_active: usize,
    server_idle: usize,
}

impl Pool {
    fn add(&mut self, listed: &Listed) {
        let (doing, since) = listed.doing();
        match doing {
            Doing::Waiting => {
                self.waiting += 1;
                self.longest_wait = self.longest_wait.max(since);
            }
            Doing::Active | Doing::Idle | Doing::Parked => self.active += 1,
        }
    }
}
