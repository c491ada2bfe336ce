//! Who may look at pgwake, as written.

use crate::config::{
    OperatorRight,
    problem::{Report, Spot},
    read::{List, Named, Read, table},
    tree::Node,
    value::{Count, RoleName, read_word},
};
use crate::ids::{Secret, Verifier};
use crate::metrics::Per;

table! {
    /// `[admin]`
    AdminTable {
        /// Who has one may look.
        read_tokens: List<Secret>,
        /// Who has one may order.
        operate_tokens: List<Secret>,
        /// Who may come to the console.
        roles: Named<RoleName, OperatorTable>,
        /// Whose series metrics have.
        metrics_per: Per,
        /// Most names among their labels.
        metrics_names_max: Count<1, 10_000>,
    }
}

table! {
    /// `[admin.roles.<role>]`
    OperatorTable {
        /// What its password is checked against.
        verifier: Verifier,
        /// What it may do.
        right: OperatorRight,
    }
}

impl Read for OperatorRight {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = [("read", Self::Read), ("operate", Self::Operate)];
        read_word(node, spot, words, report)
    }
}

impl Read for Per {
    fn read(node: &Node, spot: &Spot, report: &mut Report) -> Option<Self> {
        let words = [
            ("process", Self::Process),
            ("tenant", Self::Tenant),
            ("endpoint", Self::Endpoint),
        ];
        read_word(node, spot, words, report)
    }
}
