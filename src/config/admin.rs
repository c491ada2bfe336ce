//! Who may look at pgwake, and how, as checked.

use std::net::SocketAddr;

use crate::ids::Secret;
use crate::metrics::Per;

/// Where and to whom pgwake shows itself.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where operators come in over HTTP; `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// Who has one of these may look. None at all: whoever reaches a loopback address may.
    pub read_tokens: Vec<Secret>,
    /// Who has one of these may look and order. None at all: nobody may order.
    pub operate_tokens: Vec<Secret>,
    /// Whose series metrics have.
    pub metrics_per: Per,
    /// Most names among their labels; all others are `other`.
    pub metrics_names_max: usize,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: None,
            read_tokens: Vec::new(),
            operate_tokens: Vec::new(),
            metrics_per: Per::Process,
            metrics_names_max: 100,
        }
    }
}
