//! Server sessions: logged-in connections to a compute's server.
//!
//! A session is opened in its client's task, under its client's lease, and closed when its client leaves. This
//! room knows how to log in and how to ask Postgres for its roles; it knows no client and wakes nothing.

mod login;
mod roles;
mod server_session;

pub use login::LoginError;
pub use roles::{RolesError, read_roles};
pub use server_session::{Identity, ServerSession, connect};
