//! Real folders, real inotify.

use std::{
    fs,
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
};

use tempfile::tempdir;

use super::*;
use crate::config::CertificateFiles;
use crate::tls::testing::{Ca, eventually};

/// What the first certificate is, told apart by its hash.
fn served(store: &CertificateStore) -> Option<Arc<[u8]>> {
    store.choose(None).unwrap().end_point.clone()
}

#[tokio::test]
async fn files_replaced_by_rename_are_served() {
    let (ca, folder, drafts) = (Ca::new(), tempdir().unwrap(), tempdir().unwrap());
    let files = ca.issue(folder.path(), "a", &["a.example"]);
    let store = CertificateStore::load(std::slice::from_ref(&files)).unwrap();
    let before = served(&store);
    let _watching = store.watch().unwrap();

    let draft = ca.issue(drafts.path(), "a", &["a.example"]);
    fs::rename(draft.certificate, files.certificate).unwrap();
    fs::rename(draft.key, files.key).unwrap();

    eventually("the new certificate", || served(&store) != before).await;
}

#[tokio::test]
async fn files_rewritten_in_place_are_served_and_so_is_the_change_after_a_broken_one() {
    let (ca, folder) = (Ca::new(), tempdir().unwrap());
    let files = ca.issue(folder.path(), "a", &["a.example"]);
    let store = CertificateStore::load(std::slice::from_ref(&files)).unwrap();
    let before = served(&store);
    let _watching = store.watch().unwrap();

    fs::write(&files.certificate, "rubbish").unwrap();
    ca.issue(folder.path(), "a", &["a.example"]);

    eventually("the new certificate", || served(&store) != before).await;
}

