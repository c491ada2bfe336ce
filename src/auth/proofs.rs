//! All that proofs are checked against, and what is pretended to whoever names nothing that exists.
//!
//! It decides nothing itself. `server` builds it, `session` passes it to [`super::authenticate`].

use std::{collections::BTreeMap, sync::Arc};

use super::{
    certificate::AuthorityBook,
    line::{Lane, Line},
    roles::{Login, RoleBook},
    secrets::{ITERATIONS_DEFAULT, SALT_BYTES},
    token::TokenBook,
};
use crate::config::{Config, Endpoint, LoginMethod, Role, Tokens};
use crate::ids::{ScramVerifier, Verifier};
use crate::tls::TlsError;

/// What proofs are checked against.
pub struct Proofs {
    pub(super) roles: Arc<RoleBook>,
    pub(super) line: Line,
    pub(super) tokens: TokenBook,
    pub(super) authorities: AuthorityBook,
    nobodys: Arc<Endpoint>,
}

/// What `[defaults]` says, and so what most endpoints do, as an endpoint: a name that nobody has takes every step, and
/// all the time, that one of theirs takes.
fn nobodys(config: &Config) -> Arc<Endpoint> {
    let mut rules = config.endpoints.values().map(|one| &one.client_certificates);
    Arc::new(Endpoint {
        tokens: config.tokens.clone(),
        // What is shown is checked by somebody's rules; nobody comes in by that.
        client_certificates: rules.find_map(Clone::clone),
        ..pretended(config.login)
    })
}

/// The role that is looked up at an endpoint that does not exist, whoever comes: to find one takes longer than not to.
pub(super) const NOBODY: &str = "nobody";

/// Were this somebody's name, nothing but a little time would be lost.
pub(super) fn pretended(login: LoginMethod) -> Endpoint {
    let nobody = Role {
        // Nothing is ever checked against it.
        verifier: Some(Verifier::Scram(ScramVerifier {
            iterations: ITERATIONS_DEFAULT,
            salt: vec![0; SALT_BYTES],
            stored_key: [0; 32],
            server_key: [0; 32],
        })),
        server_password: None,
        subjects: Vec::new(),
        certificate_names: Vec::new(),
    };
    Endpoint {
        login,
        roles: BTreeMap::from([(NOBODY.to_owned(), nobody)]),
        ..Endpoint::without_compute("no-such-endpoint")
    }
}

impl Proofs {
    /// Those of a configuration. Blocks on files.
    ///
    /// # Errors
    /// The file of an authority of client certificates cannot be used.
    pub(crate) fn new(config: &Config, roles: Arc<RoleBook>) -> Result<Self, TlsError> {
        Ok(Self {
            roles,
            line: Line::default(),
            tokens: TokenBook::new(config),
            authorities: AuthorityBook::load(config)?,
            nobodys: nobodys(config),
        })
    }

    /// Those of another configuration. What is known of roles and of keys that are the same, and whose turn it is, goes on.
    /// Blocks on files.
    ///
    /// # Errors
    /// As [`Proofs::new`].
    pub(crate) fn renewed(&self, config: &Config) -> Result<Self, TlsError> {
        Ok(Self {
            roles: self.roles.clone(),
            line: self.line.clone(),
            tokens: self.tokens.renewed(config),
            authorities: AuthorityBook::load(config)?,
            nobodys: nobodys(config),
        })
    }

    /// Whether clients of this endpoint can be checked: its keys and its authority are known.
    pub(crate) fn has_all_for(&self, endpoint: &Endpoint) -> bool {
        let tokens = endpoint.tokens.as_ref();
        let certificates = endpoint.client_certificates.as_ref();
        tokens.is_none_or(|tokens| self.tokens.has(tokens))
            && certificates.is_none_or(|certificates| self.authorities.has(certificates))
    }

    /// These and what clients of one more endpoint are checked against. Blocks on files.
    ///
    /// # Errors
    /// As [`Proofs::new`].
    pub(crate) fn with(&self, endpoint: &Endpoint) -> Result<Self, TlsError> {
        Ok(Self {
            roles: self.roles.clone(),
            line: self.line.clone(),
            tokens: self.tokens.with(endpoint.tokens.as_ref()),
            authorities: self.authorities.with(endpoint.client_certificates.as_ref())?,
            nobodys: self.nobodys.clone(),
        })
    }

    /// These, without certificates.
    #[cfg(test)]
    pub(super) fn of(nobodys: Arc<Endpoint>, tokens: TokenBook, roles: Arc<RoleBook>) -> Self {
        Self {
            roles,
            line: Line::default(),
            tokens,
            authorities: AuthorityBook::none(),
            nobodys,
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

    /// The endpoint; without one, what stands in its place.
    pub(super) fn shown<'p>(&'p self, endpoint: Option<&'p Arc<Endpoint>>) -> &'p Arc<Endpoint> {
        endpoint.unwrap_or(&self.nobodys)
    }

    /// The tokens that an endpoint lets in; without one, those that most do.
    pub(super) fn token_rules<'p>(&'p self, endpoint: Option<&'p Arc<Endpoint>>) -> Option<&'p Tokens> {
        self.shown(endpoint).tokens.as_ref()
    }

    /// How clients of an endpoint log in; without one, as those of most.
    pub(super) fn login(&self, endpoint: Option<&Arc<Endpoint>>) -> Login {
        self.roles.login_method(self.shown(endpoint))
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
        self.roles.mock_iterations(self.shown(endpoint))
    }
}

/// In which lane the clients of an endpoint wait.
pub(super) fn lane(endpoint: Option<&Arc<Endpoint>>) -> Lane {
    endpoint.map(|endpoint| endpoint.tenant.clone())
}
