//! Limits, and how much of each is used: of the process, of tenants, endpoints and roles.

use serde_json::json;

use crate::admin::{
    View,
    answer::{Listing, Order},
    time::milliseconds,
};
use crate::ids::EndpointName;
use crate::tenant::quota::{QuotaFigures, Scope};

impl View {
    /// `quotas`: everything that is limited.
    pub(in crate::admin) fn quotas(&self) -> Listing {
        let directory = &self.house.directory;
        let tenant_of = |name: &EndpointName| {
            let endpoint = directory.endpoint(name);
            endpoint.map(|endpoint| endpoint.tenant.to_string())
        };
        let line = |figures: QuotaFigures| {
            let (scope, tenant, endpoint, role) = match &figures.scope {
                Scope::Process => ("process", None, None, None),
                Scope::Tenant(tenant) => ("tenant", Some(tenant.to_string()), None, None),
                Scope::Endpoint(name) => ("endpoint", tenant_of(name), Some(name.to_string()), None),
                Scope::Role(name, role) => ("role", tenant_of(name), Some(name.to_string()), Some(role)),
            };
            let parts = [
                Some(scope),
                tenant.as_deref().filter(|_| endpoint.is_none()),
                endpoint.as_deref(),
                role.map(String::as_str),
                Some(figures.limit),
            ];
            let key = parts.into_iter().flatten().collect::<Vec<_>>().join("/");
            json!({
                "quota": key,
                "scope": scope,
                "tenant": tenant,
                "endpoint": endpoint,
                "role": role,
                "limit": figures.limit,
                "max": figures.max,
                "per_ms": figures.per.map(milliseconds),
                "used": figures.used,
                "reserved": figures.reserved,
            })
        };
        let figures = self.house.quotas.figures(directory.endpoints());
        let mut items: Vec<_> = figures.into_iter().map(line).collect();
        items.sort_by_cached_key(|item| item["quota"].as_str().unwrap_or_default().to_owned());
        Listing {
            key: "quota",
            filters: &["quota", "scope", "tenant", "endpoint", "role", "limit"],
            order: Order::ByKey,
            items,
        }
    }
}
