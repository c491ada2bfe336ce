//! Real Postgres processes, as root (then they run as `postgres` or `nobody`) or as an ordinary user.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    pin::pin,
    process::Command,
    sync::Weak,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio_postgres::{Client, NoTls};

use super::{folder::Folder, os_process::OsProcess, *};
use crate::config::Made;
use crate::ids::Verifier;
use crate::tls::Stream;

const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

/// For what takes well under a second: longer only on a machine that is very busy.
const SOON: Duration = Duration::from_secs(20);

/// A place with a data directory's name in it, which Postgres' user can enter.
pub(super) struct Place {
    folder: TempDir,
    bootstrap: Option<PathBuf>,
    made: Made,
    store: Arc<Store>,
    _template: Option<Arc<Self>>,
}

impl Place {
    pub(super) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("pgw").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            store: Arc::new(Store::open(&folder.path().join("state")).unwrap()),
            folder,
            bootstrap: None,
            made: Made::OnFirstUse,
            _template: None,
        }
    }

    /// With a data directory that a first use has made once for all tests that run at the same time.
    pub(super) async fn with_data() -> Self {
        static TEMPLATE: Mutex<Weak<Place>> = Mutex::const_new(Weak::new());
        let mut shared = TEMPLATE.lock().await;
        let template = match shared.upgrade() {
            Some(template) => template,
            None => {
                let template = Arc::new(Self::new());
                let compute = template.compute();
                compute.start().await.unwrap();
                compute.stop().await.unwrap();
                *shared = Arc::downgrade(&template);
                template
            }
        };
        drop(shared);
        let mut place = Self::new();
        let copied = Command::new("cp")
            .arg("-a")
            .args([template.data_dir(), place.data_dir()])
            .status()
            .unwrap();
        assert!(copied.success());
        place._template = Some(template);
        place
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.path().join("data")
    }

    pub(super) fn compute(&self) -> ProcessCompute {
        self.try_compute(Duration::from_secs(10)).unwrap()
    }

    fn try_compute(&self, stop_timeout: Duration) -> Result<ProcessCompute, ComputeError> {
        let config = config::ProcessCompute {
            data_dir: self.data_dir(),
            programs: None,
            run_as: None,
            database: Some("my app".into()),
            owner: None,
            bootstrap: self.bootstrap.clone(),
            settings: Vec::new(),
            made: self.made,
        };
        let creation = Creation {
            roles: vec![("app\"x".into(), Some(Verifier::parse(VERIFIER).unwrap()))],
        };
        let places = Places {
            socket_base: self.path().join("s"),
            log_dir: self.path().join("log"),
            store: self.store.clone(),
        };
        let endpoint = EndpointName::parse("demo-main").unwrap();
        ProcessCompute::new(endpoint, &config, creation, places, stop_timeout)
    }

    /// Everything that stands in the data directory, by the links that anybody can read.
    fn processes(&self) -> usize {
        let data_dir = self.data_dir();
        let stands_here = |entry: io::Result<fs::DirEntry>| {
            fs::read_link(entry.ok()?.path().join("cwd"))
                .ok()
                .filter(|cwd| *cwd == data_dir)
        };
        fs::read_dir("/proc").unwrap().filter_map(stands_here).count()
    }

    fn pid_file(&self) -> PidFile {
        let folder = Folder::open(&self.data_dir()).unwrap().unwrap();
        PidFile::read(&folder).unwrap().unwrap()
    }

    fn postmaster(&self) -> Pid {
        self.pid_file().pid
    }
}

