//! What a client reads when pgwake refuses or ends it, and whose fault that was.
//!
//! Each module keeps its own small error enum and implements [`ClientError`] by hand per variant; it is never
//! implemented for boxed or foreign errors, so that nothing internal reaches a client by accident. Writing the
//! ErrorResponse is `wire`'s work.

use std::{borrow::Cow, error::Error, iter::successors};

/// A five-character SQLSTATE (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SqlState(pub &'static str);

macro_rules! sqlstates {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The code of this text, where pgwake itself uses it.
            pub fn known(text: &str) -> Option<Self> {
                [$(Self::$name),*].into_iter().find(|known| known.0 == text)
            }
        }
    };
}

sqlstates! {
    /// successful_completion: the session ended as it should.
    SUCCESS = "00000";
    /// sqlserver_rejected_establishment_of_sqlconnection: TLS is missing, or no endpoint is named.
    REJECTED = "08004";
    /// connection_failure: the server was lost.
    SERVER_LOST = "08006";
    /// transaction_resolution_unknown: the server was lost while a commit was on its way.
    OUTCOME_UNKNOWN = "08007";
    /// protocol_violation.
    PROTOCOL_VIOLATION = "08P01";
    /// feature_not_supported.
    NOT_SUPPORTED = "0A000";
    /// invalid_parameter_value.
    INVALID_PARAMETER = "22023";
    /// invalid_authorization_specification: channel binding does not hold.
    INVALID_AUTHORIZATION = "28000";
    /// invalid_password: also for unknown roles and unknown endpoints.
    INVALID_PASSWORD = "28P01";
    /// in_failed_sql_transaction.
    IN_FAILED_TRANSACTION = "25P02";
    /// idle_in_transaction_session_timeout.
    IDLE_IN_TRANSACTION = "25P03";
    /// disk_full: there is no room for a branch.
    DISK_FULL = "53100";
    /// too_many_connections: a limit of clients or server sessions.
    TOO_MANY_CONNECTIONS = "53300";
    /// configuration_limit_exceeded: too often in too little time, or too many at once.
    LIMIT_EXCEEDED = "53400";
    /// query_canceled.
    CANCELLED = "57014";
    /// admin_shutdown: a planned end.
    ADMIN_SHUTDOWN = "57P01";
    /// cannot_connect_now: still starting; another try is worth it.
    CANNOT_CONNECT_NOW = "57P03";
    /// idle_session_timeout.
    IDLE_SESSION_TIMEOUT = "57P05";
    /// internal_error.
    INTERNAL = "XX000";
}

/// Whose fault an error is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The client sent something wrong or left.
    Client,
    /// The tenant's configuration or limits.
    Tenant,
    /// The compute failed or was lost.
    Compute,
    /// pgwake itself, or its operator's configuration.
    Pgwake,
}

/// An error as the client reads it.
pub trait ClientError: Error {
    /// The code that makes drivers do the right thing.
    fn sqlstate(&self) -> SqlState;
    /// One sentence, lowercase, no full stop.
    fn message(&self) -> Cow<'static, str>;
    /// What is known about this case.
    fn detail(&self) -> Option<Cow<'static, str>> {
        None
    }
    /// What to do.
    fn hint(&self) -> Option<Cow<'static, str>> {
        None
    }
    /// Whose fault it is: decides how loudly it is logged.
    fn fault(&self) -> Fault;
    /// At least one of every variant, by [`examples!`]: the table in config/README.md is held against their texts.
    #[cfg(test)]
    fn examples() -> Vec<Self>
    where
        Self: Sized;
}

/// An error and what lies behind it, for a log: those of other libraries often do not say it themselves.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let all = successors(Some(error), |&error| error.source()).map(ToString::to_string);
    all.collect::<Vec<_>>().join(": ")
}

/// The examples of a [`ClientError`], in lines of `pattern => examples`. A variant without a line does not compile, and
/// an example at another variant's line panics.
#[cfg(test)]
macro_rules! examples {
    ($($pattern:pat => $examples:expr),+ $(,)?) => {{
        let _every_variant_has_a_line = |error: &Self| match error { $($pattern => ()),+ };
        let mut all: Vec<Self> = Vec::new();
        $(
            let before = all.len();
            for example in $examples {
                assert!(matches!(example, $pattern), "{example:?} is no {}", stringify!($pattern));
                all.push(example);
            }
            assert!(all.len() > before, "{} has no example", stringify!($pattern));
        )+
        all
    }};
}
#[cfg(test)]
pub(crate) use examples;

#[cfg(test)]
pub(crate) mod documented;
