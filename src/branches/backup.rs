//! The copy of a parent that runs: a backup in a session of pgwake's own, with the files copied meanwhile
//! (<https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP>).
//!
//! The session lives as long as the backup: if it ends, Postgres gives both the backup and the slot up by itself.

use tokio::time::{Instant, timeout_at};

use super::{BranchError, Branches};
use crate::compute::{Address, Backup, BranchPlace, GiveUp, Source};
use crate::config::Endpoint;
use crate::ids::EndpointName;
use crate::pool::{AskError, OwnLogin, Questions};

/// From here on backups are begun by `pg_backup_start`.
const VERSION_15: u32 = 150_000;
/// From here on a number can be taken from a WAL position.
const VERSION_14: u32 = 140_000;

/// The session says nothing while files are copied, and waits for a checkpoint: a server that ends such sessions has this one
/// stay. Which of these settings there are depends on the version.
const STAY: &str = "SELECT set_config(name, '0', false) FROM pg_settings \
                    WHERE name IN ('idle_session_timeout', 'transaction_timeout')";

/// A backup that is to become `name`.
pub(super) struct BackupOf<'a> {
    pub(super) name: &'a EndpointName,
    pub(super) parent: &'a Endpoint,
    pub(super) source: &'a Source,
    pub(super) deadline: Instant,
    pub(super) give_up: &'a GiveUp,
}

impl Branches {
    /// Copies a parent that runs at `address`, and goes on doing so while this lives. Not cancel safe: its copy goes on.
    pub(super) async fn copy_running(
        &self,
        backup: &BackupOf<'_>,
        address: &Address,
        places: (BranchPlace, BranchPlace),
    ) -> Result<u64, BranchError> {
        let BackupOf { name, source, .. } = backup;
        let login = OwnLogin::new(backup.parent.own_login());
        let begun = backup.bounded(Questions::begin(address, &login, &self.sockets));
        let mut questions = begun.await?;
        backup.ask(&mut questions, STAY).await?;
        let version = backup.ask(&mut questions, "SHOW server_version_num").await?;
        let version: u32 = version.parse().unwrap_or_default();
        // Gone with its session, so that a pgwake that is killed leaves nothing.
        let slot = format!("pgwake_{:08x}", rand_bits());
        let reserve = format!("SELECT pg_create_physical_replication_slot('{slot}', true, true)");
        backup.ask(&mut questions, &reserve).await?;
        // A branch's name has no character that would have to be escaped.
        let start = match version {
            VERSION_15.. => format!("SELECT pg_backup_start('pgwake {name}', true)"),
            _ => format!("SELECT pg_start_backup('pgwake {name}', true, false)"),
        };
        backup.ask(&mut questions, &start).await?;
        let failed = |error| BranchError::of_copy(name, error);
        let bytes = source
            .copy_running(places.0, backup.give_up)
            .await
            .map_err(failed)?;
        let before = if version >= VERSION_14 { "lsn - 1" } else { "lsn" };
        let stop = match version {
            VERSION_15.. => "pg_backup_stop(false)",
            _ => "pg_stop_backup(false, false)",
        };
        let stop = format!("SELECT labelfile, pg_walfile_name({before}) FROM {stop}");
        let ended = backup.bounded(questions.ask(&stop)).await?;
        let [Some(label), Some(last_wal)] = ended.first().map_or(&[][..], Vec::as_slice) else {
            return Err(BranchError::failed(
                name,
                "its parent's backup ended without a label",
            ));
        };
        let first_wal = first_segment(label)
            .ok_or_else(|| BranchError::failed(name, "the label of its parent's backup names no WAL"))?;
        let ended = Backup {
            first_wal: first_wal.to_owned(),
            last_wal: last_wal.clone(),
            label: label.clone(),
        };
        let more = source.complete(places.1, ended).await.map_err(failed)?;
        questions.end().await;
        Ok(bytes + more)
    }
}

impl BackupOf<'_> {
    /// The first value of the first row; empty where there is none.
    async fn ask(&self, questions: &mut Questions, sql: &str) -> Result<String, BranchError> {
        let mut rows = self.bounded(questions.ask(sql)).await?;
        let first = rows.first_mut().and_then(|row| row.first_mut()?.take());
        Ok(first.unwrap_or_default())
    }

    async fn bounded<T>(&self, asking: impl Future<Output = Result<T, AskError>>) -> Result<T, BranchError> {
        match timeout_at(self.deadline, asking).await {
            Ok(answer) => answer.map_err(|error| {
                let why = format!("its parent runs, and pgwake cannot make a backup of it: {error}");
                BranchError::failed(self.name, why)
            }),
            Err(_) => Err(BranchError::failed(
                self.name,
                "its parent's backup took too long",
            )),
        }
    }
}

/// `START WAL LOCATION: 0/2000028 (file 000000010000000000000002)`
fn first_segment(label: &str) -> Option<&str> {
    let (_, rest) = label.split_once("START WAL LOCATION:")?;
    let (_, rest) = rest.lines().next()?.split_once("(file ")?;
    let name = rest.split(')').next()?;
    let is_segment = name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_segment.then_some(name)
}

fn rand_bits() -> u32 {
    let mut bytes = [0; 4];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source does not fail once it is seeded");
    u32::from_ne_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_segment_is_read_from_the_label() {
        let label =
            "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000060\n";
        assert_eq!(first_segment(label), Some("000000010000000000000002"));
        for none in [
            "",
            "START WAL LOCATION: 0/2 (file ../../x)\n",
            "START WAL LOCATION: 0/2\n(file 000000010000000000000002)",
        ] {
            assert_eq!(first_segment(none), None, "{none}");
        }
    }
}
