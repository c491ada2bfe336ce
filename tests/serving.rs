//! Being served: what a session can do through pgwake is what it can do without.

mod basics;
mod benches;
mod child;
mod copying;
mod drivers;
mod gathering;
mod leaving;
mod pipelines;
mod programs;
mod resting;
mod roles;
pub(crate) mod served;
mod servers;
mod sockets;
mod state;
mod streams;
mod warnings;
