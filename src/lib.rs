//! pgwake: the address that applications connect to when their Postgres is serverless.
//!
//! A connection travels through these modules in this order: [`listener`] accepts it, [`tls`] secures it and
//! learns the name that the client asks for, [`wire`] reads its startup packet, [`tenant`] finds the endpoint
//! behind the name, [`auth`] proves who the client is, [`wake`] wakes the [`compute`] and hands out a lease on
//! it, [`pool`] logs in to the server, and [`session`] relays until the stay is over. [`cancel`] knows whose
//! statement runs where, [`admin`] shows operators all of it. [`server`] builds all of them and wires them together.
//!
//! A module may name only modules on an earlier row of `ARCHITECTURE.md`; a test holds that.

pub mod ids;
pub mod runtime;
pub mod shutdown;

pub mod error;

pub mod audit;
pub mod journal;
pub mod metrics;
pub mod storm;
pub mod supervisor;
pub mod telemetry;

pub mod config;

pub mod store;
pub mod wire;

pub mod succession;
pub mod tls;

pub mod control_plane;

pub mod compute;
pub mod tenant;

pub mod auth;

pub mod cancel;
pub mod pool;
pub mod wake;

pub mod branches;

pub mod session;

pub mod admin;
pub mod listener;

pub mod cli;
pub mod server;

#[cfg(any(test, fuzzing))]
pub mod fuzzing;
