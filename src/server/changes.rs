//! What differs between two configurations: what can be put in force at once, and what needs a restart.

use std::{fmt, sync::Arc};

use crate::config::{Admin, Config, Endpoint};
use crate::ids::EndpointName;

/// A line of a log is not longer for a change of everything.
const SHOWN_MAX: usize = 50;

/// What a reload has changed. Keys are named, never values: some are secrets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    /// Endpoints that are new.
    pub added: Vec<EndpointName>,
    /// Endpoints that are gone; their sessions end between transactions.
    pub removed: Vec<EndpointName>,
    /// Endpoints that are new, and come once the sessions of one that is gone have left their place: the same name, or the
    /// same data directory.
    pub late: Vec<EndpointName>,
    /// What else holds from now on, by key or endpoint.
    pub changed: Vec<String>,
    /// What was changed in the files and holds only after a restart, by key.
    pub needs_restart: Vec<String>,
}

impl Changes {
    /// Whether the files say what held before.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What differs, and the configuration that can hold now: the new one, with the old values of what needs a restart.
    pub(super) fn between(old: &Config, mut new: Config) -> (Self, Config) {
        let mut changes = Self::default();
        changes.keep_process(old, &mut new);
        changes.compare_process(old, &new);
        let compared = new.endpoints.values().cloned().map(|mut endpoint| {
            match old.endpoints.get(&endpoint.name) {
                None => changes.added.push(endpoint.name.clone()),
                Some(before) => changes.compare_endpoint(before, &mut endpoint),
            }
            endpoint
        });
        new.endpoints = compared.collect();
        let is_gone = |name: &&EndpointName| !new.endpoints.contains(name);
        changes.removed = old.endpoints.names().filter(is_gone).cloned().collect();
        (changes, new)
    }

    fn keep_process(&mut self, old: &Config, new: &mut Config) {
        let mut keep = |key: &str, differs: bool| {
            if differs {
                self.needs_restart.push(key.to_owned());
            }
        };
        keep("state_dir", old.state_dir != new.state_dir);
        keep("socket_dir", old.socket_dir != new.socket_dir);
        keep("listen.postgres", old.listen != new.listen);
        keep("audit", old.audit != new.audit);
        let admin = Admin {
            read_tokens: new.admin.read_tokens.clone(),
            operate_tokens: new.admin.operate_tokens.clone(),
            ..old.admin.clone()
        };
        keep("admin", admin != new.admin);
        keep("control_plane", old.control_plane != new.control_plane);
        let (limits, before) = (&mut new.limits, &old.limits);
        keep(
            "limits.tcp_user_timeout",
            limits.tcp_user_timeout != before.tcp_user_timeout,
        );
        keep(
            "limits.tcp_keepalive",
            limits.tcp_keepalive != before.tcp_keepalive,
        );
        keep(
            "limits.commands_at_once",
            limits.commands_at_once != before.commands_at_once,
        );
        limits.commands_at_once = before.commands_at_once;
        (limits.tcp_user_timeout, limits.tcp_keepalive) = (before.tcp_user_timeout, before.tcp_keepalive);
        new.state_dir.clone_from(&old.state_dir);
        new.socket_dir.clone_from(&old.socket_dir);
        new.listen.clone_from(&old.listen);
        new.audit = old.audit.clone();
        new.admin = admin;
        new.control_plane.clone_from(&old.control_plane);
    }

    fn compare_process(&mut self, old: &Config, new: &Config) {
        let compared = [
            ("routing.domains", old.domains != new.domains),
            ("routing.databases", old.databases != new.databases),
            ("tls.certificates", old.certificates != new.certificates),
            ("limits", old.limits != new.limits),
            ("gate", old.gate != new.gate),
            // What else is different there waits for a restart.
            ("admin", old.admin != new.admin),
            ("defaults.login", old.login != new.login),
            ("defaults.tokens", old.tokens != new.tokens),
        ];
        let differing = compared.into_iter().filter(|(_, differs)| *differs);
        self.changed.extend(differing.map(|(key, _)| key.to_owned()));
    }

    /// An endpoint that stays what it was is the same endpoint, not another of the same content.
    fn compare_endpoint(&mut self, before: &Arc<Endpoint>, endpoint: &mut Arc<Endpoint>) {
        let path = format!("tenants.{}.endpoints.{}", endpoint.tenant, endpoint.name);
        if endpoint.tenant != before.tenant {
            // All of it is the other tenant's: roles, limits, who may come.
            self.needs_restart.push(path);
            *endpoint = before.clone();
            return;
        }
        let compute = &before.compute;
        if !endpoint.compute.is_same_but_for_settings(compute) {
            self.needs_restart.push(format!("{path}.compute"));
            // Settings are meant for what is beside them.
            Arc::make_mut(endpoint).compute = compute.clone();
        }
        if endpoint.stop_timeout != before.stop_timeout {
            self.needs_restart.push(format!("{path}.stop_timeout"));
            Arc::make_mut(endpoint).stop_timeout = before.stop_timeout;
        }
        if endpoint == before {
            *endpoint = before.clone();
        } else {
            self.changed.push(path);
        }
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing has changed");
        }
        let added = self.added.iter().map(|name| format!("endpoint {name} added"));
        let late = self
            .late
            .iter()
            .map(|name| format!("endpoint {name} waits until sessions of before have ended"));
        let removed = self.removed.iter().map(|name| format!("endpoint {name} removed"));
        let changed = self.changed.iter().map(|key| format!("{key} changed"));
        let kept = self
            .needs_restart
            .iter()
            .map(|key| format!("{key} needs a restart"));
        let mut all: Vec<_> = kept
            .chain(added)
            .chain(late)
            .chain(removed)
            .chain(changed)
            .collect();
        let more = all.len().saturating_sub(SHOWN_MAX);
        all.truncate(SHOWN_MAX);
        f.write_str(&all.join(", "))?;
        if more > 0 {
            write!(f, ", and {more} more")?;
        }
        Ok(())
    }
}
