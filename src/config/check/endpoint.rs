//! Endpoints: what each of them says, its tenant, the defaults and the built-in defaults, in this order.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use crate::config::{
    Compute, Endpoint, Endpoints, built_in,
    file::{ComputeTable, EndpointTable, Inherited, ProcessTable, Root, Tenant},
    origin::{Level, OriginsByKey, record, record_own},
    problem::{Report, Wrong},
    read::{At, Setting, nearest},
};
use crate::ids::{EndpointName, TenantName};

use super::{MOMENT, Once, YEAR, compute, within};

/// All endpoints of all tenants.
pub(super) fn check(
    root: &Root,
    domains: &[String],
    origins: &mut BTreeMap<EndpointName, OriginsByKey>,
    report: &mut Report,
) -> Endpoints {
    let mut shared = Shared::new(domains);
    let mut endpoints = Endpoints::default();
    for (tenant_name, tenant) in root.tenants.given().iter().flat_map(|at| &at.value.0) {
        for (name, own) in tenant.value.endpoints.given().iter().flat_map(|at| &at.value.0) {
            let owner = format!("an endpoint of tenant `{tenant_name}`");
            if !shared.names.claim(name.clone(), &owner, &own.spot, report) {
                continue;
            }
            let mut written = Written {
                name,
                tenant_name,
                own,
                tenant: &tenant.value,
                defaults: root.defaults.given().map(|at| &at.value),
                origins: OriginsByKey::new(),
                report,
            };
            record(&mut written.origins, "", Level::Own, own);
            let endpoint = written.check(&mut shared, None);
            origins.insert(name.clone(), written.origins);
            endpoint
                .into_iter()
                .for_each(|endpoint| endpoints.insert(Arc::new(endpoint)));
        }
    }
    endpoints
}

/// What no two endpoints may share.
pub(super) struct Shared<'a> {
    domains: &'a [String],
    names: Once<EndpointName>,
    hosts: Once<String>,
    data_dirs: Once<PathBuf>,
    pub(super) starts: Once<Vec<String>>,
}

impl<'a> Shared<'a> {
    /// Nothing of it is anybody's yet.
    pub(super) fn new(domains: &'a [String]) -> Self {
        Self {
            domains,
            names: Once::new("name"),
            hosts: Once::new("host"),
            data_dirs: Once::new("data directory"),
            starts: Once::new("start command"),
        }
    }
}

/// One endpoint as it is written, with everything that it takes its values from.
pub(super) struct Written<'a> {
    pub(super) name: &'a EndpointName,
    pub(super) tenant_name: &'a TenantName,
    pub(super) own: &'a At<EndpointTable>,
    pub(super) tenant: &'a Tenant,
    pub(super) defaults: Option<&'a Inherited>,
    pub(super) origins: OriginsByKey,
    pub(super) report: &'a mut Report,
}

