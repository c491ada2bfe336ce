//! What strangers may try, and from where an endpoint may be reached.

use std::time::Duration;

use crate::config::{
    Access, DurationText, GateRules, Network, Rate,
    file::{AccessTable, GateTable},
    origin::{OriginsByKey, record_own},
    problem::{Report, Wrong},
    read::{List, Setting},
    value::Count,
};

use super::{MOMENT, endpoint::Written, within};

/// Nobody is locked out for longer.
const LOCKOUT_MAX: Duration = Duration::from_secs(86_400);

/// The rules of the whole process.
pub(super) fn check(
    table: &Setting<GateTable>,
    origins: &mut OriginsByKey,
    report: &mut Report,
) -> GateRules {
    let default = GateRules::default();
    let mut written = Gate {
        table,
        origins,
        report,
    };
    let rules = GateRules {
        unproved_max: written.count("unproved_max", |t| &t.unproved_max, default.unproved_max),
        unproved_per_network_max: written.count(
            "unproved_per_network_max",
            |t| &t.unproved_per_network_max,
            default.unproved_per_network_max,
        ),
        attempts: written.rate("attempts", |t| &t.attempts, default.attempts),
        attempts_per_endpoint: written.rate(
            "attempts_per_endpoint",
            |t| &t.attempts_per_endpoint,
            default.attempts_per_endpoint,
        ),
        failures_max: written.count("failures_max", |t| &t.failures_max, default.failures_max),
        lockout_min: written.lockout("lockout_min", |t| &t.lockout_min, default.lockout_min),
        lockout_max: written.lockout("lockout_max", |t| &t.lockout_max, default.lockout_max),
    };
    let longest = table.key(|table| &table.lockout_max).given();
    let first = table.key(|table| &table.lockout_min).given();
    if rules.lockout_max < rules.lockout_min
        && let Some(at) = longest.or(first)
    {
        let (min, max) = (DurationText(rules.lockout_min), DurationText(rules.lockout_max));
        let message = format!("`lockout_max` ({max}) is shorter than `lockout_min` ({min})");
        let fix = format!("write lockout_max = \"{min}\" or more");
        report.add(&at.spot, Wrong::new(message, fix));
    }
    rules
}

/// `[gate]` as it is written.
struct Gate<'a> {
    table: &'a Setting<GateTable>,
    origins: &'a mut OriginsByKey,
    report: &'a mut Report,
}

impl<'a> Gate<'a> {
    fn key<T>(&mut self, key: &str, pick: fn(&GateTable) -> &Setting<T>) -> &'a Setting<T> {
        let setting = self.table.key(pick);
        record_own(self.origins, &format!("gate.{key}"), setting);
        setting
    }

    fn count<const LEAST: usize, const MOST: usize>(
        &mut self,
        key: &str,
        pick: fn(&GateTable) -> &Setting<Count<LEAST, MOST>>,
        default: usize,
    ) -> usize {
        self.key(key, pick).given().map_or(default, |at| at.value.0)
    }

    fn rate(&mut self, key: &str, pick: fn(&GateTable) -> &Setting<Rate>, default: Rate) -> Rate {
        self.key(key, pick).given().map_or(default, |at| at.value)
    }

    fn lockout(
        &mut self,
        key: &str,
        pick: fn(&GateTable) -> &Setting<Duration>,
        default: Duration,
    ) -> Duration {
        match self.key(key, pick).given() {
            Some(at) => within(at, &(MOMENT..=LOCKOUT_MAX), self.report),
            None => default,
        }
    }
}

impl Written<'_> {
    /// From where this endpoint may be reached.
    pub(super) fn check_access(&mut self) -> Access {
        let default = Access::default();
        Access {
            allow: self.networks("allow", |t| &t.allow, default.allow),
            deny: self.networks("deny", |t| &t.deny, default.deny),
        }
    }

    fn networks(
        &mut self,
        key: &str,
        pick: fn(&AccessTable) -> &Setting<List<Network>>,
        default: Vec<Network>,
    ) -> Vec<Network> {
        match self.inherit(&format!("access.{key}"), |inherited| inherited.access.key(pick)) {
            Some(at) => at.value.0.iter().map(|at| at.value).collect(),
            None => default,
        }
    }
}
