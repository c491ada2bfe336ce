//! Which branches an endpoint may have, and what one is: an endpoint like its parent, with a data directory of its own.

use std::{path::PathBuf, time::Duration};

use super::{Compute, Endpoint, ProcessCompute};
use crate::ids::EndpointName;

/// Which branches of an endpoint there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BranchRules {
    /// Whether a role that logs in to one that does not exist gets it made.
    pub on_connect: bool,
    /// Those are removed when nobody has used them for so long; `None`: never.
    pub ttl: Option<Duration>,
    /// Most of this endpoint.
    pub max: usize,
    /// Most of all endpoints of its tenant.
    pub tenant_max: usize,
    /// Most bytes of all branches of its tenant, as much as they would take as plain copies; `None`: any.
    pub tenant_bytes_max: Option<u64>,
}

/// Where a data directory comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It is made on first use. Where it does not exist later it has been lost, or its disk is missing.
    OnFirstUse,
    /// It is made whenever it does not exist.
    WheneverMissing,
    /// It is a copy of another one. Where it does not exist it has been lost.
    AsBranch,
}

impl Endpoint {
    /// A branch of this endpoint: all the same, but its name and its data. `None` where this one has no data of its own.
    pub fn branch(&self, name: EndpointName, data_dir: PathBuf) -> Option<Self> {
        let Compute::Process(process) = &self.compute else {
            return None;
        };
        Some(Self {
            name,
            hosts: Vec::new(),
            compute: Compute::Process(ProcessCompute {
                data_dir,
                made: Made::AsBranch,
                ..process.clone()
            }),
            ..self.clone()
        })
    }
}
