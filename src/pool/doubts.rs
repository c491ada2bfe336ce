//! Asks a server that nobody needs what speaks against stopping it all the same: what has come, or goes on, beside pgwake
//! (<https://www.postgresql.org/docs/current/monitoring-stats.html>).
//!
//! It names what it finds and decides nothing. A role that may not see who is there gets no answer. Postgres 13 or later.

use std::{collections::BTreeSet, fmt::Write, time::Duration};

use tokio::time::sleep;

use super::own_login::OwnLogin;
use super::questions::{AskError, Questions, Row};
use crate::compute::Address;
use crate::config::{IdleIgnore, SuspendVeto};
use crate::tls::SocketSettings;

/// A session that pgwake has closed, for a client or for itself, may still be there for some moments; what is found again
/// so often, with such pauses, stays.
const LOOKS: usize = 5;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// What stands in place of a kind where the role may not see who is there: a superuser may, and so may its members.
const HIDDEN: &str = "SELECT -1, NULL WHERE NOT pg_has_role(current_user, 'pg_read_all_stats', 'usage')";

const AUTOVACUUM: &str = "SELECT 1, 'autovacuum ' || coalesce('of ' || substring(query FROM \
     '^autovacuum: (?:VACUUM ANALYZE|VACUUM|ANALYZE|BRIN summarize) (.*)$'), 'in database ' || datname, 'worker') \
    FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'";

/// What somebody has ordered, by the view that tells of it: it goes on where its client has left.
const PROGRESS: [(&str, &str); 4] = [
    ("index build on", "pg_stat_progress_create_index"),
    ("vacuum of", "pg_stat_progress_vacuum"),
    ("analyze of", "pg_stat_progress_analyze"),
    ("rewrite of", "pg_stat_progress_cluster"),
];

const PREPARED: &str = "SELECT 2, 'prepared transaction ' || quote_literal(left(gid, 60)) || ' in database ' || database \
    FROM pg_prepared_xacts";

/// A temporary one is gone with its session, and one that is lost is of no use to anybody.
const SLOTS: &str = "SELECT 3, 'replication slot ' || slot_name FROM pg_replication_slots \
    WHERE NOT temporary AND wal_status IS DISTINCT FROM 'lost'";

/// What is asked for.
pub(crate) struct Doubts<'a> {
    /// The kinds.
    pub(crate) asked: &'a BTreeSet<SuspendVeto>,
    /// The server's processes that work for pgwake and are no doubt.
    pub(crate) own: &'a [i32],
    /// Whose sessions are none either.
    pub(crate) ignored: &'a IdleIgnore,
}

impl Doubts<'_> {
    /// The first that there is, by kind and name; `None`: none. Not cancel safe: dropping it closes the connection.
    ///
    /// # Errors
    /// [`AskError`]: nobody knows.
    pub(crate) async fn ask(
        &self,
        address: &Address,
        who: &OwnLogin,
        sockets: &SocketSettings,
    ) -> Result<Option<(SuspendVeto, String)>, AskError> {
        let sql = self.sql();
        let mut questions = Questions::begin(address, who, sockets).await?;
        let mut looks = 1;
        let found = loop {
            let found = questions.ask(&sql).await?.into_iter().next();
            if found.is_none() || looks == LOOKS {
                break found;
            }
            looks += 1;
            sleep(BETWEEN_LOOKS).await;
        };
        questions.end().await;
        found.map(understood).transpose()
    }

    fn sql(&self) -> String {
        let parts: Vec<_> = self.asked.iter().map(|kind| self.part(*kind)).collect();
        format!(
            "SELECT kind, found, count(*) OVER () - 1 FROM ({HIDDEN} UNION ALL {}) AS all_kinds (kind, found) \
             ORDER BY kind, found LIMIT 1",
            parts.join(" UNION ALL ")
        )
    }

    fn part(&self, kind: SuspendVeto) -> String {
        match kind {
            SuspendVeto::Clients => clients(self.own, self.ignored),
            SuspendVeto::Maintenance => maintenance(),
            SuspendVeto::PreparedTransactions => PREPARED.to_owned(),
            SuspendVeto::Slots => SLOTS.to_owned(),
        }
    }
}

