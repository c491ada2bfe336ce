//! The tokens that an endpoint lets in as passwords, and that no other tenant's are among them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::config::{
    Compute, Endpoint, Endpoints, LoginMethod, Role, TokenKeys, Tokens, built_in,
    file::{Root, TokensTable},
    problem::{Report, Wrong},
    read::{At, List, Setting},
};
use crate::ids::TenantName;

use super::{endpoint::Written, within};

/// Clocks that differ by more are wrong.
const LEEWAY_MAX: Duration = Duration::from_secs(10 * 60);

/// What unknown endpoints pretend to look at: what `[defaults]` says, where that is enough.
pub(super) fn of_defaults(root: &Root) -> Option<Tokens> {
    let table = root.defaults.key(|defaults| &defaults.tokens);
    Some(tokens(
        table.key(|table| &table.keys).given()?.value.clone(),
        table.key(|table| &table.issuer).given()?.value.clone(),
        texts(table.key(|table| &table.audiences).given()?),
    ))
}

fn tokens(keys: TokenKeys, issuer: String, audiences: Vec<String>) -> Tokens {
    Tokens {
        keys,
        issuer,
        audiences,
        role_claim: built_in::ROLE_CLAIM.to_owned(),
        tenant_claim: None,
        leeway: built_in::TOKEN_LEEWAY,
        end_sessions: built_in::TOKEN_END_SESSIONS,
    }
}

pub(super) fn texts(at: &At<List<String>>) -> Vec<String> {
    at.value.0.iter().map(|at| at.value.clone()).collect()
}

impl Written<'_> {
    /// The tokens of an endpoint whose `login` takes any.
    pub(super) fn check_tokens(&mut self, login: LoginMethod) -> Option<Tokens> {
        let keys = self.inherit_token("keys", |t| &t.keys);
        let issuer = self.inherit_token("issuer", |t| &t.issuer);
        let audiences = self.inherit_token("audiences", |t| &t.audiences);
        let role_claim = self.inherit_token("role_claim", |t| &t.role_claim);
        let tenant_claim = self.inherit_token("tenant_claim", |t| &t.tenant_claim);
        let leeway = self.inherit_token("leeway", |t| &t.leeway);
        let end_sessions = self.inherit_token("end_sessions", |t| &t.end_sessions);
        let leeway = leeway.map(|at| within(&at, &(Duration::ZERO..=LEEWAY_MAX), self.report));
        if !login.takes_tokens() {
            return None;
        }
        let audiences = audiences.map(|at| texts(&at)).filter(|all| !all.is_empty());
        for (key, is_missing, example) in [
            ("keys", keys.is_none(), "{ url = \"https://…\" }"),
            ("issuer", issuer.is_none(), "\"https://…\""),
            ("audiences", audiences.is_none(), "[\"…\"]"),
        ] {
            if is_missing && !self.is_token_key_refused() {
                let message = format!("endpoint `{}` takes tokens and has no tokens.{key}", self.name);
                let fix = format!("add tokens.{key} = {example} here, to its tenant or to [defaults]");
                self.report.add(&self.own.spot, Wrong::new(message, fix));
            }
        }
        let tokens = tokens(keys?.value, issuer?.value, audiences?);
        Some(Tokens {
            role_claim: role_claim.map_or(tokens.role_claim, |at| at.value),
            tenant_claim: tenant_claim.map(|at| at.value),
            leeway: leeway.unwrap_or(tokens.leeway),
            end_sessions: end_sessions.map_or(tokens.end_sessions, |at| at.value),
            ..tokens
        })
    }

    /// A listed role that pgwake could never log in to the server for.
    pub(super) fn check_server_logins(
        &mut self,
        login: LoginMethod,
        roles: &BTreeMap<String, Role>,
        compute: Option<&Compute>,
    ) {
        if compute.and_then(Compute::tcp_host).is_none() {
            return;
        }
        let without_password = matches!(login, LoginMethod::Token | LoginMethod::Certificate);
        let proves_no_password = |role: &Role| role.verifier.is_none() || without_password;
        for (name, role) in roles {
            if proves_no_password(role) && role.server_password.is_none() && login.needs_no_verifier() {
                let message = format!("pgwake has nothing to log in to the server with for role {name:?}");
                let fix = "add server_password = { file = \"…\" }: neither a token nor a certificate is a password of the server";
                self.report.add(&self.own.spot, Wrong::new(message, fix));
            }
        }
    }

    fn inherit_token<T: Clone>(&mut self, key: &str, pick: fn(&TokensTable) -> &Setting<T>) -> Option<At<T>> {
        self.inherit(&format!("tokens.{key}"), |inherited| inherited.tokens.key(pick))
    }

    /// Whether a mistake in a table of tokens was told already.
    fn is_token_key_refused(&self) -> bool {
        let levels = [
            Some(&self.own.value.inherited),
            Some(&self.tenant.inherited),
            self.defaults,
        ];
        let refused = |tokens: &Setting<TokensTable>| match tokens {
            Setting::Refused => true,
            Setting::Absent => false,
            Setting::Given(at) => {
                let table = &at.value;
                table.keys.is_refused() || table.issuer.is_refused() || table.audiences.is_refused()
            }
        };
        levels.into_iter().flatten().any(|keys| refused(&keys.tokens))
    }
}

/// Tokens of one tenant that another would let in are a mistake: nothing in them says whose they are.
pub(super) fn check_apart(root: &Root, endpoints: &Endpoints, report: &mut Report) {
    let mut tenants = BTreeMap::<(&str, &str), BTreeSet<&TenantName>>::new();
    for endpoint in endpoints.values() {
        for pair in pairs(endpoint) {
            tenants.entry(pair).or_default().insert(&endpoint.tenant);
        }
    }
    for endpoint in endpoints.values() {
        let is_told_apart = endpoint
            .tokens
            .as_ref()
            .is_none_or(|tokens| tokens.tenant_claim.is_some());
        let other = pairs(endpoint)
            .flat_map(|pair| &tenants[&pair])
            .find(|tenant| **tenant != &endpoint.tenant);
        if let (false, Some(other)) = (is_told_apart, other) {
            let written = root
                .tenants
                .given()
                .and_then(|at| at.value.0.get(&endpoint.tenant));
            let written = written.and_then(|tenant| tenant.value.endpoints.given());
            let Some(own) = written.and_then(|at| at.value.0.get(&endpoint.name)) else {
                continue;
            };
            let message = format!(
                "endpoint `{}` would let in tokens of tenant `{other}`: same issuer and audience",
                endpoint.name
            );
            let fix = "give each tenant an audience of its own, or name the claim that says the tenant: tokens.tenant_claim = \"…\"";
            report.add(&own.spot, Wrong::new(message, fix));
        }
    }
}

/// Issuer and audience of the tokens that it lets in.
fn pairs(endpoint: &Endpoint) -> impl Iterator<Item = (&str, &str)> {
    let tokens = endpoint.tokens.iter();
    tokens.flat_map(|tokens| {
        let audiences = tokens.audiences.iter();
        audiences.map(|audience| (tokens.issuer.as_str(), audience.as_str()))
    })
}
