//! Cancel requests: by key alone, on every port, to the right statement and never to another.

mod crossfire;
mod keys;
