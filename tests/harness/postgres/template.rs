//! Where the programs of a Postgres are, and data directories: made once by initdb, then copied.

use std::{
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::{PASSWORD, SUPERUSER};
use crate::harness::{account::Account, directories};

/// Which Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The system's (15 on Debian 12), with psql, pgbench and all other programs.
    Debian,
    /// 18, the server alone: protocol 3.2, direct TLS.
    V18,
}

/// The folder of its programs. Where the tests run as root, 18 is a copy that the user of Postgres can reach.
pub(crate) fn programs(version: Version) -> PathBuf {
    match version {
        Version::Debian => debian(),
        Version::V18 => {
            let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/postgres18");
            let name = fs::read_to_string(tools.join("VERSION"));
            let name = name.unwrap_or_else(|error| panic!("{}: {error}: run `make setup`", tools.display()));
            if Account::for_postgres().is_none() {
                return tools.join("bin");
            }
            once(&format!("postgres-{name}"), |fresh| copy(&tools, fresh)).join("bin")
        }
    }
}

/// The newest that Debian's packages have installed.
fn debian() -> PathBuf {
    let installed = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    installed
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .map(|major| PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")))
        .filter(|programs| programs.join("postgres").exists())
        .max()
        .unwrap_or_else(|| panic!("no Postgres in /usr/lib/postgresql: run `make setup`"))
}

/// Puts a fresh data directory at `target`, owned by the user that Postgres runs as; TCP and the Unix socket ask
/// for SCRAM.
pub(crate) fn copy_data_directory(version: Version, target: &Path) {
    copy_cluster("data", version, target);
}

/// The same, of another cluster: with another system identifier, and another salt for the superuser's password.
pub(crate) fn copy_other_data_directory(version: Version, target: &Path) {
    copy_cluster("other", version, target);
}

fn copy_cluster(which: &str, version: Version, target: &Path) {
    let programs = programs(version);
    let said = Command::new(programs.join("postgres")).arg("--version").output();
    let name: String = checked(said.unwrap())
        .chars()
        .map(|letter| {
            if letter.is_alphanumeric() || letter == '.' {
                letter
            } else {
                '-'
            }
        })
        .collect();
    let template = once(&format!("{which}-{}", name.trim_end_matches('-')), |fresh| {
        initdb(&programs, fresh);
    });
    copy(&template, target);
}

fn initdb(programs: &Path, target: &Path) {
    let password = target.with_extension("password");
    fs::create_dir(target).unwrap();
    fs::write(&password, PASSWORD).unwrap();
    let mut initdb = Command::new(programs.join("initdb"));
    initdb
        .args([
            "--auth=scram-sha-256",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ])
        .arg(format!("--username={SUPERUSER}"))
        .arg(format!("--pwfile={}", password.display()))
        // Small segments keep the copies small.
        .args(["--wal-segsize=1", "-D"])
        .arg(target)
        .current_dir("/");
    if let Some(account) = Account::for_postgres() {
        account.own(target);
        account.own(&password);
        initdb.uid(account.uid).gid(account.gid);
    }
    checked(initdb.output().unwrap());
    fs::remove_file(&password).unwrap();
}

/// Copies a directory with owners, modes and links.
fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-aT").args([from, to]).output();
    checked(copied.unwrap());
}

/// What `make` puts at the path it is given, made by the first who asks, whichever thread or process that is.
fn once(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let shared = directories::shared();
    let made = shared.join(name);
    let lock = fs::File::create(shared.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !made.exists() {
        let fresh = shared.join(format!("{name}.new"));
        if fresh.exists() {
            fs::remove_dir_all(&fresh).unwrap();
        }
        make(&fresh);
        fs::rename(&fresh, &made).unwrap();
    }
    made
}

fn checked(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}
