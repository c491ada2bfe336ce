//! A limit is reached: which, whose, how much of it is used, and what its client reads.

use std::{borrow::Cow, fmt, time::Duration};

use super::{Counted, Paced, Rated};
use crate::config::{Rate, RateText};
use crate::error::{ClientError, Fault, SqlState};
use crate::ids::{EndpointName, TenantName};

/// Whose limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// That of all clients.
    Process,
    /// A tenant's.
    Tenant(TenantName),
    /// An endpoint's.
    Endpoint(EndpointName),
    /// A role's at an endpoint.
    Role(EndpointName, String),
}

impl Scope {
    fn table(&self) -> &'static str {
        match self {
            Self::Process => "limits",
            Self::Tenant(_) => "limits.per_tenant",
            Self::Endpoint(_) => "limits.per_endpoint",
            Self::Role(..) => "limits.per_role",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process => f.write_str("this pgwake"),
            Self::Tenant(name) => write!(f, "tenant \"{name}\""),
            Self::Endpoint(name) => write!(f, "endpoint \"{name}\""),
            Self::Role(endpoint, role) => write!(f, "role \"{role}\" at endpoint \"{endpoint}\""),
        }
    }
}

/// Of what there is too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Counted(Counted),
    Rated(Rated),
    Paced(Paced),
}

impl From<Counted> for What {
    fn from(counted: Counted) -> Self {
        Self::Counted(counted)
    }
}

impl From<Rated> for What {
    fn from(rated: Rated) -> Self {
        Self::Rated(rated)
    }
}

impl From<Paced> for What {
    fn from(paced: Paced) -> Self {
        Self::Paced(paced)
    }
}

/// How much of a limit is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Used {
    /// There may be `max`, beside those that are reserved, and there are `used`.
    Count {
        max: usize,
        reserved: usize,
        used: usize,
    },
    /// All of it, and the next is possible after that time.
    Rate { rate: Rate, after: Duration },
    /// The limit has just been taken away.
    Nothing,
}

/// There is too much of something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} of {}", .0.words(), .0.scope)]
pub struct OverLimit(Box<Over>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Over {
    scope: Scope,
    what: What,
    used: Used,
}

impl Over {
    fn words(&self) -> &'static str {
        match self.what {
            What::Counted(Counted::Clients) => "too many clients",
            What::Counted(Counted::ServerSessions) => "too many server sessions",
            What::Counted(Counted::Held) => "too many clients that wait for a compute",
            What::Counted(Counted::Awake) => "too many computes that are awake",
            What::Rated(Rated::Connects) => "too many connects in too little time",
            What::Rated(Rated::Wakes) => "too many wakes in too little time",
            What::Paced(_) => "too many transactions in too little time",
        }
    }

    fn key(&self) -> &'static str {
        match self.what {
            What::Counted(Counted::Clients) => "clients_max",
            What::Counted(Counted::ServerSessions) => "server_sessions_max",
            What::Counted(Counted::Held) => "held_clients_max",
            What::Counted(Counted::Awake) => "computes_awake_max",
            What::Rated(Rated::Connects) => "connects",
            What::Rated(Rated::Wakes) => "wakes",
            What::Paced(_) => "transactions",
        }
    }
}

impl OverLimit {
    pub(super) fn new(scope: Scope, what: What, used: Used) -> Self {
        Self(Box::new(Over { scope, what, used }))
    }

    /// The limit's key in the configuration.
    pub fn limit(&self) -> String {
        format!("{}.{}", self.0.scope.table(), self.0.key())
    }
}

impl ClientError for OverLimit {
    fn sqlstate(&self) -> SqlState {
        match self.0.what {
            What::Counted(Counted::Clients | Counted::ServerSessions) => SqlState::TOO_MANY_CONNECTIONS,
            What::Counted(Counted::Held) => SqlState::CANNOT_CONNECT_NOW,
            What::Counted(Counted::Awake) | What::Rated(_) | What::Paced(_) => SqlState::LIMIT_EXCEEDED,
        }
    }

    fn message(&self) -> Cow<'static, str> {
        self.to_string().into()
    }

    fn detail(&self) -> Option<Cow<'static, str>> {
        let limit = self.limit();
        Some(match &self.0.used {
            Used::Count {
                max,
                reserved: 0,
                used,
            } => format!("{limit} is {max}, and there are {used}").into(),
            Used::Count { max, reserved, used } => {
                let all = max + reserved;
                format!(
                    "{limit} is {all}, of which {reserved} are reserved for operators, and there are {used}"
                )
                .into()
            }
            Used::Rate { rate, after } => {
                let (rate, after) = (RateText(*rate), after.as_secs_f64());
                format!("{limit} is {rate}, and all of it is used; the next is possible in {after:.1} s")
                    .into()
            }
            Used::Nothing => return None,
        })
    }

    fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self.0.what {
            What::Counted(Counted::Clients) => {
                "close connections that are not needed, or share them; the operator of pgwake can raise the limit".into()
            }
            What::Counted(Counted::ServerSessions) => {
                "close connections; clients share server sessions at <endpoint>-pooler, between their transactions".into()
            }
            What::Counted(Counted::Held) => "try again in a moment: the compute is starting".into(),
            What::Counted(Counted::Awake) => "try again when another compute sleeps".into(),
            What::Rated(Rated::Connects) => "keep connections open and use them again".into(),
            What::Rated(Rated::Wakes) => "try again later; a longer suspend_after means fewer wakes".into(),
            What::Paced(_) => "try again after that time; put more work into one transaction".into(),
        })
    }

    fn fault(&self) -> Fault {
        match self.0.scope {
            Scope::Process => Fault::Pgwake,
            Scope::Tenant(_) | Scope::Endpoint(_) | Scope::Role(..) => Fault::Tenant,
        }
    }

    #[cfg(test)]
    fn examples() -> Vec<Self> {
        use Counted::{Awake, Clients, Held, ServerSessions};
        use Paced::{BytesIn, BytesOut, Transactions};
        use Rated::{Connects, Wakes};
        let over = |what: What| Self::new(Scope::Process, what, Used::Nothing);
        let _every_limit_is_below = |what| match what {
            What::Counted(Clients | ServerSessions | Held | Awake) => (),
            What::Rated(Connects | Wakes) => (),
            What::Paced(Transactions | BytesIn | BytesOut) => (),
        };
        let counted = [Clients, ServerSessions, Held, Awake].map(|what| over(what.into()));
        let rated = [Connects, Wakes].map(|what| over(what.into()));
        let paced = [Transactions, BytesIn, BytesOut].map(|what| over(what.into()));
        counted.into_iter().chain(rated).chain(paced).collect()
    }
}
