//! Who may log in to an endpoint, and how: its roles, their verifiers, and how these are proved.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{
    Compute, LoginMethod, Role, RoleReading, RolesFrom, built_in,
    file::{RoleTable, RolesFromSource},
    origin::{Level, record},
    problem::{Spot, Wrong},
    read::{At, Setting},
    value::RoleName,
};
use crate::ids::Verifier;

use super::{endpoint::Written, tokens::texts};

impl Written<'_> {
    /// The tenant's roles and the endpoint's own as one table, key by key.
    pub(super) fn check_roles(&mut self, login: LoginMethod) -> BTreeMap<String, Role> {
        let mut roles = BTreeMap::new();
        for name in self.role_names() {
            let own = self.own.value.roles.given().and_then(|at| at.value.0.get(&name));
            let tenant = self.tenant.roles.given().and_then(|at| at.value.0.get(&name));
            let levels = [(Level::Own, own), (Level::Tenant, tenant)];
            let verifier = self.of_role(&name, "verifier", levels, |role| &role.verifier);
            let server_password =
                self.of_role(&name, "server_password", levels, |role| &role.server_password);
            let subjects = self.of_role(&name, "subjects", levels, |role| &role.subjects);
            let names = self.of_role(&name, "certificate_names", levels, |role| &role.certificate_names);
            let mut tables = [own, tenant].into_iter().flatten();
            let has_none = tables.all(|at| at.value.verifier.is_absent());
            if let (true, false, Some(at)) = (has_none, login.needs_no_verifier(), own.or(tenant)) {
                let message = format!("role {:?} has no verifier", name.0);
                let fix = "add verifier = \"SCRAM-SHA-256$…\", the line that `pgwake hash-password` prints";
                self.report.add(&at.spot, Wrong::new(message, fix));
            }
            let role = Role {
                verifier: verifier.map(|at| at.value),
                server_password: server_password.map(|at| at.value),
                subjects: subjects.as_ref().map_or(Vec::new(), texts),
                certificate_names: names.as_ref().map_or(Vec::new(), texts),
            };
            roles.insert(name.0.clone(), role);
        }
        self.check_md5(login, &roles);
        roles
    }

    fn of_role<T: Clone>(
        &mut self,
        role: &RoleName,
        key: &str,
        levels: [(Level, Option<&At<RoleTable>>); 2],
        pick: fn(&RoleTable) -> &Setting<T>,
    ) -> Option<At<T>> {
        let said = |(level, table): (Level, Option<&At<RoleTable>>)| {
            let at = pick(&table?.value).given()?.clone();
            Some((level, at))
        };
        let (level, at) = levels.into_iter().find_map(said)?;
        record(&mut self.origins, &format!("roles.{}.{key}", role.0), level, &at);
        Some(at)
    }

    /// The names of all listed roles.
    pub(super) fn role_names(&self) -> BTreeSet<RoleName> {
        let tables = [&self.own.value.roles, &self.tenant.roles];
        let tables = tables.into_iter().filter_map(Setting::given);
        tables.flat_map(|at| at.value.0.keys().cloned()).collect()
    }

    /// The role that stands first in the file: the endpoint's own before its tenant's.
    pub(super) fn first_role(&self) -> Option<String> {
        let tables = [&self.own.value.roles, &self.tenant.roles];
        tables.into_iter().filter_map(Setting::given).find_map(|at| {
            let first = at.value.0.iter().min_by_key(|(_, role)| &role.spot.place);
            first.map(|(name, _)| name.0.clone())
        })
    }

    /// How clients log in.
    pub(super) fn check_login(&mut self) -> LoginMethod {
        let login = self.inherit("login", |keys| &keys.login);
        login.map_or(built_in::LOGIN, |at| at.value)
    }

    /// A verifier that could never be used is a mistake.
    fn check_md5(&mut self, login: LoginMethod, roles: &BTreeMap<String, Role>) {
        if login == LoginMethod::Scram {
            for (name, role) in roles {
                if let Some(Verifier::Md5(_)) = role.verifier {
                    let message =
                        format!("role {name:?} has an MD5 verifier, and login = \"scram\" keeps it out");
                    let fix = "give it a SCRAM verifier (`pgwake hash-password`), or write login = \"auto\"";
                    self.report.add(&self.own.spot, Wrong::new(message, fix));
                }
            }
        }
    }

    /// Where further verifiers come from; an endpoint that nobody could ever log in to is a mistake.
    pub(super) fn check_roles_from(&mut self, compute: Option<&Compute>) -> RolesFrom {
        let source = self.inherit("roles_from", |keys| &keys.roles_from);
        let Some(source) = source else {
            self.check_somebody();
            return built_in::ROLES_FROM;
        };
        match source.value {
            RolesFromSource::Config => {
                self.check_somebody();
                RolesFrom::Config
            }
            RolesFromSource::Postgres(reading) => {
                self.check_reading(&reading, compute, &source.spot);
                RolesFrom::Postgres(reading)
            }
        }
    }

    fn check_somebody(&mut self) {
        let said_nothing = self.own.value.roles.is_absent() && self.tenant.roles.is_absent();
        let levels = [
            Some(&self.own.value.inherited),
            Some(&self.tenant.inherited),
            self.defaults,
        ];
        if said_nothing && !levels.iter().flatten().any(|keys| keys.roles_from.is_refused()) {
            let fix =
                "list one: roles.app.verifier = \"SCRAM-SHA-256$…\", or write roles_from = \"postgres\"";
            let message = "nobody can log in: no role is listed";
            self.report.add(&self.own.spot, Wrong::new(message, fix));
        }
    }

    fn check_reading(&mut self, reading: &RoleReading, compute: Option<&Compute>, spot: &Spot) {
        if let (Some(host), None) = (compute.and_then(Compute::tcp_host), &reading.password) {
            let message = format!(
                "endpoint `{}` ({}) is reached over TCP at {host}: reading its roles needs a password",
                self.name, self.own.spot.place
            );
            let fix = "write roles_from = { role = \"…\", password = { file = \"…\" } } for this endpoint, or roles_from = \"config\"";
            self.report.add(spot, Wrong::new(message, fix));
        }
    }
}
