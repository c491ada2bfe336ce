//! The certificates that clients of an endpoint have to show, and that each tenant has authorities of its own.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::config::{
    ClientCertificates, Endpoints, LoginMethod, built_in,
    file::Root,
    problem::{Report, Wrong},
    secret,
};
use crate::ids::TenantName;

use super::endpoint::Written;

impl Written<'_> {
    /// What holds for this endpoint.
    pub(super) fn check_client_certificates(&mut self, login: LoginMethod) -> Option<ClientCertificates> {
        let ca = self.inherit("client_certificates.ca", |keys| {
            keys.client_certificates.key(|table| &table.ca)
        });
        let name = self.inherit("client_certificates.name", |keys| {
            keys.client_certificates.key(|table| &table.name)
        });
        let Some(ca) = ca else {
            let levels = [&self.own.value.inherited, &self.tenant.inherited];
            let levels = levels.into_iter().chain(self.defaults);
            let refused = levels.map(|keys| keys.client_certificates.key(|table| &table.ca));
            if login == LoginMethod::Certificate && !refused.into_iter().any(|ca| ca.is_refused()) {
                let message = format!(
                    "endpoint `{}` lets certificates in and has no client_certificates.ca",
                    self.name
                );
                let fix = "add client_certificates.ca = \"….pem\": who signs the certificates of this tenant";
                self.report.add(&self.own.spot, Wrong::new(message, fix));
            }
            return None;
        };
        self.report.note(&ca.spot, secret::check_readable(&ca.value));
        Some(ClientCertificates {
            ca: ca.value,
            name: name.map_or(built_in::CERTIFICATE_NAME, |at| at.value),
        })
    }
}

/// One authority for two tenants is a mistake: nothing in a certificate says whose it is.
pub(super) fn check_apart(root: &Root, endpoints: &Endpoints, report: &mut Report) {
    let mut first = BTreeMap::<PathBuf, &TenantName>::new();
    for endpoint in endpoints.values() {
        let Some(rules) = &endpoint.client_certificates else {
            continue;
        };
        let owner = *first.entry(file(&rules.ca)).or_insert(&endpoint.tenant);
        let written = root
            .tenants
            .given()
            .and_then(|at| at.value.0.get(&endpoint.tenant));
        let written = written.and_then(|tenant| tenant.value.endpoints.given());
        let own = written.and_then(|at| at.value.0.get(&endpoint.name));
        if let (true, Some(own)) = (owner != &endpoint.tenant, own) {
            let message = format!(
                "endpoint `{}` would let in certificates of tenant `{owner}`: same client_certificates.ca",
                endpoint.name
            );
            let fix = "give each tenant an authority of its own for its clients";
            report.add(&own.spot, Wrong::new(message, fix));
        }
    }
}

/// Two ways to write one file are one file.
fn file(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
