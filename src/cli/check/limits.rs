//! The limits that hold, as `pgwake check` shows them. What is not limited is not shown.

use super::{Values, list, quoted};
use crate::config::{
    BranchRules, ByteRate, DurationText, Endpoint, EndpointQuotas, Limits, Quota, RateText, SizeText,
};

/// Beyond `clients_max`, which always has a value.
pub(super) fn of_process(limits: &Limits) -> Values {
    let shown = values("limits", &limits.quota).into_iter();
    let awake = limits.awake_processes_max.map(|max| max.to_string());
    let awake = awake.map(|max| ("limits.awake_processes_max".to_owned(), max));
    shown
        .filter(|(key, _)| key != "limits.clients_max")
        .chain(awake)
        .collect()
}

pub(super) fn of_endpoint(quotas: &EndpointQuotas) -> Values {
    let mut all = values("limits.per_tenant", &quotas.per_tenant);
    all.extend(values("limits.per_endpoint", &quotas.per_endpoint));
    all.extend(values("limits.per_role", &quotas.per_role));
    if !quotas.operator_roles.is_empty() {
        let roles = list(quotas.operator_roles.iter().map(quoted));
        all.push(("limits.operator_roles".to_owned(), roles));
    }
    all
}

pub(super) fn of_branches(rules: &BranchRules) -> Values {
    let mut all = vec![
        ("on_connect", rules.on_connect.to_string()),
        (
            "ttl",
            rules
                .ttl
                .map_or("\"never\"".to_owned(), |ttl| quoted(DurationText(ttl))),
        ),
        ("max", rules.max.to_string()),
        ("tenant_max", rules.tenant_max.to_string()),
    ];
    if let Some(bytes) = rules.tenant_bytes_max {
        let bytes = SizeText(usize::try_from(bytes).unwrap_or(usize::MAX));
        all.push(("tenant_bytes_max", quoted(bytes)));
    }
    let named = |(key, value)| (format!("branches.{key}"), value);
    all.into_iter().map(named).collect()
}

/// When its compute is suspended.
pub(super) fn of_sleep(endpoint: &Endpoint, add: &mut impl FnMut(&str, String)) {
    let suspend_after = endpoint
        .suspend_after
        .map_or("\"never\"".to_owned(), |d| quoted(DurationText(d)));
    add("suspend_after", suspend_after);
    add("awake_min", quoted(DurationText(endpoint.awake_min)));
    add(
        "suspend_idle_sessions",
        endpoint.suspend_idle_sessions.to_string(),
    );
    let vetoes = endpoint.suspend_veto.iter();
    add("suspend_veto", list(vetoes.map(|veto| quoted(veto.as_str()))));
    let ignore = &endpoint.idle_ignore;
    add("idle_ignore.roles", list(ignore.roles.iter().map(quoted)));
    add(
        "idle_ignore.application_names",
        list(ignore.application_names.iter().map(quoted)),
    );
}

fn values(scope: &str, quota: &Quota) -> Values {
    let number = |number: Option<usize>| number.map(|number| number.to_string());
    let rate = |rate: Option<_>| rate.map(|rate| quoted(RateText(rate)));
    let bytes = |rate: Option<ByteRate>| rate.map(quoted);
    let time = |time: Option<_>| time.map(|time| quoted(DurationText(time)));
    let reserve = Some(quota.operator_reserve).filter(|reserve| *reserve > 0);
    let all = [
        ("clients_max", number(quota.clients_max)),
        ("operator_reserve", number(reserve)),
        ("server_sessions_max", number(quota.server_sessions_max)),
        ("computes_awake_max", number(quota.computes_awake_max)),
        ("held_clients_max", number(quota.held_clients_max)),
        ("connects", rate(quota.connects)),
        ("wakes", rate(quota.wakes)),
        ("transactions", rate(quota.transactions)),
        ("bytes_in", bytes(quota.bytes_in)),
        ("bytes_out", bytes(quota.bytes_out)),
        ("session_age", time(quota.session_age)),
        ("idle_time", time(quota.idle_time)),
        ("idle_in_transaction_time", time(quota.idle_in_transaction_time)),
    ];
    let shown = all.into_iter().filter_map(|(key, value)| Some((key, value?)));
    shown
        .map(|(key, value)| (format!("{scope}.{key}"), value))
        .collect()
}
