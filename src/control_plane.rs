//! The control plane that owns endpoints: what it is asked, what it answers, and what is kept of that.
//!
//! `client` asks one thing at a time and believes nothing that it has not checked; `book` keeps answers, asks again when
//! they are old, and has endpoints put in force and taken away; `events` hears of changes. It wakes nothing by itself:
//! `compute` asks through a `seat`, `session` asks the book for names, `server` builds and wires both.
//!
//! **Invariant:** no answer, late, wrong or missing, concerns another endpoint than the one that was asked for.

mod book;
mod client;
mod counting;
#[cfg(test)]
mod documented;
mod events;
mod http;
mod kept;
mod owed;
mod pace;
mod said;
mod seat;

pub use self::book::{Book, Found, Serving};
pub(crate) use self::client::{Client, Contact, Trouble};
pub(crate) use self::said::{Place, Woken};
pub(crate) use self::seat::Seat;
