//! Who may look at pgwake, as written.

use crate::config::{
    problem::{Report, Spot},
    read::{List, Read, table},
    tree::Node,
    value::{Count, read_word},
};
use crate::ids::Secret;
use crate::metrics::Per;

table! {
    /// `[admin]`
    AdminTable {
        /// Who has one may look.
        read_tokens: List<Secret>,
        /// Who has one may order.
        operate_tokens: List<Secret>,
        /// Whose series metrics have.
        metrics_per: Per,
        /// Most names among their labels.
        metrics_names_max: Count<1, 10_000>,
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
