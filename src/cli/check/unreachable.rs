//! Limits that nobody can ever reach, because a wider one comes first: most likely not what was meant, and no mistake that
//! would keep pgwake from starting.
//!
//! A value that is inherited may well be more than one endpoint has. So it is told only where the narrower limit was not
//! said for more endpoints than the wider one.

use std::collections::BTreeMap;

use crate::config::{Endpoint, Level, Limits, Loaded, Origin, OriginsByKey, Quota};
use crate::ids::EndpointName;

/// Most lines.
const NOTES_MAX: usize = 20;

/// In front of the keys that are the whole process'.
const OF_PROCESS: &str = "limits.";

/// A limit with its key.
struct Limit {
    scope: &'static str,
    key: String,
    max: Option<usize>,
}

/// One note, and the endpoints that it is about.
type Notes = BTreeMap<String, Vec<EndpointName>>;

/// One line for each of them.
pub(super) fn notes(loaded: &Loaded) -> Vec<String> {
    let (process, none) = (&loaded.origins.process, OriginsByKey::new());
    let mut notes = Notes::new();
    for endpoint in loaded.config.endpoints.values() {
        let own = loaded.origins.endpoints.get(&endpoint.name).unwrap_or(&none);
        let said = |key: &str| own.get(key).or_else(|| process.get(key));
        let chains = chains(endpoint, &loaded.config.limits);
        for note in chains.iter().flat_map(|chain| in_chain(chain, &said)) {
            notes.entry(note).or_default().push(endpoint.name.clone());
        }
    }
    let count = notes.len();
    let mut lines: Vec<String> = notes.into_iter().take(NOTES_MAX).map(line).collect();
    if count > NOTES_MAX {
        lines.push(format!("{} more limits can never be reached", count - NOTES_MAX));
    }
    lines
}

fn line((note, endpoints): (String, Vec<EndpointName>)) -> String {
    match endpoints.as_slice() {
        [one] => format!("{note} (endpoint {one})"),
        [first, rest @ ..] => format!("{note} (endpoint {first} and {} more)", rest.len()),
        [] => note,
    }
}

/// Limits of the same things, the narrowest first.
fn chains(endpoint: &Endpoint, limits: &Limits) -> [Vec<Limit>; 4] {
    let quotas = &endpoint.quotas;
    let chain = |name: &str, pick: fn(&Quota) -> Option<usize>| -> Vec<Limit> {
        let scopes = [
            ("limits.per_role.", &quotas.per_role),
            ("limits.per_endpoint.", &quotas.per_endpoint),
            ("limits.per_tenant.", &quotas.per_tenant),
            (OF_PROCESS, &limits.quota),
        ];
        let limit = |(scope, quota): (&'static str, &Quota)| Limit {
            scope,
            key: format!("{scope}{name}"),
            max: pick(quota),
        };
        scopes.map(limit).into()
    };
    let sessions = || chain("server_sessions_max", |quota| quota.server_sessions_max);
    let mut pool = sessions();
    // All roles of an endpoint share it.
    pool[0] = Limit {
        scope: "pool.",
        key: "pool.size".to_owned(),
        max: Some(endpoint.pool.size),
    };
    [
        chain("clients_max", |quota| quota.clients_max),
        chain("held_clients_max", |quota| quota.held_clients_max),
        sessions(),
        pool,
    ]
}

/// What is told of a chain, where it was said by `said`.
fn in_chain<'o>(chain: &[Limit], said: &impl Fn(&str) -> Option<&'o Origin>) -> Vec<String> {
    let mut notes = Vec::new();
    for (index, narrow) in chain.iter().enumerate() {
        let (Some(max), Some(origin)) = (narrow.max, said(&narrow.key)) else {
            continue;
        };
        let is_in_the_way = |wide: &&Limit| {
            let reaches_as_far = wide.scope == OF_PROCESS
                || said(&wide.key).is_some_and(|wide| reach(wide.level) >= reach(origin.level));
            wide.max.is_some_and(|least| least < max) && reaches_as_far
        };
        if let Some(Limit {
            key,
            max: Some(least),
            ..
        }) = chain[index + 1..].iter().find(is_in_the_way)
        {
            let (place, narrow) = (&origin.place, &narrow.key);
            notes.push(format!(
                "{place}: {narrow} = {max} can never be reached, since {key} is {least}"
            ));
        }
    }
    notes
}

/// For how much something is said.
fn reach(level: Level) -> u8 {
    match level {
        Level::Own => 0,
        Level::Tenant => 1,
        Level::Defaults => 2,
    }
}
