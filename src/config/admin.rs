//! Who may look at pgwake, and how, as checked.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use super::{Endpoint, LoginMethod, Role};
use crate::ids::{Secret, Verifier};
use crate::metrics::Per;

/// What an operator may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorRight {
    /// Look.
    Read,
    /// Look and order.
    Operate,
}

/// Somebody who may come to the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator {
    /// What the password is checked against.
    pub verifier: Verifier,
    /// What he may do there.
    pub right: OperatorRight,
}

/// Where and to whom pgwake shows itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where operators come in over HTTP; `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// Who has one of these may look. None at all: whoever reaches a loopback address may.
    pub read_tokens: Vec<Secret>,
    /// Who has one of these may look and order. None at all: nobody may order.
    pub operate_tokens: Vec<Secret>,
    /// Who may come to the console, the database `pgwake`.
    pub roles: BTreeMap<String, Operator>,
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
            roles: BTreeMap::new(),
            metrics_per: Per::Process,
            metrics_names_max: 100,
        }
    }
}

impl Admin {
    /// What operators log in to as clients: as if it were an endpoint, with their roles. It is in no directory and has no
    /// compute. `None`: there are no roles.
    pub fn console(&self) -> Option<Arc<Endpoint>> {
        if self.roles.is_empty() {
            return None;
        }
        let role = |(name, operator): (&String, &Operator)| {
            let role = Role {
                verifier: Some(operator.verifier.clone()),
                server_password: None,
                subjects: Vec::new(),
                certificate_names: Vec::new(),
            };
            (name.clone(), role)
        };
        Some(Arc::new(Endpoint {
            roles: self.roles.iter().map(role).collect(),
            login: LoginMethod::Scram,
            ..Endpoint::without_compute("pgwake")
        }))
    }
}
