//! Server sessions: logged-in connections to a compute's server.
//!
//! A session is opened in its client's task, under its client's lease. In session pooling it is closed when its client
//! leaves. In transaction pooling an [`EndpointPool`] holds the sessions of an endpoint between turns: it lends, keeps
//! and closes them, and says how many there may be. This room knows how to log in and how to ask Postgres for its
//! roles; it knows no client, wakes nothing, and never looks into what the session room attaches to a session.

mod closing;
mod doubts;
mod endpoint_pool;
mod figures;
mod kept;
mod key;
mod lent;
mod login;
mod no_process;
mod own_login;
mod pause;
mod peek;
mod questions;
mod register;
mod rights;
mod roles;
mod server_session;
mod session;
mod state;
mod sweep;
mod upkeep;

pub(crate) use doubts::Doubts;
pub use endpoint_pool::{EndpointPool, PoolRules};
pub use figures::{CloseReason, Counts, KeyFigures, PoolFigures, WaitFigures};
pub use kept::Ticket;
pub use key::PoolKey;
pub use lent::Lent;
pub use login::LoginError;
pub(crate) use login::{Login, Privacy};
pub use own_login::OwnLogin;
pub(crate) use questions::{AskError, Questions};
pub use rights::{ConnectPermit, Permit, Slot};
pub use roles::{RolesError, ServerTold, read_roles};
pub use server_session::{Freshness, Identity, ServerSession, Way, connect};
pub use session::{Fresh, PooledSession};

#[cfg(test)]
mod tests;
