//! How much clients may have: of the whole process, and of each endpoint with its tenant and its roles. Each key is
//! inherited by itself.

use std::time::Duration;

use crate::config::{
    EndpointQuotas, Limits, Quota,
    file::{LimitsTable, QuotaTable, ScopedLimits},
    origin::{OriginsByKey, record_own},
    problem::{Report, Spot, Wrong},
    quota::Limited,
    read::{At, Setting},
    value::Count,
};

use super::{MOMENT, YEAR, endpoint::Written, within};

/// Finds one key of a [`QuotaTable`], and what it says.
trait Source {
    fn said<T: Clone>(&mut self, key: &str, pick: fn(&QuotaTable) -> &Setting<T>) -> Option<At<T>>;

    fn report(&mut self) -> &mut Report;
}

/// `[limits]`
struct OfProcess<'a> {
    table: &'a Setting<LimitsTable>,
    origins: &'a mut OriginsByKey,
    report: &'a mut Report,
}

impl Source for OfProcess<'_> {
    fn said<T: Clone>(&mut self, key: &str, pick: fn(&QuotaTable) -> &Setting<T>) -> Option<At<T>> {
        let setting = self.table.key(|table| pick(&table.quota));
        record_own(self.origins, &format!("limits.{key}"), setting);
        setting.given().cloned()
    }

    fn report(&mut self) -> &mut Report {
        self.report
    }
}

/// One scope of an endpoint's `limits`.
struct OfScope<'w, 'a> {
    written: &'w mut Written<'a>,
    scope: &'static str,
    table: fn(&ScopedLimits) -> &Setting<QuotaTable>,
}

impl Source for OfScope<'_, '_> {
    fn said<T: Clone>(&mut self, key: &str, pick: fn(&QuotaTable) -> &Setting<T>) -> Option<At<T>> {
        let (scope, table) = (self.scope, self.table);
        self.written
            .inherit(&format!("limits.{scope}.{key}"), |inherited| {
                inherited.limits.key(table).key(pick)
            })
    }

    fn report(&mut self) -> &mut Report {
        self.written.report
    }
}

fn count<const LEAST: usize, const MOST: usize>(
    said: Option<At<Limited<Count<LEAST, MOST>>>>,
) -> Option<usize> {
    said.and_then(|at| at.value.0).map(|count| count.0)
}

fn value<T: Clone>(said: Option<At<Limited<T>>>) -> Option<T> {
    said.and_then(|at| at.value.0)
}

/// What a scope says. `clients_max` is what holds where it says nothing.
fn read(source: &mut impl Source, clients_max: Option<usize>) -> Quota {
    let clients = source.said("clients_max", |t| &t.clients_max);
    let clients_max = match clients {
        Some(at) => at.value.0.map(|count| count.0),
        None => clients_max,
    };
    let reserve = source.said("operator_reserve", |t| &t.operator_reserve);
    if let (Some(at), Some(max)) = (&reserve, clients_max)
        && at.value.0 >= max
    {
        let message = format!("all of the {max} clients are reserved for operator roles");
        let fix = format!("write at most {}", max - 1);
        source.report().add(&at.spot, Wrong::new(message, fix));
    }
    Quota {
        clients_max,
        operator_reserve: reserve.map_or(0, |at| at.value.0),
        server_sessions_max: count(source.said("server_sessions_max", |t| &t.server_sessions_max)),
        computes_awake_max: count(source.said("computes_awake_max", |t| &t.computes_awake_max)),
        held_clients_max: count(source.said("held_clients_max", |t| &t.held_clients_max)),
        connects: value(source.said("connects", |t| &t.connects)),
        wakes: value(source.said("wakes", |t| &t.wakes)),
        transactions: value(source.said("transactions", |t| &t.transactions)),
        bytes_in: value(source.said("bytes_in", |t| &t.bytes_in)),
        bytes_out: value(source.said("bytes_out", |t| &t.bytes_out)),
        session_age: time(source, "session_age", |t| &t.session_age),
        idle_time: time(source, "idle_time", |t| &t.idle_time),
        idle_in_transaction_time: time(source, "idle_in_transaction_time", |t| {
            &t.idle_in_transaction_time
        }),
    }
}

fn time(
    source: &mut impl Source,
    key: &str,
    pick: fn(&QuotaTable) -> &Setting<Limited<Duration>>,
) -> Option<Duration> {
    let At { value, spot } = source.said(key, pick)?;
    let at = At {
        value: value.0?,
        spot,
    };
    Some(within(&at, &(MOMENT..=YEAR), source.report()))
}

/// What `[limits]` says.
pub(super) fn of_process(
    table: &Setting<LimitsTable>,
    origins: &mut OriginsByKey,
    report: &mut Report,
) -> Quota {
    let default = Limits::default().clients_max;
    if let Some(at) = table.key(|table| &table.quota.clients_max).given()
        && at.value.0.is_none()
    {
        let message = "pgwake as a whole cannot take clients without a limit";
        report.add(
            &at.spot,
            Wrong::new(message, format!("write how many, such as {default}")),
        );
    }
    let mut source = OfProcess {
        table,
        origins,
        report,
    };
    read(&mut source, Some(default))
}

impl Written<'_> {
    /// What holds for this endpoint.
    pub(super) fn check_quotas(&mut self) -> EndpointQuotas {
        self.refuse_foreign_scopes();
        let per_tenant = self.quota("per_tenant", |limits| &limits.per_tenant);
        let per_endpoint = self.quota("per_endpoint", |limits| &limits.per_endpoint);
        let per_role = self.quota("per_role", |limits| &limits.per_role);
        let operators = self.inherit("limits.operator_roles", |inherited| {
            inherited.limits.key(|limits| &limits.operator_roles)
        });
        let operators = operators.map_or_else(Vec::new, |at| at.value.0);
        EndpointQuotas {
            per_tenant,
            per_endpoint,
            per_role,
            operator_roles: operators.into_iter().map(|at| at.value).collect(),
        }
    }

    fn quota(&mut self, scope: &'static str, table: fn(&ScopedLimits) -> &Setting<QuotaTable>) -> Quota {
        let mut source = OfScope {
            written: self,
            scope,
            table,
        };
        read(&mut source, None)
    }

    /// What stands where it cannot hold.
    fn refuse_foreign_scopes(&mut self) {
        let own = &self.own.value.inherited;
        let mut wrong: Vec<(Spot, &str, String)> = Vec::new();
        if let Some(at) = own.limits.key(|limits| &limits.per_tenant).given() {
            let message = "an endpoint does not say what its whole tenant may have";
            let fix = format!("move it to [tenants.{}.limits]", self.tenant_name);
            wrong.push((at.spot.clone(), message, fix));
        }
        for level in [Some(own), Some(&self.tenant.inherited), self.defaults] {
            let limits = level.map_or(&Setting::Absent, |level| &level.limits);
            for scope in [
                limits.key(|limits| &limits.per_endpoint),
                limits.key(|limits| &limits.per_role),
            ] {
                if let Some(at) = scope.key(|scope| &scope.computes_awake_max).given() {
                    let fix = "write it under `per_tenant`".to_owned();
                    wrong.push((at.spot.clone(), "an endpoint has one compute", fix));
                }
            }
        }
        for (spot, message, fix) in wrong {
            self.report.add(&spot, Wrong::new(message, fix));
        }
    }
}