impl Written<'_> {
    /// The endpoint; `given` is its compute where that is not written.
    pub(super) fn check(&mut self, shared: &mut Shared<'_>, given: Option<Compute>) -> Option<Endpoint> {
        let waits = MOMENT..=YEAR;
        let mut duration = |key, pick: fn(&Inherited) -> &Setting<_>, default| match self.inherit(key, pick) {
            Some(at) => within(&at, &waits, self.report),
            None => default,
        };
        let hold_timeout = duration("hold_timeout", |i| &i.hold_timeout, built_in::HOLD_TIMEOUT);
        let start_timeout = duration("start_timeout", |i| &i.start_timeout, built_in::START_TIMEOUT);
        let stop_timeout = duration("stop_timeout", |i| &i.stop_timeout, built_in::STOP_TIMEOUT);
        let suspend_after = self.inherit("suspend_after", |i| &i.suspend_after);
        let awake_min = self.inherit("awake_min", |i| &i.awake_min);
        let awake_min = awake_min.map_or(built_in::AWAKE_MIN, |at| {
            within(&at, &(Duration::ZERO..=YEAR), self.report)
        });
        let suspend_idle_sessions = self.inherit("suspend_idle_sessions", |i| &i.suspend_idle_sessions);
        let pool = self.check_pool();
        let quotas = self.check_quotas();
        let branches = self.check_branches();
        let access = self.check_access();
        let hosts = self.check_hosts(shared);
        let login = self.check_login();
        let roles = self.check_roles(login);
        let tokens = self.check_tokens(login);
        let client_certificates = self.check_client_certificates(login);
        let compute = given.or_else(|| self.check_compute(start_timeout, shared));
        self.check_server_logins(login, &roles, compute.as_ref());
        let roles_from = self.check_roles_from(compute.as_ref());
        let expected_server = self.check_expected_server(&roles_from);
        let suspend_veto = self.check_suspend_veto(&roles_from, compute.as_ref());
        let idle_ignore = self.check_idle_ignore();
        Some(Endpoint {
            name: self.name.clone(),
            tenant: self.tenant_name.clone(),
            hosts,
            roles,
            roles_from,
            expected_server,
            login,
            access,
            tokens,
            client_certificates,
            suspend_after: suspend_after.map_or(Some(built_in::SUSPEND_AFTER), |at| at.value.0),
            awake_min,
            suspend_idle_sessions: suspend_idle_sessions
                .map_or(built_in::SUSPEND_IDLE_SESSIONS, |at| at.value),
            suspend_veto,
            idle_ignore,
            hold_timeout,
            start_timeout,
            stop_timeout,
            pool,
            quotas,
            branches,
            compute: compute?,
        })
    }

    /// The nearest level that says something.
    pub(super) fn inherit<T: Clone>(
        &mut self,
        key: &str,
        pick: impl Fn(&Inherited) -> &Setting<T>,
    ) -> Option<At<T>> {
        let levels = [
            (Level::Own, Some(&self.own.value.inherited)),
            (Level::Tenant, Some(&self.tenant.inherited)),
            (Level::Defaults, self.defaults),
        ];
        let said = levels
            .into_iter()
            .find_map(|(level, keys)| Some((level, pick(keys?).given()?)));
        let (level, at) = said?;
        record(&mut self.origins, key, level, at);
        Some(at.clone())
    }

    fn check_hosts(&mut self, shared: &mut Shared<'_>) -> Vec<String> {
        let setting = &self.own.value.hosts;
        record_own(&mut self.origins, "hosts", setting);
        let owner = format!("a host of endpoint `{}`", self.name);
        let mut hosts = Vec::new();
        for at in setting.given().iter().flat_map(|at| &at.value.0) {
            let host = &at.value.0;
            let parent = host.split_once('.').map_or("", |(_, parent)| parent);
            if let Some(domain) = shared.domains.iter().find(|d| *d == host || *d == parent) {
                let message = format!(
                    "{host:?} belongs to the domain {domain:?}, whose names are given by `routing.domains`"
                );
                let fix = "remove it: an endpoint is reached as <endpoint>.<domain> without being told";
                self.report.add(&at.spot, Wrong::new(message, fix));
            } else if shared.hosts.claim(host.clone(), &owner, &at.spot, self.report) {
                hosts.push(host.clone());
            }
        }
        hosts
    }

    fn check_compute(&mut self, start_timeout: Duration, shared: &mut Shared<'_>) -> Option<Compute> {
        let at = match &self.own.value.compute {
            Setting::Given(at) => at,
            Setting::Refused => return None,
            Setting::Absent => {
                let fix = "add compute = { kind = \"process\", data_dir = \"…\" }, compute = { kind = \"fixed\", address = \"…\" } or compute = { kind = \"command\", start = […], … }";
                let message = format!("endpoint `{}` has no compute", self.name);
                self.report.add(&self.own.spot, Wrong::new(message, fix));
                return None;
            }
        };
        record_own(&mut self.origins, "compute.kind", &self.own.value.compute);
        match &at.value {
            ComputeTable::Process(process) => {
                self.check_owner(process);
                self.check_data_dir(process, shared);
            }
            ComputeTable::Command(table) => {
                return self.check_command((table, &at.spot), start_timeout, shared);
            }
            ComputeTable::Fixed(_) => (),
        }
        let first_role = self.first_role();
        compute::check(at, first_role.as_deref(), &mut self.origins, self.report)
    }

    fn check_owner(&mut self, process: &ProcessTable) {
        let Some(at) = process.owner.given() else {
            return;
        };
        let names = self.role_names();
        if names.iter().any(|name| name.0 == at.value) {
            return;
        }
        let fix = match nearest(&at.value, names.iter().map(|name| name.0.as_str())) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("list it: [tenants.{}.roles.{}]", self.tenant_name, at.value),
        };
        let message = format!("the owner {:?} is not a listed role", at.value);
        self.report.add(&at.spot, Wrong::new(message, fix));
    }

    fn check_data_dir(&mut self, process: &ProcessTable, shared: &mut Shared<'_>) {
        let Some(at) = process.data_dir.given() else {
            return;
        };
        // Two ways to write one folder are one folder, where it already exists.
        let folder = at.value.canonicalize().unwrap_or_else(|_| at.value.clone());
        let owner = format!("that of endpoint `{}`", self.name);
        shared.data_dirs.claim(folder, &owner, &at.spot, self.report);
    }
}
