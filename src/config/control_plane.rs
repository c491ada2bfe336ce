//! Where endpoints are asked for that no file names, and what an endpoint is that was answered.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use super::{
    ServerTls,
    file::{Inherited, Root, Tenant},
    read::Setting,
};
use crate::ids::{Secret, TenantName};

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

#[cfg(test)]
impl ControlPlane {
    /// Nothing listens there.
    pub(crate) fn of_nobody() -> Self {
        let second = Duration::from_secs(1);
        Self {
            url: "http://127.0.0.1:1".to_owned(),
            ca: None,
            token: Secret::new("t"),
            timeout: second,
            fresh_for: second,
            unknown_for: second,
            stale_max: second,
            endpoints_max: 1,
            questions_at_once: 1,
            server_ca: None,
        }
    }
}

/// A server that a control plane starts, stops and knows the address of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlledCompute {
    /// How it is reached over TCP; `None`: plaintext, and only on this machine.
    pub tls: Option<ServerTls>,
}

/// What files say that endpoints have which come later: `[defaults]` and `[tenants.<tenant>]` as they are written.
#[derive(Clone, Default)]
pub struct Defaults(Arc<Levels>);

#[derive(Default)]
struct Levels {
    all: Option<Inherited>,
    tenants: BTreeMap<TenantName, Tenant>,
}

impl Defaults {
    /// Those of a whole configuration. Its tenants' roles and endpoints are no default of anybody.
    pub(super) fn of(root: Root) -> Self {
        let tenants = match root.tenants {
            Setting::Given(tenants) => tenants.value.0,
            Setting::Absent | Setting::Refused => BTreeMap::new(),
        };
        let rules = |tenant: Tenant| Tenant {
            roles: Setting::Absent,
            endpoints: Setting::Absent,
            ..tenant
        };
        Self(Arc::new(Levels {
            all: match root.defaults {
                Setting::Given(defaults) => Some(defaults.value),
                Setting::Absent | Setting::Refused => None,
            },
            tenants: tenants
                .into_iter()
                .map(|(name, tenant)| (name, rules(tenant.value)))
                .collect(),
        }))
    }

    /// Of all tenants.
    pub(super) fn all(&self) -> Option<&Inherited> {
        self.0.all.as_ref()
    }

    /// Of this one, if a file names it.
    pub(super) fn of_tenant(&self, tenant: &TenantName) -> Option<&Tenant> {
        self.0.tenants.get(tenant)
    }
}

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
