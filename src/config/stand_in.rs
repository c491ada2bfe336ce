//! Endpoints that no file names: the console, and what is pretended to whoever names nothing that exists.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    Access, BranchRules, Compute, Endpoint, EndpointQuotas, FixedCompute, LoginMethod, Pool, RolesFrom,
    ServerAddress, ServerTls, built_in,
};
use crate::ids::{EndpointName, TenantName};

impl Endpoint {
    /// One that can be logged in to, or pretended, and has no compute: it is in no directory. The name is its tenant's as
    /// well, and has to be one that may be a name.
    pub(crate) fn without_compute(name: &str) -> Self {
        Self {
            name: EndpointName::parse(name).expect("it may be a name"),
            tenant: TenantName::parse(name).expect("it may be a name"),
            hosts: Vec::new(),
            roles: BTreeMap::new(),
            roles_from: RolesFrom::Config,
            login: LoginMethod::Auto,
            access: Access::default(),
            tokens: None,
            client_certificates: None,
            suspend_after: None,
            suspend_idle_sessions: false,
            hold_timeout: built_in::HOLD_TIMEOUT,
            start_timeout: built_in::START_TIMEOUT,
            stop_timeout: built_in::STOP_TIMEOUT,
            pool: Pool::default(),
            quotas: EndpointQuotas::default(),
            branches: BranchRules::default(),
            compute: Compute::Fixed(FixedCompute {
                address: ServerAddress::Unix(PathBuf::new()),
                tls: ServerTls::Disable,
            }),
        }
    }
}
