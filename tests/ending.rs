//! The end of pgwake itself, ordered or not, and what the next one makes of what it finds.

mod crashing;
mod draining;
mod leaving;
mod stopping;
mod supervised;