/// Kubernetes: `tls.crt` → `..data/tls.crt`, `..data` → `..1`; an update renames a new link over `..data`.
#[tokio::test]
async fn a_mounted_secret_that_is_swapped_is_served_again_and_again() {
    let (ca, mount) = (Ca::new(), tempdir().unwrap());
    let path = |name: &str| mount.path().join(name);
    let publish = |version: &str| {
        fs::create_dir(path(version)).unwrap();
        ca.issue(&path(version), "tls", &["a.example"]);
        symlink(version, path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
    };
    publish("..1");
    symlink("..data/tls.pem", path("tls.pem")).unwrap();
    symlink("..data/tls.key", path("tls.key")).unwrap();
    let files = CertificateFiles {
        certificate: path("tls.pem"),
        key: path("tls.key"),
    };
    let store = CertificateStore::load(&[files]).unwrap();
    let _watching = store.watch().unwrap();

    for version in ["..2", "..3"] {
        let before = served(&store);
        publish(version);
        eventually(version, || served(&store) != before).await;
    }
}

#[tokio::test]
async fn a_change_behind_a_link_is_served_also_after_the_link_has_moved() {
    let (ca, live, one, two) = (
        Ca::new(),
        tempdir().unwrap(),
        tempdir().unwrap(),
        tempdir().unwrap(),
    );
    let files = CertificateFiles {
        certificate: live.path().join("a.pem"),
        key: live.path().join("a.key"),
    };
    let link = |target: &CertificateFiles| {
        let _ = (fs::remove_file(&files.certificate), fs::remove_file(&files.key));
        symlink(&target.certificate, &files.certificate).unwrap();
        symlink(&target.key, &files.key).unwrap();
    };
    link(&ca.issue(one.path(), "a", &["a.example"]));
    let store = CertificateStore::load(std::slice::from_ref(&files)).unwrap();
    let _watching = store.watch().unwrap();

    let before = served(&store);
    ca.issue(one.path(), "a", &["a.example"]);
    eventually("a change of the target", || served(&store) != before).await;

    let before = served(&store);
    link(&ca.issue(two.path(), "a", &["a.example"]));
    eventually("a change of the link", || served(&store) != before).await;

    let before = served(&store);
    ca.issue(two.path(), "a", &["a.example"]);
    eventually("a change of the new target", || served(&store) != before).await;
}

#[tokio::test]
async fn dropping_the_guard_ends_the_watching() {
    let (ca, folder) = (Ca::new(), tempdir().unwrap());
    let store = CertificateStore::load(&[ca.issue(folder.path(), "a", &["a.example"])]).unwrap();
    let watching = store.watch().unwrap();
    assert_eq!(Arc::strong_count(&store), 2);

    drop(watching);

    eventually("the end of its task", || Arc::strong_count(&store) == 1).await;
}

#[tokio::test]
async fn a_folder_that_has_gone_before_it_was_watched_is_served_from_when_it_comes_again() {
    let (ca, above) = (Ca::new(), tempdir().unwrap());
    let folder = above.path().join("certificates");
    fs::create_dir(&folder).unwrap();
    let store = CertificateStore::load(&[ca.issue(&folder, "a", &["a.example"])]).unwrap();
    let before = served(&store);
    fs::remove_dir_all(&folder).unwrap();
    let _watching = store.watch().unwrap();
    assert_eq!(served(&store), before);

    fs::create_dir(&folder).unwrap();
    ca.issue(&folder, "a", &["a.example"]);

    eventually("the new certificate", || served(&store) != before).await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_is_never_quiet_does_not_hold_up_a_reload() {
    let changed = Notify::new();
    let began = Instant::now();

    let noise = async {
        let mut tick = tokio::time::interval(QUIET / 2);
        loop {
            tick.tick().await;
            changed.notify_one();
        }
    };
    tokio::select! {
        () = until_quiet(&changed) => {}
        () = noise => {}
    }

    assert_eq!(began.elapsed(), QUIET_WAIT_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_folder_is_acted_on_soon() {
    let began = Instant::now();

    until_quiet(&Notify::new()).await;

    assert!(began.elapsed() <= QUIET + Duration::from_millis(1));
}

#[test]
fn a_relative_file_is_watched_where_it_lies() {
    let folder = folder_of(Path::new("no-such-certificate.pem"));
    assert_eq!(folder.as_deref(), Some(Path::new(".")));
}

/// A log beside the configuration had it read again with every line, and each reading wrote a line.
#[tokio::test]
async fn our_own_reading_changes_nothing_and_neither_does_what_lies_beside_the_files() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (config, log) = (path("pgwake.toml"), path("pgwake.log"));
    fs::write(&config, "").unwrap();
    let mut lines = fs::File::create(&log).unwrap();
    let changed = Arc::new(Notify::new());
    let mut folders = Folders::new(&changed).unwrap();
    folders.follow(std::slice::from_ref(&config)).unwrap();
    let is_told = async || {
        timeout(Duration::from_millis(100), changed.notified())
            .await
            .is_ok()
    };

    writeln!(lines, "a line").unwrap();
    drop(lines);
    fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).unwrap();
    fs::read(&config).unwrap();
    let elsewhere = tempdir().unwrap();
    let other = elsewhere.path().join("other.toml");
    folders.follow(&[config.clone(), other]).unwrap();
    folders.follow(std::slice::from_ref(&config)).unwrap();
    assert!(!is_told().await);

    let changes: [(&str, &dyn Fn()); 5] = [
        ("written", &|| fs::write(&config, "a").unwrap()),
        ("other permissions", &|| {
            fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
        }),
        ("a link on the way", &|| symlink("a", path("..data_tmp")).unwrap()),
        ("moved", &|| {
            fs::rename(path("..data_tmp"), path("..data")).unwrap()
        }),
        ("gone", &|| fs::remove_file(path("..data")).unwrap()),
    ];
    for (what, change) in changes {
        change();
        assert!(is_told().await, "{what}");
        until_quiet(&changed).await;
    }
}

#[tokio::test]
async fn a_folder_that_is_not_there_yet_is_waited_for_and_nothing_else_beside_it() {
    let folder = tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let changed = Arc::new(Notify::new());
    let mut folders = Folders::new(&changed).unwrap();
    let file = path("a/b/c.toml");
    let mut follow = || folders.follow(std::slice::from_ref(&file)).unwrap();
    let is_told = async || {
        timeout(Duration::from_millis(100), changed.notified())
            .await
            .is_ok()
    };
    follow();
    fs::write(path("other"), "").unwrap();
    assert!(!is_told().await);
    let steps: [(&str, &dyn Fn()); 3] = [
        ("a", &|| fs::create_dir(path("a")).unwrap()),
        ("b", &|| fs::create_dir(path("a/b")).unwrap()),
        ("its file", &|| fs::write(path("a/b/c.toml"), "").unwrap()),
    ];
    for (what, step) in steps {
        step();
        assert!(is_told().await, "{what}");
        until_quiet(&changed).await;
        follow();
    }
    fs::write(path("other"), "again").unwrap();
    assert!(!is_told().await);
}

#[test]
fn permissions_of_a_key_are_part_of_what_is_looked_at() {
    let (ca, folder) = (Ca::new(), tempdir().unwrap());
    let files = ca.issue(folder.path(), "a", &["a.example"]);
    let store = CertificateStore::load(std::slice::from_ref(&files)).unwrap();

    fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).unwrap();

    assert_eq!(store.reload().failed.len(), 1);
}
