//! Which branches of an endpoint there may be. Each key of `branches` is inherited by itself.

use crate::config::{
    BranchRules, DurationText,
    file::{BranchesTable, ComputeTable},
    problem::Wrong,
    read::{At, Setting},
    value::Count,
};

use super::{MOMENT, YEAR, endpoint::Written};

impl Written<'_> {
    /// What holds for this endpoint.
    pub(super) fn check_branches(&mut self) -> BranchRules {
        let default = BranchRules::default();
        let on_connect = self.inherit_branches("on_connect", |t| &t.on_connect);
        let ttl = self.inherit_branches("ttl", |t| &t.ttl);
        let bytes_max = self.inherit_branches("tenant_bytes_max", |t| &t.tenant_bytes_max);
        if let Some(at) = &ttl
            && let Some(ttl) = at.value.0
            && !(MOMENT..=YEAR).contains(&ttl)
        {
            let (least, most) = (DurationText(MOMENT), DurationText(YEAR));
            let message = format!("{} is not between {least} and {most}", DurationText(ttl));
            let fix = format!("write a duration from \"{least}\" to \"{most}\", or \"never\"");
            self.report.add(&at.spot, Wrong::new(message, fix));
        }
        let own = self.own.value.inherited.branches.key(|t| &t.on_connect);
        if let Some(at) = own.given().filter(|at| at.value)
            && let Some(ComputeTable::Fixed(_)) = self.own.value.compute.given().map(|at| &at.value)
        {
            let message = "a fixed server has no branches";
            let fix = "remove it: only computes with kind = \"process\" have data that pgwake can copy";
            self.report.add(&at.spot, Wrong::new(message, fix));
        }
        BranchRules {
            on_connect: on_connect.map_or(default.on_connect, |at| at.value),
            ttl: ttl.map_or(default.ttl, |at| at.value.0),
            max: self.branches_max("max", |t| &t.max, default.max),
            tenant_max: self.branches_max("tenant_max", |t| &t.tenant_max, default.tenant_max),
            tenant_bytes_max: bytes_max.map(|at| u64::try_from(at.value.0).unwrap_or(u64::MAX)),
        }
    }

    fn branches_max(
        &mut self,
        key: &str,
        pick: fn(&BranchesTable) -> &Setting<Count<0, 100_000>>,
        default: usize,
    ) -> usize {
        self.inherit_branches(key, pick).map_or(default, |at| at.value.0)
    }

    fn inherit_branches<T: Clone>(
        &mut self,
        key: &str,
        pick: fn(&BranchesTable) -> &Setting<T>,
    ) -> Option<At<T>> {
        self.inherit(&format!("branches.{key}"), |inherited| {
            inherited.branches.key(pick)
        })
    }
}