fn clients(own: &[i32], ignored: &IdleIgnore) -> String {
    let (roles, names) = (texts(&ignored.roles), texts(&ignored.application_names));
    let own: Vec<_> = own.iter().map(ToString::to_string).collect();
    format!(
        "SELECT 0, CASE backend_type WHEN 'walsender' THEN 'replication ' ELSE 'client ' END \
         || coalesce(nullif(application_name, ''), 'without a name') \
         || ' from ' || coalesce(host(client_addr), 'a local socket') \
         FROM pg_stat_activity WHERE backend_type IN ('client backend', 'walsender') \
         AND coalesce(usename::text, '') <> ALL ({roles}) AND coalesce(application_name, '') <> ALL ({names}) \
         AND pid <> pg_backend_pid() AND pid <> ALL ('{{{}}}'::int4[])",
        own.join(",")
    )
}

/// An array of texts, whatever is in them and whatever `standard_conforming_strings` is.
fn texts(all: &BTreeSet<String>) -> String {
    let quoted = |text: &String| format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    let all: Vec<_> = all.iter().map(quoted).collect();
    format!("ARRAY[{}]::text[]", all.join(","))
}

fn maintenance() -> String {
    let mut sql = AUTOVACUUM.to_owned();
    for (what, view) in PROGRESS {
        // A name is known in its own database alone.
        let _ = write!(
            sql,
            " UNION ALL SELECT 1, '{what} ' || coalesce(CASE WHEN datname = current_database() THEN relid::regclass::text \
             ELSE 'relation ' || relid || ' in database ' || datname END, 'an unknown relation') FROM {view} AS progress \
             WHERE NOT EXISTS (SELECT FROM pg_stat_activity AS others \
             WHERE others.pid = progress.pid AND others.backend_type = 'autovacuum worker')"
        );
    }
    sql
}

/// What the row says that was found.
fn understood(row: Row) -> Result<(SuspendVeto, String), AskError> {
    let mut row = row.into_iter();
    let mut next = || row.next().flatten();
    let kind = next().and_then(|kind| kind.parse().ok());
    let kind = kind.and_then(|kind: usize| SuspendVeto::ALL.get(kind).copied());
    let (Some(kind), Some(found), Some(more)) = (kind, next(), next()) else {
        return Err(AskError::Hidden);
    };
    Ok(match more.as_str() {
        "0" => (kind, found),
        more => (kind, format!("{found}, and {more} more")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: [Option<&str>; 3]) -> Row {
        values.map(|value| value.map(str::to_owned)).to_vec()
    }

    #[test]
    fn what_is_found_is_named_with_how_many_more_there_are() {
        let one = understood(row([Some("0"), Some("client psql from 10.0.0.1"), Some("0")])).unwrap();
        assert_eq!(one, (SuspendVeto::Clients, "client psql from 10.0.0.1".into()));
        let many = understood(row([Some("3"), Some("replication slot a"), Some("2")])).unwrap();
        assert_eq!(
            many,
            (SuspendVeto::Slots, "replication slot a, and 2 more".into())
        );
    }

    /// The numbers in the statements are those of the kinds.
    #[test]
    fn each_kind_is_asked_for_by_its_own_number() {
        for (number, kind) in SuspendVeto::ALL.into_iter().enumerate() {
            let asked = BTreeSet::from([kind]);
            let part = Doubts {
                asked: &asked,
                own: &[],
                ignored: &IdleIgnore::default(),
            }
            .part(kind);
            assert!(part.starts_with(&format!("SELECT {number}, ")), "{part}");
        }
    }

    #[test]
    fn a_role_that_may_not_look_has_seen_nothing() {
        let hidden = understood(row([Some("-1"), None, Some("0")]));
        assert!(matches!(hidden, Err(AskError::Hidden)));
    }

    #[test]
    fn own_processes_are_no_clients() {
        let sql = clients(&[7, 9], &IdleIgnore::default());
        assert!(sql.ends_with("pid <> ALL ('{7,9}'::int4[])"), "{sql}");
    }

    #[test]
    fn names_of_those_who_do_not_count_stand_quoted_in_the_question() {
        let names = [r"a'b\c", "monitor"].map(str::to_owned);
        let ignored = IdleIgnore {
            roles: names.clone().into(),
            application_names: names[1..].iter().cloned().collect(),
        };
        let sql = clients(&[], &ignored);
        let wanted = r"coalesce(usename::text, '') <> ALL (ARRAY[E'a''b\\c',E'monitor']::text[]) AND coalesce(application_name, '') <> ALL (ARRAY[E'monitor']::text[])";
        assert!(sql.contains(wanted), "{sql}");
    }
}
