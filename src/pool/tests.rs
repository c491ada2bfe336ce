//! The pool with scripted servers at the other end of each session, in paused time.

mod closing;
mod lending;
mod limits;
mod operations;
mod scripted;
mod sweeping;
mod threads;
