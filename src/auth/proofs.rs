//! All that proofs are checked against, and what is pretended to whoever names nothing that exists.
//!
//! It decides nothing itself. `server` builds it, `session` passes it to [`super::authenticate`].

use std::sync::Arc;

use super::{
    line::{Lane, Line},
    roles::{Login, RoleBook},
    secrets::ITERATIONS_DEFAULT,
};
use crate::config::{Config, Endpoint, LoginMethod};

/// What proofs are checked against.
pub struct Proofs {
    pub(super) roles: Arc<RoleBook>,
    pub(super) line: Line,
    /// What `[defaults]` says, and so what most endpoints do.
    strangers: LoginMethod,
}

impl Proofs {
    /// Those of a configuration.
    pub(crate) fn new(config: &Config, roles: Arc<RoleBook>) -> Self {
        Self::of(config.login, roles)
    }

    /// For endpoints that do not exist, this method is pretended.
    pub(super) fn of(strangers: LoginMethod, roles: Arc<RoleBook>) -> Self {
        Self {
            roles,
            line: Line::default(),
            strangers,
        }
    }

    /// How clients of an endpoint log in; without one, as those of most.
    pub(super) fn login(&self, endpoint: Option<&Arc<Endpoint>>) -> Login {
        match endpoint {
            Some(endpoint) => self.roles.login_method(endpoint),
            None => Login::without_roles(self.strangers),
        }
    }

    /// The PBKDF2 rounds that an unknown role shows.
    pub(super) fn mock_iterations(&self, endpoint: Option<&Arc<Endpoint>>) -> u32 {
        endpoint.map_or(ITERATIONS_DEFAULT, |endpoint| {
            self.roles.mock_iterations(endpoint)
        })
    }
}

/// In which lane the clients of an endpoint wait.
pub(super) fn lane(endpoint: Option<&Arc<Endpoint>>) -> Lane {
    endpoint.map(|endpoint| endpoint.tenant.clone())
}
