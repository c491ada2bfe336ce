//! Where audit lines go.

use crate::audit::{Rules, To};
use crate::config::{
    built_in,
    file::Root,
    origin::{OriginsByKey, record_own},
    problem::{Report, Wrong},
    value::AuditTo,
};

/// What `[audit]` says.
pub(super) fn check(root: &Root, origins: &mut OriginsByKey, report: &mut Report) -> Rules {
    let to = root.audit.key(|audit| &audit.to);
    let file = root.audit.key(|audit| &audit.file);
    let when_full = root.audit.key(|audit| &audit.when_full);
    record_own(origins, "audit.to", to);
    record_own(origins, "audit.file", file);
    record_own(origins, "audit.when_full", when_full);
    let default = built_in::AUDIT;
    let target = match (to.given(), file.given()) {
        (Some(to), Some(file)) if to.value == AuditTo::File => To::File(file.value.clone()),
        (Some(to), None) if to.value == AuditTo::File && file.is_absent() => {
            let wrong = Wrong::new(
                "which file is missing",
                "add file = \"/var/log/pgwake/audit.json\"",
            );
            report.add(&to.spot, wrong);
            default.to
        }
        (_, Some(file)) if !to.is_refused() => {
            let wrong = Wrong::new(
                "nothing is written to this file",
                "add to = \"file\", or remove `file`",
            );
            report.add(&file.spot, wrong);
            default.to
        }
        (Some(to), _) if to.value == AuditTo::Stdout => To::Stdout,
        _ => default.to,
    };
    Rules {
        to: target,
        when_full: when_full.given().map_or(default.when_full, |at| at.value),
    }
}