async fn connect(running: &Running, database: &str) -> Client {
    let ServerAddress::Unix(socket) = &running.address.server else {
        panic!("a process compute has a Unix socket")
    };
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(socket.parent().unwrap())
        .user("postgres")
        .dbname(database);
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

#[tokio::test]
async fn first_use_makes_role_and_database_and_lets_pgwake_in() {
    let place = Place::new();
    // What a crash in the middle of an earlier first use leaves.
    fs::create_dir_all(place.path().join("data.new/base")).unwrap();
    let compute = place.compute();
    let running = compute.start().await.unwrap();
    assert!(!running.adopted);
    let phases: Vec<&str> = running.phases.iter().map(|(name, _)| *name).collect();
    assert_eq!(phases, ["look", "create", "launch", "boot"]);

    let client = connect(&running, "my app").await;
    let row = client
        .query_one("SELECT rolpassword FROM pg_authid WHERE rolname = 'app\"x'", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, String>(0), VERIFIER);
    let row = client
        .query_one(
            "SELECT pg_get_userbyid(datdba)::text, pg_encoding_to_char(encoding)::text, datcollate::text, \
             current_setting('listen_addresses'), current_setting('fsync') \
             FROM pg_database WHERE datname = current_database()",
            &[],
        )
        .await
        .unwrap();
    let values: Vec<String> = (0..5).map(|column| row.get(column)).collect();
    assert_eq!(values, ["app\"x", "UTF8", "C.UTF-8", "", "on"]);
    drop(client);
    compute.stop().await.unwrap();
    assert!(!place.path().join("data.new").exists());
}

#[tokio::test]
async fn nobody_but_the_superuser_gets_in_without_a_password() {
    let place = Place::with_data().await;
    let compute = place.compute();
    let running = compute.start().await.unwrap();
    let ServerAddress::Unix(socket) = &running.address.server else {
        panic!()
    };
    let mut config = tokio_postgres::Config::new();
    config
        .host_path(socket.parent().unwrap())
        .user("app\"x")
        .dbname("my app");
    let refused = config.password("guessed").connect(NoTls).await.err().unwrap();
    assert_eq!(refused.code().unwrap().code(), "28P01");
    compute.stop().await.unwrap();
}

#[tokio::test]
async fn the_server_has_nothing_of_pgwakes_terminal_environment_or_sockets() {
    let place = Place::with_data().await;
    let compute = place.compute();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = PathBuf::from(format!(
        "/proc/self/fd/{}",
        std::os::fd::AsRawFd::as_raw_fd(&listener)
    ));
    let _running = compute.start().await.unwrap();
    let pid = place.postmaster();
    assert_eq!(rustix::process::getpgid(Some(pid)).unwrap(), pid);
    let proc = PathBuf::from(format!("/proc/{}", pid.as_raw_nonzero()));
    let environment = fs::read(proc.join("environ")).unwrap();
    // Cargo sets it for every test, as an operator may set a secret.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(!String::from_utf8_lossy(&environment).contains("CARGO_MANIFEST_DIR"));
    let ours = fs::read_link(ours).unwrap();
    let open: Vec<PathBuf> = fs::read_dir(proc.join("fd"))
        .unwrap()
        // It may close one in between.
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .collect();
    assert!(!open.is_empty() && !open.contains(&ours), "{open:?}");
    compute.stop().await.unwrap();
}

#[tokio::test]
async fn a_stopped_server_leaves_no_process_and_does_not_count_as_dead() {
    let place = Place::with_data().await;
    let compute = place.compute();
    assert!(compute.inspect().await.unwrap().is_none());
    for _ in 0..2 {
        let running = compute.start().await.unwrap();
        assert!(!running.adopted);
        assert!(place.processes() > 0);
        let client = connect(&running, "my app").await;
        compute.stop().await.unwrap();
        assert_eq!(place.processes(), 0);
        assert!(client.simple_query("SELECT 1").await.is_err());
        let died = timeout(Duration::from_millis(20), running.died).await;
        assert!(died.is_err(), "{died:?}");
    }
    assert!(compute.inspect().await.unwrap().is_none());
}

/// Looking for what a server left costs a system call per process of the machine.
#[tokio::test]
async fn nothing_is_looked_for_after_a_clean_stop() {
    let place = Place::with_data().await;
    let compute = place.compute();
    compute.start().await.unwrap();
    // It would be found and ended.
    let program = place.path().join("postgres");
    let copied = Command::new("cp")
        .arg("/bin/sleep")
        .arg(&program)
        .status()
        .unwrap();
    assert!(copied.success());
    let mut command = Command::new(program);
    let mut bystander = command.arg("1000").current_dir(place.data_dir()).spawn().unwrap();
    compute.stop().await.unwrap();
    let lives = bystander.try_wait().unwrap().is_none();
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    assert!(lives);
}

#[tokio::test]
async fn a_server_that_collects_its_log_leaves_no_process_either() {
    let place = Place::with_data().await;
    let compute = place.compute();
    let settings = place.data_dir().join("postgresql.auto.conf");
    fs::write(settings, "logging_collector = on\n").unwrap();
    for _ in 0..3 {
        compute.start().await.unwrap();
        compute.stop().await.unwrap();
        assert_eq!(place.processes(), 0);
    }
}

#[tokio::test]
async fn a_killed_postmaster_is_seen_and_its_spinning_backend_ended() {
    let place = Place::with_data().await;
    let compute = place.compute();
    let running = compute.start().await.unwrap();
    let client = connect(&running, "my app").await;
    let backend: i32 = client
        .query_one("SELECT pg_backend_pid()", &[])
        .await
        .unwrap()
        .get(0);
    let spinning = tokio::spawn(async move { client.batch_execute("DO 'BEGIN LOOP END LOOP; END'").await });
    let backend = OsProcess::open(Pid::from_raw(backend).unwrap()).unwrap();
    let watcher = connect(&running, "postgres").await;
    let active = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO%' AND state = 'active'";
    while watcher.query_one(active, &[]).await.unwrap().get::<_, i64>(0) == 0 {}

    kill_process(place.postmaster(), Signal::KILL).unwrap();
    let reason = timeout(SOON, running.died).await.unwrap();
    assert_eq!(reason, "postgres was ended by signal 9 (SIGKILL)");
    assert!(backend.has_ended());
    assert_eq!(place.processes(), 0);
    assert!(timeout(SOON, spinning).await.unwrap().unwrap().is_err());

    let again = compute.start().await.unwrap();
    assert!(!again.adopted);
    connect(&again, "my app")
        .await
        .simple_query("SELECT 1")
        .await
        .unwrap();
    compute.stop().await.unwrap();
}

#[tokio::test]
async fn orphans_that_nobody_watched_are_ended_by_the_next_look() {
    let place = Place::with_data().await;
    let compute = place.compute();
    let running = compute.start().await.unwrap();
    let client = connect(&running, "my app").await;
    drop(running);
    let spinning = tokio::spawn(async move { client.batch_execute("DO 'BEGIN LOOP END LOOP; END'").await });
    let postmaster = OsProcess::open(place.postmaster()).unwrap();
    postmaster.signal(Signal::KILL);
    // A kill is only asked for; until the kernel has done it, the server is found and taken over.
    timeout(SOON, postmaster.ended()).await.unwrap();
    drop(compute);
    let compute = place.compute();
    assert!(compute.inspect().await.unwrap().is_none());
    assert_eq!(place.processes(), 0);
    assert!(timeout(SOON, spinning).await.unwrap().unwrap().is_err());
    compute.start().await.unwrap();
    compute.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_outlived_its_pgwake_is_adopted_watched_and_stopped() {
    let place = Place::with_data().await;
    let first = place.compute();
    let started = first.start().await.unwrap();
    let pid = place.postmaster();
    let address = started.address.clone();
    drop(started);
    drop(first);

    let second = place.compute();
    let found = second.inspect().await.unwrap().unwrap();
    assert!(found.adopted);
    assert_eq!(found.address, address);
    let adopted = second.start().await.unwrap();
    assert!(adopted.adopted);
    assert_eq!(place.postmaster(), pid);
    connect(&adopted, "my app")
        .await
        .simple_query("SELECT 1")
        .await
        .unwrap();
    kill_process(pid, Signal::KILL).unwrap();
    timeout(SOON, adopted.died).await.unwrap();
    timeout(SOON, found.died).await.unwrap();
    assert_eq!(place.processes(), 0);

    second.start().await.unwrap();
    drop(second);
    let third = place.compute();
    third.stop().await.unwrap();
    assert_eq!(place.processes(), 0);
}

/// A tenant that is superuser of its Postgres can put a link to another tenant's socket in its socket's place.
#[tokio::test]
async fn a_socket_that_leads_elsewhere_is_not_taken_for_the_servers_own() {
    let place = Place::with_data().await;
    let compute = place.compute();
    let address = compute.start().await.unwrap().address;
    let ServerAddress::Unix(socket) = &address.server else {
        panic!()
    };
    let proc = format!("/proc/{}", place.postmaster().as_raw_nonzero());
    assert_eq!(address.server_uid, Some(fs::metadata(proc).unwrap().uid()));
    let reached = async || Stream::Unix(UnixStream::connect(socket).await.unwrap());
    address.check_server(&reached().await).unwrap();

    // Somebody else's: this process, if it is root.
    let other = place.path().join("other");
    let _listener = UnixListener::bind(&other).unwrap();
    fs::remove_file(socket).unwrap();
    std::os::unix::fs::symlink(&other, socket).unwrap();
    let checked = address.check_server(&reached().await);
    assert_eq!(checked.is_err(), rustix::process::geteuid().is_root());
    compute.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_whose_socket_folder_is_open_to_others_is_not_adopted() {
    let place = Place::with_data().await;
    let first = place.compute();
    let address = first.start().await.unwrap().address;
    drop(first);
    let ServerAddress::Unix(socket) = &address.server else {
        panic!()
    };
    let folder = socket.parent().unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    let second = place.compute();
    let reason = second.start().await.unwrap_err().reason;
    assert!(reason.contains("is open to others (mode 0755)"), "{reason}");
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).unwrap();
    assert!(second.start().await.unwrap().adopted);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_found_shutting_down_is_waited_for_and_started_anew() {
    let place = Place::with_data().await;
    let compute = place.compute();
    let running = compute.start().await.unwrap();
    let pid = place.postmaster();
    // A smart shutdown waits for this client.
    let client = connect(&running, "my app").await;
    kill_process(pid, Signal::TERM).unwrap();
    let stopping = async {
        while place.pid_file().status != Status::Stopping {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, stopping).await.unwrap();
    assert!(compute.inspect().await.unwrap().is_none());
    let again = compute.start().await.unwrap();
    assert!(!again.adopted);
    assert_ne!(place.postmaster(), pid);
    assert!(client.simple_query("SELECT 1").await.is_err());
    compute.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_that_is_given_up_at_any_moment_leaves_nothing_after_a_stop() {
    let place = Place::with_data().await;
    let compute = place.compute();
    for moment in [0, 1, 2, 4, 8, 12, 16, 24, 32, 48] {
        let _ = timeout(Duration::from_millis(moment), compute.start()).await;
        compute.stop().await.unwrap();
        assert_eq!(place.processes(), 0, "given up after {moment} ms");
    }
    compute.start().await.unwrap();
    compute.stop().await.unwrap();
}

#[tokio::test]
async fn a_first_use_that_is_given_up_is_made_anew() {
    let place = Place::new();
    let compute = place.compute();
    for moment in [20, 200] {
        assert!(
            timeout(Duration::from_millis(moment), compute.start())
                .await
                .is_err()
        );
        compute.stop().await.unwrap();
        assert!(!place.data_dir().exists());
    }
    let running = compute.start().await.unwrap();
    connect(&running, "my app").await;
    compute.stop().await.unwrap();
}

async fn is_used(place: &Place) {
    let compute = place.compute();
    let running = compute.start().await.unwrap();
    connect(&running, "my app").await;
    compute.stop().await.unwrap();
}

#[tokio::test]
async fn a_data_directory_that_was_in_use_and_is_gone_is_not_made_anew_before_somebody_says_so() {
    let mut place = Place::with_data().await;
    is_used(&place).await;
    let away = place.path().join("away");
    fs::rename(place.data_dir(), &away).unwrap();
    // A mount point without its disk is an empty folder; a pgwake that was restarted knows no more than its store.
    for is_empty_folder in [false, true] {
        if is_empty_folder {
            fs::create_dir(place.data_dir()).unwrap();
        }
        let compute = place.compute();
        let checked = compute.check().unwrap_err();
        let started = compute.start().await.err().unwrap();
        for error in [checked, started] {
            assert_eq!(error.reason, "its data directory was in use and is gone");
            assert!(error.detail.unwrap().contains("/demo-main/forget-server"));
        }
    }
    fs::remove_dir(place.data_dir()).unwrap();
    fs::rename(&away, place.data_dir()).unwrap();
    is_used(&place).await;

    fs::rename(place.data_dir(), &away).unwrap();
    place.compute().check().unwrap_err();
    place.made = Made::WheneverMissing;
    place.compute().check().unwrap();
    place.made = Made::OnFirstUse;
    let endpoint = EndpointName::parse("demo-main").unwrap();
    place.store.forget_data_dir(&endpoint).unwrap();
    is_used(&place).await;
    fs::remove_dir_all(place.data_dir()).unwrap();
    place.compute().check().unwrap_err();
}

/// Semicolons and empty lines within what it quotes are no ends of commands.
const BOOTSTRAP: &str = "\
create role reader;\r\ncreate table ledger (n int);\n\n\
alter database \"my app\" set work_mem = '5MB'; -- a comment\n\n\
create function added(a int, b int) returns int language plpgsql as $$\nbegin\n  a := a + 1;\n\n  return a + b;\nend $$;\n\n\
grant reader to \"app\"\"x\"; grant insert, select on ledger to reader;\n";

#[tokio::test]
async fn a_bootstrap_file_is_run_once_and_whole_by_the_superuser() {
    let mut place = Place::new();
    let file = place.path().join("bootstrap.sql");
    place.bootstrap = Some(file.clone());
    let compute = place.compute();
    let missing = compute.start().await.err().unwrap();
    assert!(
        missing.reason.contains("bootstrap.sql cannot be read"),
        "{missing}"
    );

    // An error in its last statement leaves nothing, and what it says is told.
    fs::write(&file, format!("{BOOTSTRAP}select 1/0;\n")).unwrap();
    let wrong = compute.start().await.err().unwrap();
    assert!(wrong.detail.unwrap().contains("division by zero"));
    assert!(!place.data_dir().exists());
    // It took the room of a whole data directory, on a disk that may be full for it.
    assert!(!place.path().join("data.new").exists());

    fs::write(&file, BOOTSTRAP).unwrap();
    let running = compute.start().await.unwrap();
    let client = connect(&running, "my app").await;
    client
        .batch_execute("insert into ledger values (added(1, 2))")
        .await
        .unwrap();
    let read = "select n, current_setting('work_mem') from ledger";
    let row = client.query_one(read, &[]).await.unwrap();
    assert_eq!((row.get::<_, i32>(0), row.get::<_, &str>(1)), (4, "5MB"));
    drop(client);
    compute.stop().await.unwrap();

    let running = compute.start().await.unwrap();
    let client = connect(&running, "my app").await;
    let rows = client.query(read, &[]).await.unwrap();
    assert_eq!(rows.len(), 1, "it is run once");
    drop(client);
    compute.stop().await.unwrap();
}

/// A log was only looked at before a start: a server that never sleeps could fill the disk.
#[tokio::test(start_paused = true)]
async fn the_log_of_a_server_that_never_sleeps_is_bounded() {
    let place = Place::new();
    let compute = place.compute();
    let log = place.path().join("log/demo-main.log");
    fs::create_dir(log.parent().unwrap()).unwrap();
    fs::File::create(&log).unwrap().set_len(11_000_000).unwrap();
    let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
    let process = OsProcess::open(Pid::from_child(&child)).unwrap();
    let died = died(
        compute.site.clone(),
        compute.turn.clone(),
        Arc::new(Postmaster::new(process)),
    );
    let mut died = pin!(died);
    let looks = Duration::from_millis(1500);
    assert!(timeout(looks, &mut died).await.is_err(), "it lives");
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(length(&log), 0);
    assert_eq!(length(&log.with_extension("log.1")), 10_000_000);
    // Two that look after one log would keep what the other has emptied.
    compute.give_up().await;
    fs::File::create(&log).unwrap().set_len(11_000_000).unwrap();
    assert!(timeout(looks, died).await.is_err(), "it lives");
    assert_eq!(length(&log), 11_000_000, "it is another pgwake's now");
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A log was looked at once a minute, and whole at the next start: a server that slept before was never bounded.
#[tokio::test]
async fn what_a_server_writes_in_a_short_life_is_bounded_when_it_ends() {
    let place = Place::with_data().await;
    let compute = place.compute();
    let running = compute.start().await.unwrap();
    let client = connect(&running, "my app").await;
    let flood = "set client_min_messages = error; \
                 do $$ begin for i in 1..60 loop raise warning '%', repeat('x', 1000000); end loop; end $$";
    client.batch_execute(flood).await.unwrap();
    compute.stop().await.unwrap();
    let length = |name: &str| fs::metadata(place.path().join(name)).map_or(0, |meta| meta.len());
    let lengths = (length("log/demo-main.log"), length("log/demo-main.log.1"));
    assert!(lengths.0 <= 10_000_000 && lengths.1 <= 20_000_000, "{lengths:?}");
    assert!(lengths.1 > 0, "its end is kept");
}

#[tokio::test]
async fn a_frozen_server_is_stopped_all_the_same() {
    let place = Place::with_data().await;
    let compute = place.try_compute(Duration::from_millis(50)).unwrap();
    let running = compute.start().await.unwrap();
    let client = connect(&running, "my app").await;
    let spinning = tokio::spawn(async move { client.batch_execute("DO 'BEGIN LOOP END LOOP; END'").await });
    kill_process(place.postmaster(), Signal::STOP).unwrap();
    compute.stop().await.unwrap();
    assert_eq!(place.processes(), 0);
    assert!(timeout(SOON, spinning).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn a_failed_start_tells_what_the_server_wrote_and_leaves_nothing() {
    let place = Place::with_data().await;
    let compute = place.compute();
    fs::write(
        place.data_dir().join("postgresql.auto.conf"),
        "no_such_setting = 'x'\n",
    )
    .unwrap();
    let error = compute.start().await.unwrap_err();
    assert_eq!(
        error.reason,
        "postgres ended with exit status 1 before it took logins"
    );
    assert!(error.detail.unwrap().contains("no_such_setting"));
    assert_eq!(place.processes(), 0);
    fs::write(place.data_dir().join("postgresql.auto.conf"), "").unwrap();
    compute.start().await.unwrap();
    compute.stop().await.unwrap();
}

#[tokio::test]
async fn stale_pid_files_are_no_problem_even_if_the_pid_lives_again() {
    let place = Place::with_data().await;
    let compute = place.compute();
    // A process of Postgres' user, as the postmaster itself would be: that is what Postgres falls for.
    let mut command = Command::new("sleep");
    compute.site.means().unwrap().account.dress(&mut command);
    let mut other = command.arg("1000").spawn().unwrap();
    let pid_file = place.data_dir().join("postmaster.pid");
    for pid in [other.id(), 4_000_000] {
        let text = format!(
            "{pid}\n{}\n1\n5432\n/tmp\n\n\nready\n",
            place.data_dir().display()
        );
        fs::write(&pid_file, text).unwrap();
        assert!(compute.inspect().await.unwrap().is_none());
        assert!(!compute.start().await.unwrap().adopted);
        compute.stop().await.unwrap();
    }
    assert!(
        other.try_wait().unwrap().is_none(),
        "the other program is left alone"
    );
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn a_folder_that_postgres_cannot_enter_is_named_with_the_fix() {
    let place = Place::new();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600)).unwrap();
    let reason = place
        .try_compute(SOON)
        .and_then(|compute| compute.check())
        .unwrap_err()
        .reason;
    let fix = format!("`chmod o+x {}`", place.path().display());
    assert!(reason.contains(&fix), "{reason}");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    place
        .try_compute(SOON)
        .and_then(|compute| compute.check())
        .unwrap();
}

#[test]
fn a_second_compute_on_a_data_directory_names_the_first_ones_pid() {
    let place = Place::new();
    let first = place.compute();
    let refused = place.try_compute(SOON).unwrap_err().reason;
    assert!(
        refused.contains(&format!(
            "is already served by pgwake with pid {}",
            std::process::id()
        )),
        "{refused}"
    );
    drop(first);
    place.compute();
}

/// One broken disk is no reason not to serve the others.
#[tokio::test]
async fn a_data_directory_that_cannot_be_locked_is_as_soon_as_it_can() {
    let place = Place::with_data().await;
    let lock = lock::beside(&place.data_dir(), ".lock");
    fs::create_dir(&lock).unwrap();
    let compute = place.compute();
    let why = format!("cannot lock {}: ", lock.display());
    for refused in [
        compute.check().unwrap_err(),
        compute.start().await.unwrap_err(),
        compute.inspect().await.map(drop).unwrap_err(),
    ] {
        assert!(refused.reason.starts_with(&why), "{refused}");
    }

    fs::remove_dir(&lock).unwrap();
    compute.start().await.unwrap();
    let other = place.try_compute(SOON).unwrap_err().reason;
    assert!(other.contains("is already served by"), "{other}");
    compute.stop().await.unwrap();
}
