//! What is limited, and how much of it is used, as plain data for whoever looks.

use std::{sync::Arc, time::Duration};

use super::{
    Quotas, Scope,
    account::{Account, Counted, Paced, Rated},
    lock,
};
use crate::config::{Endpoint, Quota};

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaFigures {
    /// Whose.
    pub scope: Scope,
    /// The key in the configuration.
    pub limit: &'static str,
    /// So many at once, or in a period.
    pub max: u64,
    /// The period; `None`: at once.
    pub per: Option<Duration>,
    /// How much of it is used now.
    pub used: u64,
    /// How much of it only operator roles may have.
    pub reserved: u64,
}

impl Quotas {
    /// Every limit of the process, of these endpoints and their tenants, and of the roles that have come.
    pub fn figures(&self, endpoints: impl Iterator<Item = Arc<Endpoint>>) -> Vec<QuotaFigures> {
        let is_limited = |quota: &Quota| *quota != Quota::default();
        // Nobody may have come yet to whom a limit belongs: it is shown all the same.
        for endpoint in endpoints {
            if is_limited(&endpoint.quotas.per_tenant) {
                self.tenant(&endpoint);
            }
            if is_limited(&endpoint.quotas.per_endpoint) {
                self.endpoint(&endpoint);
            }
        }
        let mut accounts = vec![self.process.clone()];
        accounts.extend(lock(&self.tenants).values().cloned());
        accounts.extend(lock(&self.endpoints).values().cloned());
        accounts.extend(lock(&self.roles).values().cloned());
        accounts.iter().flat_map(figures).collect()
    }
}

fn figures(account: &Arc<Account>) -> Vec<QuotaFigures> {
    let rules = account.rules();
    let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let figures = |limit, max, per, used| QuotaFigures {
        scope: account.scope().clone(),
        limit,
        max,
        per,
        used,
        reserved: 0,
    };
    let counted = [
        ("clients_max", rules.clients_max, Counted::Clients),
        (
            "server_sessions_max",
            rules.server_sessions_max,
            Counted::ServerSessions,
        ),
        ("computes_awake_max", rules.computes_awake_max, Counted::Awake),
        ("held_clients_max", rules.held_clients_max, Counted::Held),
    ];
    let counted = counted.into_iter().filter_map(|(limit, max, counted)| {
        let figures = figures(limit, number(max?), None, number(account.used(counted)));
        let reserved = if counted == Counted::Clients {
            number(rules.operator_reserve)
        } else {
            0
        };
        Some(QuotaFigures { reserved, ..figures })
    });
    let rated = [("connects", Rated::Connects), ("wakes", Rated::Wakes)];
    let rated = rated
        .into_iter()
        .filter_map(|(limit, rated)| Some((limit, account.rate_used(rated)?)));
    let paced = [
        ("transactions", Paced::Transactions),
        ("bytes_in", Paced::BytesIn),
        ("bytes_out", Paced::BytesOut),
    ];
    let paced = paced
        .into_iter()
        .filter_map(|(limit, paced)| Some((limit, account.pace(paced).used(account.now())?)));
    let fast = rated.chain(paced);
    let fast = fast.map(|(limit, used)| figures(limit, used.max, Some(used.per), used.used));
    counted.chain(fast).collect()
}
