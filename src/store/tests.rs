//! What survives: reopened, locked, damaged and newer stores.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use redb::{Database, StorageBackend, backends::FileBackend};

use super::*;

/// A new folder that is private whatever the umask says.
fn private_dir() -> tempfile::TempDir {
    let mode = fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir().unwrap()
}

fn endpoint(name: &str) -> EndpointName {
    EndpointName::parse(name).unwrap()
}

fn role(name: &str) -> ReadRole {
    ReadRole {
        name: name.to_owned(),
        verifier: Some(Secret::new("md50123456789abcdef0123456789abcdef")),
        can_login: true,
        valid_until: Some(1_900_000_000),
    }
}

#[test]
fn the_folder_is_made_private_and_keeps_its_mock_secret() {
    let parent = private_dir();
    let dir = parent.path().join("a/state");
    let first = *Store::open(&dir).unwrap().mock_secret().reveal();
    let second = *Store::open(&dir).unwrap().mock_secret().reveal();
    assert_eq!(first, second);
    assert_ne!(first, [0; 32]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(mode(&dir.join("state.redb")), 0o600);
}

#[test]
fn two_folders_have_two_mock_secrets() {
    let [one, other] = [(); 2].map(|()| private_dir());
    let secret = |dir: &Path| *Store::open(dir).unwrap().mock_secret().reveal();
    assert_ne!(secret(one.path()), secret(other.path()));
}

#[test]
fn a_folder_open_to_others_is_refused_with_the_command_that_closes_it() {
    let dir = private_dir();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
    let text = Store::open(dir.path()).unwrap_err().to_string();
    assert!(
        text.contains("mode 0750") && text.contains("if it is for pgwake alone, run `chmod 700 /"),
        "{text}"
    );
}

#[test]
fn a_file_in_place_of_the_folder_is_named() {
    let dir = private_dir();
    let path = dir.path().join("state");
    fs::write(&path, "").unwrap();
    let text = Store::open(&path).unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("cannot use {}", path.display())),
        "{text}"
    );
}

#[test]
fn a_second_pgwake_is_told_the_pid_of_the_first() {
    let dir = private_dir();
    let first = Store::open(dir.path()).unwrap();
    let text = Store::open(dir.path()).unwrap_err().to_string();
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
    drop(first);
    Store::open(dir.path()).unwrap();
}

#[test]
fn a_shorter_pid_leaves_nothing_of_a_longer_one() {
    let dir = private_dir();
    fs::write(dir.path().join("lock"), "123456789012345\n").unwrap();
    let _first = Store::open(dir.path()).unwrap();
    let found = Store::open(dir.path()).unwrap_err();
    assert!(matches!(found, StoreError::InUse { pid, .. } if pid == Some(std::process::id())));
}

#[test]
fn roles_are_remembered_over_a_restart() {
    let dir = private_dir();
    let without_password = ReadRole {
        verifier: None,
        can_login: false,
        valid_until: None,
        ..role("nobody \"\n")
    };
    let roles = vec![role("app"), without_password];
    let server = Some(SystemIdentifier(-7));
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.remembered_roles(&endpoint("demo-main")).unwrap(), None);
    store
        .remember_roles(&endpoint("demo-main"), &roles, server)
        .unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(
        store.remembered_roles(&endpoint("demo-main")).unwrap(),
        Some(Remembered { roles, server })
    );
}

#[test]
fn a_server_is_forgotten_without_its_roles_and_with_its_branch() {
    let dir = private_dir();
    let store = Store::open(dir.path()).unwrap();
    let server = Some(SystemIdentifier(i64::MAX));
    let names =
        ["demo-main", "demo-main--b", "demo-other"].map(|name| EndpointName::parse_any(name).unwrap());
    for name in &names {
        store.remember_roles(name, &[role("app")], server).unwrap();
    }
    store.forget_server(&names[0]).unwrap();
    store.forget_branch(&names[1]).unwrap();
    store.remember_roles(&names[1], &[], None).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    let found = names.map(|name| store.remembered_roles(&name).unwrap().unwrap());
    assert_eq!(found.each_ref().map(|found| found.server), [None, None, server]);
    assert_eq!(found.map(|found| found.roles.len()), [1, 0, 1]);
}

