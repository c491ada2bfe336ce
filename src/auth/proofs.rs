//! All that proofs are checked against, and what is pretended to whoever names nothing that exists.
//!
//! It decides nothing itself. `server` builds it, `session` passes it to [`super::authenticate`].

use std::sync::Arc;

use super::{
    certificate::AuthorityBook,
    line::{Lane, Line},
    roles::{Login, RoleBook},
    secrets::ITERATIONS_DEFAULT,
    token::TokenBook,
};
use crate::config::{Config, Endpoint, LoginMethod, Tokens};
use crate::tls::TlsError;

/// What proofs are checked against.
pub struct Proofs {
    pub(super) roles: Arc<RoleBook>,
    pub(super) line: Line,
    pub(super) tokens: TokenBook,
    pub(super) authorities: AuthorityBook,
    strangers: Strangers,
}

/// What `[defaults]` says, and so what most endpoints do: pretended where there is no endpoint.
#[derive(Debug, Clone)]
pub(super) struct Strangers {
    pub(super) login: LoginMethod,
    pub(super) tokens: Option<Tokens>,
}

impl Proofs {
    /// Those of a configuration. Blocks on files.
    ///
    /// # Errors
    /// The file of an authority of client certificates cannot be used.
    pub(crate) fn new(config: &Config, roles: Arc<RoleBook>) -> Result<Self, TlsError> {
        let strangers = Strangers {
            login: config.login,
            tokens: config.tokens.clone(),
        };
        Ok(Self {
            roles,
            line: Line::default(),
            tokens: TokenBook::new(config),
            authorities: AuthorityBook::load(config)?,
            strangers,
        })
    }

    /// Those of another configuration. What is known of roles and of keys that are the same, and whose turn it is, goes on.
    /// Blocks on files.
    ///
    /// # Errors
    /// As [`Proofs::new`].
    pub(crate) fn renewed(&self, config: &Config) -> Result<Self, TlsError> {
        let strangers = Strangers {
            login: config.login,
            tokens: config.tokens.clone(),
        };
        Ok(Self {
            roles: self.roles.clone(),
            line: self.line.clone(),
            tokens: self.tokens.renewed(config),
            authorities: AuthorityBook::load(config)?,
            strangers,
        })
    }

    /// These, without certificates.
    #[cfg(test)]
    pub(super) fn of(strangers: Strangers, tokens: TokenBook, roles: Arc<RoleBook>) -> Self {
        Self {
            roles,
            line: Line::default(),
            tokens,
            authorities: AuthorityBook::none(),
            strangers,
        }
    }

    /// Gets what has to be fetched, in the background. In a runtime.
    pub(crate) fn begin(&self) {
        self.tokens.begin();
    }

    /// Waits for what is being fetched, which is bounded. Cancel safe.
    pub(crate) async fn drain(&self) {
        self.tokens.drain().await;
    }

    /// The tokens that an endpoint lets in; without one, those that most do.
    pub(super) fn token_rules<'p>(&'p self, endpoint: Option<&'p Arc<Endpoint>>) -> Option<&'p Tokens> {
        match endpoint {
            Some(endpoint) => endpoint.tokens.as_ref(),
            None => self.strangers.tokens.as_ref(),
        }
    }

    /// How clients of an endpoint log in; without one, as those of most.
    pub(super) fn login(&self, endpoint: Option<&Arc<Endpoint>>) -> Login {
        match endpoint {
            Some(endpoint) => self.roles.login_method(endpoint),
            None => Login::without_roles(self.strangers.login),
        }
    }

    /// The word for it.
    pub(crate) fn method(&self, endpoint: Option<&Arc<Endpoint>>) -> &'static str {
        match self.login(endpoint) {
            Login::Scram => "scram",
            Login::Password => "password",
            Login::Token => "token",
            Login::PasswordOrToken => "password-or-token",
            Login::Certificate => "certificate",
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
