//! DATABASES, POOLS, LISTS, STATS and TOTALS: what is counted and added up.

use std::{collections::BTreeMap, time::Duration};

use super::Cell;
use crate::admin::View;
use crate::config::{Compute, Endpoint, PoolMode, ServerAddress};
use crate::session::roster::{Doing, Listed};

impl View {
    pub(super) fn database_row(&self, endpoint: &Endpoint) -> Vec<Cell> {
        let (host, port) = match &endpoint.compute {
            Compute::Fixed(fixed) => match &fixed.address {
                ServerAddress::Tcp { host, port } => (Cell::from(host), Cell::Number(i64::from(*port))),
                ServerAddress::Unix(path) => (Cell::from(path.display().to_string()), Cell::Nothing),
            },
            Compute::Process(_) => (Cell::Nothing, Cell::Nothing),
        };
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
            Cell::Nothing,
            Cell::Nothing,
            Cell::count(endpoint.pool.size),
            Cell::Number(0),
            Cell::Number(0),
            endpoint.pool.mode.as_str().into(),
            Cell::count(endpoint.pool.size),
            Cell::count(live),
            Cell::Number(i64::from(pool.is_some_and(|pool| pool.is_paused))),
            Cell::Number(i64::from(figures.is_some_and(|figures| figures.is_disabled))),
        ]
    }

    /// One for each endpoint, role and kind of pooling that has a client or a server session.
    pub(super) fn pool_rows(&self) -> Vec<Vec<Cell>> {
        let mut pools: BTreeMap<(String, String, &str), Pool> = BTreeMap::new();
        for listed in self.house.roster.all() {
            let who = &listed.who;
            let key = (who.endpoint.to_string(), who.role.clone(), who.pooling.as_str());
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
            ]
        });
        rows.collect()
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
        ]
        .map(|(list, items)| vec![list.into(), Cell::count(items)])
        .to_vec()
    }

    pub(super) fn stats_rows(&self) -> Vec<Vec<Cell>> {
        let bytes = self.house.roster.bytes_by_endpoint();
        let endpoints = self.house.directory.endpoints();
        let row = |endpoint: &Endpoint| {
            let (received, sent) = bytes.get(&endpoint.name).copied().unwrap_or_default();
            let pool = self
                .house
                .pooling
                .get(&endpoint.name)
                .map(|pooling| pooling.pool.figures());
            let pool = pool.unwrap_or_default();
            let counts = &pool.counts;
            let loans = counts.adopted + counts.kept_taken + counts.resting_taken + counts.stolen;
            let waited = u64::try_from(pool.waits.total.as_micros()).unwrap_or(u64::MAX);
            vec![
                endpoint.name.as_str().into(),
                Cell::total(loans),
                Cell::total(received),
                Cell::total(sent),
                Cell::total(waited),
            ]
        };
        endpoints.map(|endpoint| row(&endpoint)).collect()
    }

    pub(super) fn total_rows(&self) -> Vec<Vec<Cell>> {
        let names = [
            "total_xact_count",
            "total_received",
            "total_sent",
            "total_wait_time",
        ];
        let rows = self.stats_rows();
        let sum = |column: usize| {
            let cells = rows.iter().map(|row| match row[column] {
                Cell::Number(number) => number,
                Cell::Text(_) | Cell::Nothing => 0,
            });
            Cell::Number(cells.sum())
        };
        let rows = names.iter().enumerate();
        rows.map(|(index, name)| vec![(*name).into(), sum(index + 1)])
            .collect()
    }
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