#[test]
fn roles_that_are_gone_are_forgotten_and_other_endpoints_are_left_alone() {
    let dir = private_dir();
    let store = Store::open(dir.path()).unwrap();
    for name in ["demo", "demo-main", "demo-other"] {
        store
            .remember_roles(&endpoint(name), &[role("app"), role("old")], None)
            .unwrap();
    }
    store
        .remember_roles(&endpoint("demo"), &[role("app")], None)
        .unwrap();
    store.remember_roles(&endpoint("demo-other"), &[], None).unwrap();
    let names = |name| {
        let remembered = store.remembered_roles(&endpoint(name)).unwrap().unwrap();
        remembered
            .roles
            .into_iter()
            .map(|role| role.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names("demo"), ["app"]);
    assert_eq!(names("demo-main"), ["app", "old"]);
    assert!(names("demo-other").is_empty());
}

#[test]
fn orders_stand_until_they_are_taken_back() {
    let dir = private_dir();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.orders().unwrap().is_empty());
    let both = |orders: &mut StandingOrders| *orders = (true, true).into();
    store.change_orders(&endpoint("demo-main"), both).unwrap();
    store
        .change_orders(&endpoint("demo-main"), |orders| orders.is_paused = false)
        .unwrap();
    store.change_orders(&endpoint("demo-other"), both).unwrap();
    store
        .change_orders(&endpoint("demo-other"), |orders| {
            *orders = StandingOrders::default()
        })
        .unwrap();
    drop(store);
    let orders = Store::open(dir.path()).unwrap().orders().unwrap();
    let disabled = StandingOrders {
        is_disabled: true,
        is_paused: false,
    };
    assert_eq!(
        orders.into_iter().collect::<Vec<_>>(),
        [("demo-main".to_owned(), disabled)]
    );
}

#[test]
fn branches_survive_and_leave_nothing_when_they_are_forgotten() {
    let dir = private_dir();
    let store = Store::open(dir.path()).unwrap();
    let name = EndpointName::parse_any("demo-main--agent-42").unwrap();
    let at = |millis| SystemTime::UNIX_EPOCH + Duration::from_millis(millis);
    let mut branch = BranchRecord {
        name: name.clone(),
        data_dir: "/data/main.branches/agent-42".into(),
        state: BranchState::Making,
        made: at(1_700_000_000_123),
        used: at(1_700_000_000_123),
        ttl: None,
        bytes: 23_000_000,
    };
    store.put_branch(&branch).unwrap();
    branch.state = BranchState::Ready;
    branch.ttl = Some(Duration::from_secs(3600));
    store.put_branch(&branch).unwrap();
    let server = Some(SystemIdentifier(7));
    store.remember_roles(&name, &[role("app")], server).unwrap();
    store
        .remember_roles(&endpoint("demo-main"), &[role("app")], server)
        .unwrap();
    store
        .change_orders(&name, |orders| orders.is_disabled = true)
        .unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.branches().unwrap(), [branch]);
    store.forget_branch(&name).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert!(store.branches().unwrap().is_empty());
    assert!(store.orders().unwrap().is_empty());
    assert_eq!(store.remembered_roles(&name).unwrap(), None);
    assert!(store.remembered_roles(&endpoint("demo-main")).unwrap().is_some());
}

#[test]
fn a_newer_file_is_refused() {
    let dir = private_dir();
    let store = Store::open(dir.path()).unwrap();
    let change = store.read(|database| Ok(database.begin_write()?)).unwrap();
    let versions: redb::TableDefinition<'_, (), u32> = redb::TableDefinition::new("version");
    change
        .open_table(versions)
        .unwrap()
        .insert((), VERSION + 1)
        .unwrap();
    change.commit().unwrap();
    drop(store);
    let text = Store::open(dir.path()).unwrap_err().to_string();
    assert!(
        text.contains("state.redb was written by a newer pgwake (version 2"),
        "{text}"
    );
}

#[test]
fn a_damaged_file_is_named_with_what_to_do() {
    let dir = private_dir();
    drop(Store::open(dir.path()).unwrap());
    let file = dir.path().join("state.redb");
    let whole = fs::read(&file).unwrap();
    let mut overwritten = whole.clone();
    overwritten[..4096].fill(0x5a);
    for damaged in [
        b"not a database".as_slice(),
        &whole[..whole.len() / 2],
        &overwritten,
    ] {
        fs::write(&file, damaged).unwrap();
        let text = Store::open(dir.path()).unwrap_err().to_string();
        assert!(
            text.contains("state.redb is damaged") && text.contains("move it away"),
            "{text}"
        );
    }
}

