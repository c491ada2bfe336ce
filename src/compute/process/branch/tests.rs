//! Copies of real data directories, and what must not happen to their parents meanwhile.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    super::{Compute, tests::Place},
    copy::{State, treated},
    *,
};
use crate::ids::BranchName;

/// Nothing here takes long on any machine.
const SOON: Duration = Duration::from_secs(30);

fn place(source: &Source, name: &str) -> BranchPlace {
    let data_dir = source.data_dir_of(&BranchName::parse(name).unwrap());
    BranchPlace::make(&data_dir).unwrap()
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

#[test]
fn what_belongs_to_one_server_or_one_moment_is_left_out() {
    for path in [
        "postmaster.pid",
        "postmaster.opts",
        ".s.PGSQL.5432.lock",
        "pg_hba.conf.pgwake",
        "base/pgsql_tmp",
        "base/5/pgsql_tmp12.3",
        "base/5/pg_internal.init",
        "pg_replslot",
        "pg_wal/archive_status",
        "log",
    ] {
        assert_eq!(treated(path, State::Asleep), Some(false), "{path}");
    }
    for path in [
        "PG_VERSION",
        "base/5/1249",
        "global/pg_control",
        "pg_wal",
        "pg_hba.conf",
        "base/postmaster.pid",
    ] {
        assert_eq!(treated(path, State::Asleep), Some(true), "{path}");
    }
    assert_eq!(
        treated("backup_label", State::Asleep),
        Some(true),
        "its next start needs it"
    );
    assert_eq!(treated("backup_label", State::Running), Some(false));
    assert_eq!(treated("pg_wal", State::Running), Some(false));
    assert_eq!(treated("standby.signal", State::Asleep), None);
}

#[tokio::test]
async fn whoever_wants_the_parent_gets_it_in_the_middle_of_a_copy() {
    let home = Place::with_data().await;
    let compute = home.compute();
    let source = compute.source().unwrap();
    // Zeros that take no room, and seconds to be copied.
    let large = std::fs::File::create(home.data_dir().join("base/large")).unwrap();
    large.set_len(8 << 30).unwrap();
    let (copying, going) = (source.clone(), place(&source, "large"));
    let copy = tokio::spawn(async move { copying.copy_asleep(going, &GiveUp::default()).await });
    let folder = beside(&home.data_dir(), ".branches");
    let begun = async {
        while !folder.join("large.copy").exists() {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, begun).await.unwrap();

    timeout(SOON, compute.start()).await.unwrap().unwrap();

    assert!(matches!(copy.await.unwrap(), Err(CopyError::Wanted)));
    let awake = source
        .copy_asleep(place(&source, "large"), &GiveUp::default())
        .await;
    assert!(matches!(awake, Err(CopyError::Awake)));
    compute.stop().await.unwrap();
    remove(&folder.join("large")).await.unwrap();
    assert_eq!(names(&folder), [""; 0]);
}

#[tokio::test]
async fn a_copy_that_is_given_up_ends_and_a_full_one_has_everything_of_its_owner() {
    let home = Place::with_data().await;
    let compute = home.compute();
    let source = compute.source().unwrap();
    let give_up = GiveUp::default();
    give_up.order();
    let given_up = source.copy_asleep(place(&source, "copy"), &give_up).await;
    assert!(matches!(given_up, Err(CopyError::GivenUp)));

    let measured = source.measure().await.unwrap();
    let copied = source
        .copy_asleep(place(&source, "copy"), &GiveUp::default())
        .await
        .unwrap();
    assert_eq!(copied, measured.bytes);
    let made = place(&source, "copy");
    made.finish().unwrap();

    let data_dir = source.data_dir_of(&BranchName::parse("copy").unwrap());
    assert_eq!(
        names(&data_dir),
        names(&home.data_dir())
            .into_iter()
            .filter(|name| !["postmaster.pid", "postmaster.opts"].contains(&&**name))
            .collect::<Vec<_>>()
    );
    use std::os::unix::fs::MetadataExt;
    for file in ["", "base", "global/pg_control", "postgresql.conf"] {
        let of = |data_dir: &Path| {
            let meta = std::fs::metadata(data_dir.join(file)).unwrap();
            (meta.uid(), meta.gid(), meta.mode())
        };
        assert_eq!(of(&data_dir), of(&home.data_dir()), "{file}");
    }
}

/// Going down into them ended the whole process for want of stack.
#[tokio::test]
async fn folders_deeper_than_any_servers_are_neither_measured_nor_copied() {
    let home = Place::with_data().await;
    let compute = home.compute();
    let source = compute.source().unwrap();
    let data_dir = Folder::open(&home.data_dir()).unwrap().unwrap();
    let mut folder = data_dir.make(Path::new("deep")).unwrap();
    for _ in 0..25_000 {
        folder = folder.make(Path::new("d")).unwrap();
    }

    let measured = source.measure().await.map(drop);
    let copied = source
        .copy_asleep(place(&source, "copy"), &GiveUp::default())
        .await;

    for refused in [measured, copied.map(drop)] {
        let error = refused.unwrap_err();
        assert!(matches!(&error, CopyError::Refused(_)), "{error}");
        assert!(
            error.to_string().starts_with("in its deep are folders"),
            "{error}"
        );
    }
    remove(&source.data_dir_of(&BranchName::parse("copy").unwrap()))
        .await
        .unwrap();
    data_dir.remove_all(Path::new("deep")).unwrap();
}

#[tokio::test]
async fn links_in_a_data_directory_are_followed_nowhere() {
    let home = Place::with_data().await;
    let compute = home.compute();
    let source = compute.source().unwrap();
    let secret = home.path().join("secret");
    std::fs::write(&secret, "precious").unwrap();
    std::os::unix::fs::symlink(&secret, home.data_dir().join("base/link")).unwrap();
    for refused in [
        source.measure().await.map(drop),
        source
            .copy_asleep(place(&source, "link"), &GiveUp::default())
            .await
            .map(drop),
    ] {
        let Err(CopyError::Refused(reason)) = refused else {
            panic!("{refused:?}");
        };
        assert!(
            reason.contains("a link leads out of its data directory (base/link)"),
            "{reason}"
        );
    }
}
