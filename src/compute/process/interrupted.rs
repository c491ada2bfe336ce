//! A recovery from a backup that was interrupted before its end is begun again from the backup's start.
//!
//! Postgres itself never gets over that: it takes `backup_label` away as soon as the recovery has begun, and without it only
//! replays what it takes for a crash, whose end is never that of the backup (`WAL ends before end of online backup`). A
//! branch of a parent that ran begins with such a recovery, and pgwake may be ended or killed, or its patience over,
//! before that is done. Blocks for a few system calls. Called by `launch`, when nothing runs in the data directory.

use std::{
    io::{self, Read},
    path::Path,
    process::{Command, Stdio},
};

use super::{
    folder::Folder,
    site::{Means, Site},
};

const LABEL: &str = "backup_label";
const LABEL_BEFORE: &str = "backup_label.old";
/// Longer than any label.
const LABEL_BYTES_MAX: u64 = 8192;
/// With one of these the recovery is somebody's purpose, and Postgres goes on with it.
const SIGNALS: [&str; 3] = ["recovery.signal", "standby.signal", "recovery.conf"];
/// Where `pg_control` has the state, an enum of C, in all versions
/// (<https://doxygen.postgresql.org/structControlFileData.html>).
const STATE_AT: usize = 16;
/// Those of a cluster that was ended while it recovered: `DB_SHUTDOWNED_IN_RECOVERY`, `DB_IN_CRASH_RECOVERY`,
/// `DB_IN_ARCHIVE_RECOVERY`.
const RECOVERING: [u32; 3] = [2, 4, 5];

/// Puts the label of an interrupted recovery back. Where that cannot be told or done, Postgres says what is wrong.
pub(super) fn begin_again(site: &Site, means: &Means) {
    match put_back(site, means) {
        Ok(true) => tracing::info!(
            endpoint = %site.endpoint,
            "its recovery from a backup was interrupted, and is begun again"
        ),
        Ok(false) => (),
        Err(error) => tracing::warn!(
            endpoint = %site.endpoint, %error,
            "its recovery from a backup may have been interrupted, which cannot be looked at"
        ),
    }
}

fn put_back(site: &Site, means: &Means) -> io::Result<bool> {
    let Some(folder) = Folder::open(&site.data_dir)? else {
        return Ok(false);
    };
    let Some(before) = folder.read(LABEL_BEFORE, LABEL_BYTES_MAX)? else {
        return Ok(false);
    };
    for name in SIGNALS.into_iter().chain([LABEL]) {
        if folder.file(Path::new(name))?.is_some() {
            return Ok(false);
        }
    }
    if !was_recovering(&folder)? {
        return Ok(false);
    }
    let mut command = Command::new(means.programs.folder().join("pg_controldata"));
    means.account.dress(&mut command);
    command.current_dir(&site.data_dir).arg(&site.data_dir);
    let told = command.stdin(Stdio::null()).output()?;
    if !is_of(&before, &String::from_utf8_lossy(&told.stdout)) {
        return Ok(false);
    }
    folder.rename(Path::new(LABEL_BEFORE), Path::new(LABEL))?;
    folder.sync()?;
    Ok(true)
}

fn was_recovering(folder: &Folder) -> io::Result<bool> {
    let control = folder.enter(Path::new("global"))?.file(Path::new("pg_control"))?;
    let mut bytes = [0; STATE_AT + 4];
    control.ok_or(io::ErrorKind::NotFound)?.read_exact(&mut bytes)?;
    let mut state = [0; 4];
    state.copy_from_slice(&bytes[STATE_AT..]);
    Ok(RECOVERING.contains(&u32::from_ne_bytes(state)))
}

/// Whether the backup that `pg_controldata` tells has not been recovered to its end, and is the label's.
fn is_of(label: &str, told: &str) -> bool {
    let start = told
        .lines()
        .find_map(|line| line.strip_prefix("Backup start location:"));
    let start = start.map_or("0/0", str::trim);
    let of_label = label
        .lines()
        .find_map(|line| line.strip_prefix("START WAL LOCATION:"));
    let of_label = of_label.and_then(|rest| rest.split_whitespace().next());
    start != "0/0" && of_label == Some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_put_back_for_its_own_backup_that_has_no_end_yet() {
        let label = "START WAL LOCATION: 0/2A000028 (file 00000001000000000000002A)\nLABEL: pgwake\n";
        let told = |start: &str| {
            format!(
                "Database cluster state: in crash recovery\nBackup start location:                {start}\n"
            )
        };
        assert!(is_of(label, &told("0/2A000028")));
        for (label, told) in [
            (label, told("0/0")),
            (label, told("0/2B000028")),
            ("", told("0/2A000028")),
            ("", String::new()),
            (label, String::new()),
        ] {
            assert!(!is_of(label, &told), "{label} {told}");
        }
    }
}
