//! Endpoints that no file names: the console, and what is pretended to whoever names nothing that exists.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use super::{
    Access, BranchRules, Compute, Endpoint, EndpointQuotas, FixedCompute, IdleIgnore, LoginMethod, Pool,
    RolesFrom, ServerAddress, ServerTls, built_in,
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
            expected_server: built_in::EXPECTED_SERVER,
            login: LoginMethod::Auto,
            access: Access::default(),
            tokens: None,
            client_certificates: None,
            suspend_after: None,
            awake_min: built_in::AWAKE_MIN,
            suspend_idle_sessions: false,
            suspend_veto: BTreeSet::new(),
            idle_ignore: IdleIgnore::default(),
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

#[cfg(test)]
impl super::Config {
    /// One that says nothing but what there is: for tests of limits.
    pub(crate) fn of_endpoints<'e>(endpoints: impl IntoIterator<Item = &'e Endpoint>) -> Self {
        let endpoints = endpoints.into_iter();
        Self {
            state_dir: PathBuf::new(),
            socket_dir: None,
            listen: Vec::new(),
            databases: BTreeMap::new(),
            domains: Vec::new(),
            certificates: Vec::new(),
            limits: super::Limits::default(),
            gate: super::GateRules::default(),
            audit: crate::audit::Rules {
                to: crate::audit::To::Nowhere,
                when_full: crate::audit::WhenFull::Drop,
            },
            login: LoginMethod::Auto,
            tokens: None,
            admin: super::Admin::default(),
            control_plane: None,
            defaults: super::Defaults::default(),
            endpoints: endpoints.cloned().map(std::sync::Arc::new).collect(),
        }
    }
}