#[test]
fn secrets_are_never_printed() {
    let dir = private_dir();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(format!("{:?}", store.mock_secret()), "…");
    assert!(format!("{:?}", role("app")).contains("verifier: Some(…)"));
}

#[test]
fn what_is_closed_is_anothers_until_it_is_taken_again() {
    let dir = private_dir();
    let store = Store::open(dir.path()).unwrap();
    store
        .remember_roles(&endpoint("demo"), &[role("app")], None)
        .unwrap();

    store.close();

    let refused = store.remember_roles(&endpoint("demo"), &[], None).unwrap_err();
    assert!(matches!(refused, StoreError::Ceded(_)), "{refused}");
    let other = Store::open(dir.path()).unwrap();
    assert!(matches!(
        store.lock_again().unwrap_err(),
        StoreError::InUse { .. }
    ));
    store.open_again().unwrap();
    assert!(store.orders().is_err(), "it is not opened without the lock");
    drop(other);
    store.lock_again().unwrap();
    assert!(Store::open(dir.path()).is_err());
    store.open_again().unwrap();
    let remembered = store.remembered_roles(&endpoint("demo")).unwrap().unwrap();
    assert_eq!(remembered.roles, [role("app")]);
}

/// A file on a disk that may be full.
#[derive(Debug)]
struct Disk {
    file: FileBackend,
    is_full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        match self.is_full.load(Ordering::Relaxed) {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.room()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.room()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

#[test]
fn a_disk_that_was_full_for_a_moment_is_written_to_again() {
    let dir = private_dir();
    drop(Store::open(dir.path()).unwrap());
    let path = dir.path().join("state.redb");
    let is_full = Arc::new(AtomicBool::new(false));
    let disk = Disk {
        file: FileBackend::new(folder::private_file(&path).unwrap()).unwrap(),
        is_full: is_full.clone(),
    };
    let database = Database::builder().create_with_backend(disk).unwrap();
    let store = Store {
        mock_secret: tables::prepare(&database).ok().unwrap(),
        path,
        state_dir: dir.path().to_owned(),
        opened: Opened::new(folder::lock(dir.path()).unwrap(), database),
    };
    let [kept, lost, later] = ["kept", "lost", "later"].map(endpoint);
    store.remember_roles(&kept, &[role("app")], None).unwrap();

    is_full.store(true, Ordering::Relaxed);
    let refused = store.remember_roles(&lost, &[role("app")], None).unwrap_err();
    assert!(matches!(refused, StoreError::Io { .. }), "{refused}");

    is_full.store(false, Ordering::Relaxed);
    store.remember_roles(&later, &[role("app")], None).unwrap();
    let is_known = |name| store.remembered_roles(name).unwrap().is_some();
    assert_eq!([&kept, &lost, &later].map(is_known), [true, false, true]);
}

#[test]
fn data_directories_in_use_are_known_to_the_next_pgwake_until_they_are_forgotten() {
    let dir = private_dir();
    let [moved, other] = ["moved", "other"].map(endpoint);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.data_dir(&moved).unwrap(), None);
    for path in ["/data/old", "/data/new", "/data/new"] {
        store.remember_data_dir(&moved, Path::new(path)).unwrap();
    }
    store.remember_data_dir(&other, Path::new("/data/other")).unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.data_dir(&moved).unwrap().unwrap(), Path::new("/data/new"));
    store.forget_data_dir(&moved).unwrap();
    assert_eq!(store.data_dir(&moved).unwrap(), None);
    assert!(store.data_dir(&other).unwrap().is_some());
}

#[test]
fn computes_that_were_awake_are_known_to_the_next_pgwake_also_in_a_file_of_one_that_knew_no_such_thing() {
    let dir = private_dir();
    let store = Store::open(dir.path()).unwrap();
    let change = store.read(|database| Ok(database.begin_write()?)).unwrap();
    assert!(change.delete_table(awake::AWAKE).unwrap());
    change.commit().unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.awake().unwrap(), []);
    let [one, two, three] = ["one", "two", "three"].map(endpoint);
    let news = [(one.clone(), true), (two.clone(), true), (three.clone(), false)];
    store.note_awake(&news).unwrap();
    store
        .note_awake(&[(two, false), (three.clone(), true), (one.clone(), true)])
        .unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.awake().unwrap(), [one, three]);
}
