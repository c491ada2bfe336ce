//! From the names that a client gives to the endpoint it means.
//!
//! The first label of the TLS server name under a listed domain is the endpoint, or the whole name where an
//! endpoint lists it as a host. A server name that names none leaves it to `options=endpoint=NAME`, then to the
//! database where `routing.databases` lists it, then to the listener's default. `-pooler` behind a name asks for
//! transaction pooling and is no part of it. A name that nobody owns is not an error here: it goes on to a mock
//! login, so that a stranger cannot tell which names exist. Which databases are listed can be told. A branch that nobody has
//! goes on to its parent's login, for the same reason.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use arc_swap::ArcSwap;

use crate::config::{Config, DefaultEndpoint, Endpoint, Endpoints, PoolMode};
use crate::error::{ClientError, Fault, SqlState};
use crate::ids::{EndpointName, split_branch};

/// All endpoints, by every name they have.
#[derive(Debug)]
pub struct Directory(ArcSwap<Names>);

/// Those of one configuration, and of what came and went since it was read.
#[derive(Debug)]
struct Names {
    by_name: Endpoints,
    written: Arc<Written>,
}

/// The other names that its files have. Endpoints that no file has have none.
#[derive(Debug)]
struct Written {
    domains: Vec<String>,
    by_host: HashMap<String, EndpointName>,
    by_database: BTreeMap<String, DefaultEndpoint>,
}

/// What a client gave to say which endpoint it means.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said<'a> {
    /// The TLS server name, lowercase.
    pub server_name: Option<&'a str>,
    /// `endpoint=` in `options`.
    pub option: Option<&'a str>,
    /// The database; counts where nothing else names an endpoint.
    pub database: &'a [u8],
    /// The listener's default.
    pub default: Option<&'a DefaultEndpoint>,
}

/// What the names mean.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The endpoint's name as the client said it, without `-pooler`.
    pub said: String,
    /// `None`: nobody has that name.
    pub endpoint: Option<Arc<Endpoint>>,
    /// The branch that is named, where its parent exists and it does not: then `endpoint` is the parent.
    pub branch: Option<String>,
    /// What the name asks for; `None`: nothing, so that the endpoint's own mode holds.
    pub pooling: Option<PoolMode>,
}

impl Resolved {
    /// By what name strangers are told apart and shown a login: that of the parent for all its branches, whether they exist
    /// or not, and whether the parent does. Their logins are its logins, so that none of them tells which there are.
    pub fn known_as(&self) -> &str {
        split_branch(&self.said).map_or(&self.said, |(parent, _)| parent)
    }
}

/// Why names mean nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No name at all.
    #[error("no endpoint is named")]
    Nothing,
    /// Two names that differ.
    #[error("server name says endpoint {server_name:?}, options say {option:?}")]
    Contradiction {
        /// From the TLS server name.
        server_name: String,
        /// From `options`.
        option: String,
    },
}

impl Directory {
    /// The directory of a checked configuration.
    pub fn new(config: &Config) -> Self {
        Self(ArcSwap::from_pointee(Names::new(config)))
    }

    /// The names of another configuration hold from now on.
    pub fn replace(&self, config: &Config) {
        self.0.store(Arc::new(Names::new(config)));
    }

    /// These are the endpoints from now on; what else the files say is as it was.
    pub fn set_endpoints(&self, endpoints: &Endpoints) {
        let written = self.0.load().written.clone();
        let by_name = endpoints.clone();
        self.0.store(Arc::new(Names { by_name, written }));
    }

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = Arc<Endpoint>> + use<> {
        let endpoints: Vec<_> = self.0.load().by_name.values().cloned().collect();
        endpoints.into_iter()
    }

    /// The endpoint of this name.
    pub fn endpoint(&self, name: &EndpointName) -> Option<Arc<Endpoint>> {
        self.0.load().by_name.get(name).cloned()
    }

    /// The endpoint that a client means.
    ///
    /// # Errors
    /// [`ResolveError`]: nothing is named, or two things are.
    pub fn resolve(&self, said: Said<'_>) -> Result<Resolved, ResolveError> {
        self.0.load().resolve(said)
    }
}

