//! What speaks against a suspend, whether it can be asked for, and whose traffic does not.

use std::collections::BTreeSet;

use crate::config::{
    Compute, IdleIgnore, RolesFrom, SuspendVeto, built_in,
    file::IdleIgnoreTable,
    problem::Wrong,
    read::{List, Setting},
};

use super::endpoint::Written;

/// Each login, and each question before a suspend, goes through them.
const IGNORED_MAX: usize = 100;

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

    pub(super) fn check_idle_ignore(&mut self) -> IdleIgnore {
        IdleIgnore {
            roles: self.ignored("roles", |table| &table.roles),
            application_names: self.ignored("application_names", |table| &table.application_names),
        }
    }

    fn ignored<T: Clone + Into<String>>(
        &mut self,
        key: &str,
        pick: fn(&IdleIgnoreTable) -> &Setting<List<T>>,
    ) -> BTreeSet<String> {
        let key = format!("idle_ignore.{key}");
        let Some(at) = self.inherit(&key, |inherited| inherited.idle_ignore.key(pick)) else {
            return BTreeSet::new();
        };
        let names = at.value.0.into_iter();
        let names: BTreeSet<String> = names.map(|name| name.value.into()).collect();
        if names.len() > IGNORED_MAX {
            let message = format!("{} names are more than {IGNORED_MAX}", names.len());
            let fix = "give those clients a role of their own, and name that";
            self.report.add(&at.spot, Wrong::new(message, fix));
        }
        names
    }
}
