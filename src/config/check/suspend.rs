//! What speaks against a suspend, and whether it can be asked for.

use std::collections::BTreeSet;

use crate::config::{Compute, RolesFrom, SuspendVeto, built_in, problem::Wrong};

use super::endpoint::Written;

impl Written<'_> {
    pub(super) fn check_suspend_veto(
        &mut self,
        roles_from: &RolesFrom,
        compute: Option<&Compute>,
    ) -> BTreeSet<SuspendVeto> {
        let reads = matches!(roles_from, RolesFrom::Postgres(_));
        let Some(at) = self.inherit("suspend_veto", |keys| &keys.suspend_veto) else {
            let asked = if reads { &built_in::SUSPEND_VETO[..] } else { &[] };
            return asked.iter().copied().collect();
        };
        let asked: BTreeSet<_> = at.value.0.iter().map(|at| at.value).collect();
        // A local Postgres lets pgwake's own user in, and a fixed one is never suspended.
        if !asked.is_empty() && !reads && matches!(compute, Some(Compute::Command(_))) {
            let message = format!(
                "endpoint `{}` ({}) has no login that its Postgres could be asked with",
                self.name, self.own.spot.place
            );
            let fix = "write roles_from = { role = \"…\", password = { file = \"…\" } } for this endpoint, or suspend_veto = []";
            self.report.add(&at.spot, Wrong::new(message, fix));
        }
        asked
    }
}