impl Names {
    fn new(config: &Config) -> Self {
        let hosts = |endpoint: &Arc<Endpoint>| {
            let name = endpoint.name.clone();
            endpoint
                .hosts
                .clone()
                .into_iter()
                .map(move |host| (host, name.clone()))
        };
        Self {
            by_name: config.endpoints.clone(),
            written: Arc::new(Written {
                domains: config.domains.clone(),
                by_host: config.endpoints.values().flat_map(hosts).collect(),
                by_database: config.databases.clone(),
            }),
        }
    }

    fn resolve(&self, said: Said<'_>) -> Result<Resolved, ResolveError> {
        let by_server_name = said.server_name.and_then(|name| self.named_by(name));
        // As in DNS, case does not matter; a name has one spelling from here on, so that every spelling of it has
        // the same mock login.
        let option = said.option.map(str::to_ascii_lowercase);
        // For the same reason, names that nobody has lose their suffix as well.
        let by_server_name = by_server_name.as_deref().map(PoolMode::split_name);
        let by_option = option.as_deref().map(PoolMode::split_name);
        let (name, pooling) = match (by_server_name, by_option) {
            (Some((by_server_name, _)), Some((by_option, _))) if by_server_name != by_option => {
                // Repeats what was said: which endpoint a host belongs to is not told to strangers.
                let server_name = said.server_name.unwrap_or_default().to_owned();
                let option = option.unwrap_or_default();
                return Err(ResolveError::Contradiction { server_name, option });
            }
            (Some((name, pooling)), Some((_, also))) => (name, pooling.or(also)),
            (Some(named), None) | (None, Some(named)) => named,
            (None, None) => {
                let database = str::from_utf8(said.database).ok();
                let of_database = database.and_then(|name| self.written.by_database.get(name));
                let default = of_database.or(said.default).ok_or(ResolveError::Nothing)?;
                (default.name.as_str(), default.pooling)
            }
        };
        let (endpoint, branch) = match (self.by_name.get(name), split_branch(name)) {
            (None, Some((parent, branch))) => {
                let parent = self.by_name.get(parent);
                (parent, parent.map(|_| branch.to_owned()))
            }
            (endpoint, _) => (endpoint, None),
        };
        Ok(Resolved {
            said: name.to_owned(),
            endpoint: endpoint.cloned(),
            branch,
            pooling,
        })
    }

    /// The endpoint's name in a server name, suffix included; `None` where it names no endpoint.
    fn named_by(&self, server_name: &str) -> Option<String> {
        if let Some(name) = self.written.by_host.get(server_name) {
            return Some(name.as_str().to_owned());
        }
        // The longest domain counts, where one listed domain is inside another.
        let under = |domain: &String| server_name.strip_suffix(domain.as_str())?.strip_suffix('.');
        let domains = &self.written.domains;
        let label = domains.iter().filter_map(under).min_by_key(|label| label.len())?;
        let is_domain_itself = domains.iter().any(|domain| domain == server_name);
        (!is_domain_itself).then(|| label.to_owned())
    }
}

impl ClientError for ResolveError {
    fn sqlstate(&self) -> SqlState {
        SqlState::REJECTED
    }

    fn message(&self) -> Cow<'static, str> {
        match self {
            Self::Nothing => "no endpoint is named".into(),
            Self::Contradiction { .. } => "two different endpoints are named".into(),
        }
    }

    fn detail(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Nothing => None,
            Self::Contradiction { server_name, option } => {
                Some(format!("the TLS server name is \"{server_name}\", options say \"{option}\"").into())
            }
        }
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::Nothing => {
                "connect with TLS to <endpoint>.<domain>, or add options=endpoint=NAME to the connection string"
                    .into()
            }
            Self::Contradiction { .. } => "name the endpoint once".into(),
        })
    }

    fn fault(&self) -> Fault {
        Fault::Client
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        let [server_name, option] = ["demo-main.db.localhost", "demo-shop"].map(str::to_owned);
        crate::error::examples! {
            Self::Nothing => [Self::Nothing],
            Self::Contradiction { .. } => [Self::Contradiction { server_name: server_name.clone(), option: option.clone() }],
        }
    }
}

#[cfg(test)]
mod tests;
