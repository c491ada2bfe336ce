//! Where endpoints are asked for that no file names, and what an endpoint is that was answered.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{ServerTls, file::Inherited};
use crate::ids::Secret;

/// The control plane, and how it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// `https://…`, or `http://…` on this machine; without a slash at its end.
    pub url: String,
    /// PEM file with the roots that it is trusted by; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// What pgwake shows it.
    pub token: Secret,
    /// One question, without the time that a long one is let wait on purpose.
    pub timeout: Duration,
    /// So long an answer is used without a question.
    pub fresh_for: Duration,
    /// So long nobody asks again for a name that nobody has.
    pub unknown_for: Duration,
    /// So long an answer is used that could not be asked for again.
    pub stale_max: Duration,
    /// Most endpoints that are known at once.
    pub endpoints_max: usize,
    /// Most questions about names at once; as many again about names that are known.
    pub questions_at_once: usize,
    /// PEM file with the roots that computes are trusted by.
    pub server_ca: Option<PathBuf>,
}

/// A server that a control plane starts, stops and knows the address of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlledCompute {
    /// How it is reached over TCP; `None`: plaintext, and only on this machine.
    pub tls: Option<ServerTls>,
}

/// `[defaults]` as it is written, for endpoints that come later.
#[derive(Clone, Default)]
pub struct Defaults(pub(super) Option<Arc<Inherited>>);

impl fmt::Debug for Defaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Defaults")
    }
}

/// Where it stands is no difference, and what it says is compared where it holds.
impl PartialEq for Defaults {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Defaults {}
