//! The role book in front of scripted servers, in paused time.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use tempfile::TempDir;
use tokio::{
    sync::Semaphore,
    time::{Instant, advance},
};

use super::*;
use crate::auth::tests::{endpoint, scram_text};
use crate::config::{ExpectedServer, Role, RoleReading};
use crate::ids::{Generation, SystemIdentifier};

type Answer = Option<Result<Told, String>>;

/// Answers from a list, the last one for ever; each reading takes a permit of `gate`.
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    reads: AtomicUsize,
    gate: Semaphore,
    /// Other servers that were met.
    met: Mutex<Vec<OtherServer>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        Arc::new(Self {
            answers: Mutex::new(answers.into_iter().collect()),
            reads: AtomicUsize::new(0),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            met: Mutex::default(),
        })
    }

    /// One whose readings end only when permits are added to the gate.
    fn held(answers: impl IntoIterator<Item = Answer>) -> Arc<Self> {
        let script = Self::new(answers);
        script.gate.forget_permits(Semaphore::MAX_PERMITS);
        script
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }
}

impl RoleSource for Script {
    fn read(&self, _: &EndpointName) -> BoxFuture<'_, Answer> {
        let mut answers = self.answers.lock().unwrap();
        let answer = match answers.len() {
            0 => panic!("scripted"),
            1 => answers[0].clone(),
            _ => answers.pop_front().unwrap(),
        };
        self.reads.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            self.gate.acquire().await.unwrap().forget();
            answer
        })
    }

    fn met(&self, _: &EndpointName, other: OtherServer) {
        self.met.lock().unwrap().push(other);
    }
}

fn role(name: &str) -> ReadRole {
    ReadRole {
        name: name.to_owned(),
        verifier: Some(Secret::new(scram_text(4096))),
        can_login: true,
        valid_until: None,
    }
}

fn md5_role(name: &str) -> ReadRole {
    ReadRole {
        verifier: Some(Secret::new("md50123456789abcdef0123456789abcdef")),
        ..role(name)
    }
}

fn read(roles: impl IntoIterator<Item = ReadRole>) -> Answer {
    read_by(None, roles)
}

/// The same, from the server of this number.
fn read_by(server: Option<i64>, roles: impl IntoIterator<Item = ReadRole>) -> Answer {
    Some(Ok(Told::by(server, roles)))
}

/// An endpoint whose roles come from Postgres.
fn from_postgres() -> Endpoint {
    Endpoint {
        roles_from: RolesFrom::Postgres(RoleReading {
            role: "postgres".to_owned(),
            password: None,
            database: "postgres".to_owned(),
        }),
        ..endpoint()
    }
}

fn book_in(dir: &TempDir, source: &Arc<Script>) -> RoleBook {
    let store = Arc::new(Store::open(&dir.path().join("state")).unwrap());
    let source = Arc::clone(source) as Arc<dyn RoleSource>;
    RoleBook::load(store, source, [&endpoint().name]).unwrap()
}

struct Stage {
    book: Arc<RoleBook>,
    endpoint: Arc<Endpoint>,
    script: Arc<Script>,
    _dir: TempDir,
}

fn stage(script: Arc<Script>) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    Stage {
        book: Arc::new(book_in(&dir, &script)),
        endpoint: Arc::new(from_postgres()),
        script,
        _dir: dir,
    }
}

impl Stage {
    /// A role is looked up; where it is refused, that is told behind the answer.
    async fn log_in(&self, role: &str) -> Option<Refusal> {
        let known = self.book.look_up(&self.endpoint, role.as_bytes()).await;
        let refusal = known.and_then(|known| known.verifier).err();
        if refusal.is_some() {
            self.book.suspect(&self.endpoint);
        }
        refusal
    }
}

/// Lets the tasks that are ready run; paused time stands still meanwhile.
async fn let_others_run() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_role_is_read_behind_its_login_at_most_once_a_second() {
    let s = stage(Script::new([read([]), read([role("new")]), read([])]));
    assert_eq!(s.log_in("new").await, Some(Refusal::UnreadRoles));
    s.book.drain().await;
    assert_eq!(s.log_in("new").await, Some(Refusal::UnknownRole));
    advance(ROLES_FRESH_FOR - Duration::from_millis(1)).await;
    assert_eq!(s.log_in("new").await, Some(Refusal::UnknownRole));
    assert_eq!(s.script.reads(), 1);
    advance(Duration::from_millis(1)).await;
    assert_eq!(s.log_in("new").await, Some(Refusal::UnknownRole));
    s.book.drain().await;
    assert_eq!(s.log_in("new").await, None);
    assert_eq!(s.script.reads(), 2);
}

/// Logins once waited for the readings that they began: an endpoint that is awake took longer to answer, once a
/// second, than one that does not exist.
#[tokio::test(start_paused = true)]
async fn no_login_waits_for_a_reading_that_a_login_began() {
    let s = stage(Script::held([read([role("app")])]));
    s.script.gate.add_permits(1);
    s.book.refresh(&s.endpoint).await;
    advance(ROLES_FRESH_FOR).await;
    let before = Instant::now();
    for name in ["stranger", "app", "\u{0}", "stranger"] {
        s.log_in(name).await;
        let_others_run().await;
        assert_eq!(s.script.reads(), 2, "{name}");
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn known_and_unknown_roles_wait_alike_for_a_reading_that_was_asked_for() {
    let s = stage(Script::held([read([role("app")])]));
    s.script.gate.add_permits(1);
    s.book.refresh(&s.endpoint).await;
    for (name, reads) in [("app", 2), ("stranger", 3), ("\u{0}", 4)] {
        s.book.changed(&s.endpoint);
        let before = Instant::now();
        s.log_in(name).await;
        assert_eq!(before.elapsed(), ASKED_READING_WAIT, "{name}");
        assert_eq!(s.script.reads(), reads, "{name}");
        let_others_run().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_login_waits_for_what_was_asked_for_behind_a_strangers_reading() {
    let s = stage(Script::held([read([]), read([role("new")])]));
    s.log_in("stranger").await;
    let_others_run().await;
    let (book, endpoint) = (Arc::clone(&s.book), Arc::clone(&s.endpoint));
    let change = tokio::spawn(async move { book.refresh(&endpoint).await });
    let_others_run().await;
    let (book, endpoint) = (Arc::clone(&s.book), Arc::clone(&s.endpoint));
    let login = tokio::spawn(async move { book.look_up(&endpoint, b"new").await.is_ok() });
    let_others_run().await;
    s.script.gate.add_permits(1);
    let_others_run().await;
    assert!(!login.is_finished());
    s.script.gate.add_permits(1);
    assert!(login.await.unwrap());
    assert_eq!(change.await.unwrap(), Refreshed::Read);
    assert_eq!(s.script.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn logins_at_the_same_time_share_one_reading() {
    let s = stage(Script::held([read([role("app")])]));
    for _ in 0..50 {
        assert_eq!(s.log_in("app").await, Some(Refusal::UnreadRoles));
    }
    s.script.gate.add_permits(1);
    s.book.drain().await;
    assert_eq!(s.log_in("app").await, None);
    assert_eq!(s.script.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn whoever_knows_of_a_change_gets_a_reading_that_began_after_it() {
    let s = stage(Script::held([read([]), read([role("new")])]));
    let (book, endpoint) = (Arc::clone(&s.book), Arc::clone(&s.endpoint));
    let first = tokio::spawn(async move { book.refresh(&endpoint).await });
    while s.script.reads() == 0 {
        tokio::task::yield_now().await;
    }
    s.script.gate.add_permits(2);
    assert_eq!(s.book.refresh(&s.endpoint).await, Refreshed::Read);
    assert_eq!(s.script.reads(), 2);
    assert_eq!(s.log_in("new").await, None);
    assert_eq!(first.await.unwrap(), Refreshed::Read);
}

#[tokio::test(start_paused = true)]
async fn a_role_is_known_while_its_compute_sleeps_even_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Arc::new(from_postgres());
    let awake = book_in(&dir, &Script::new([read([role("zoe"), role("app")])]));
    assert!(!awake.was_read(&endpoint.name));
    assert_eq!(awake.refresh(&endpoint).await, Refreshed::Read);
    drop(awake);
    let asleep = book_in(&dir, &Script::new([None]));
    assert!(asleep.was_read(&endpoint.name));
    assert!(asleep.look_up(&endpoint, b"app").await.is_ok());
    assert!(asleep.look_up(&endpoint, b"zoe").await.is_ok());
    assert_eq!(asleep.refresh(&endpoint).await, Refreshed::NotAwake);
}

#[tokio::test(start_paused = true)]
async fn what_fails_to_be_read_leaves_what_is_known() {
    let many = (0..=ROLES_MAX).map(|n| role(&n.to_string()));
    let s = stage(Script::new([
        read([role("app")]),
        Some(Err("no".to_owned())),
        read(many),
    ]));
    s.book.refresh(&s.endpoint).await;
    assert_eq!(s.book.refresh(&s.endpoint).await, Refreshed::Failed("no".into()));
    let Refreshed::Failed(reason) = s.book.refresh(&s.endpoint).await else {
        panic!("too many roles were read")
    };
    assert_eq!(&*reason, "it has 10001 roles, more than 10000");
    assert_eq!(s.log_in("app").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_reading_that_hangs_or_panics_ends() {
    let s = stage(Script::held([read([])]));
    let before = Instant::now();
    let hung = s.book.refresh(&s.endpoint).await;
    assert_eq!(
        hung,
        Refreshed::Failed("the server took too long to answer".into())
    );
    assert!(before.elapsed() < Duration::from_secs(6));
    let s = stage(Script::new([]));
    let panicked = s.book.refresh(&s.endpoint).await;
    assert_eq!(panicked, Refreshed::Failed("reading them panicked".into()));
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_reading_is_not_written_again() {
    let answers = [
        read([role("a"), role("b")]),
        read([role("b"), role("a")]),
        read([role("a")]),
    ];
    let s = stage(Script::new(answers));
    let mut kept = Vec::new();
    for _ in 0..3 {
        s.book.refresh(&s.endpoint).await;
        kept.push(s.book.page(&s.endpoint.name).read_roles(&s.endpoint).unwrap());
    }
    assert!(Arc::ptr_eq(&kept[0], &kept[1]));
    assert!(!Arc::ptr_eq(&kept[1], &kept[2]));
    let stored = s.book.store.remembered_roles(&s.endpoint.name).unwrap().unwrap();
    assert_eq!(stored.roles, [role("a")]);
}

#[tokio::test(start_paused = true)]
async fn roles_that_cannot_log_in_are_told_apart_for_the_operator_only() {
    let group = ReadRole {
        can_login: false,
        ..role("group")
    };
    let bare = ReadRole {
        verifier: None,
        ..role("bare")
    };
    let odd = ReadRole {
        verifier: Some(Secret::new("crypt")),
        ..role("odd")
    };
    let long_salt = scram_text(1).replace("AAAAAAAAAAAAAAAAAAAAAA==", &"A".repeat(4000));
    let long = ReadRole {
        verifier: Some(Secret::new(long_salt)),
        ..role("long")
    };
    let s = stage(Script::new([read([group, bare, odd, long])]));
    s.book.refresh(&s.endpoint).await;
    assert_eq!(s.log_in("group").await, Some(Refusal::MayNotLogIn));
    assert_eq!(s.log_in("bare").await, Some(Refusal::NoPassword));
    assert_eq!(s.log_in("odd").await, Some(UNKNOWN_FORM));
    let long = s.log_in("long").await.unwrap().to_string();
    assert!(long.ends_with("cannot be checked: its salt is longer than 1024 bytes"));
    assert_eq!(s.log_in("stranger").await, Some(Refusal::UnknownRole));
}

#[tokio::test(start_paused = true)]
async fn configured_roles_win_and_need_no_reading() {
    let configured = Role {
        verifier: Some(Verifier::parse(&scram_text(5)).unwrap()),
        server_password: Some(Secret::new("other")),
        subjects: Vec::new(),
        certificate_names: Vec::new(),
    };
    let mut both = from_postgres();
    both.roles.insert("app".to_owned(), configured);
    let script = Script::new([read([md5_role("app"), role("read")])]);
    let s = Stage {
        endpoint: Arc::new(both.clone()),
        ..stage(script)
    };
    s.book.refresh(&s.endpoint).await;
    let known = s.book.look_up(&s.endpoint, b"app").await.unwrap();
    assert!(known.server_password.is_some());
    assert!(matches!(known.verifier, Ok(Verifier::Scram(found)) if found.iterations == 5));
    assert_eq!(s.book.login_method(&s.endpoint), Login::Scram);

    let listed_only = Arc::new(Endpoint {
        roles_from: RolesFrom::Config,
        ..both
    });
    let reads = s.script.reads();
    assert!(s.book.look_up(&listed_only, b"app").await.is_ok());
    let found = s.book.look_up(&listed_only, b"read").await;
    assert_eq!(found.err(), Some(Refusal::UnknownRole));
    assert_eq!(s.book.refresh(&listed_only).await, Refreshed::Configured);
    assert_eq!(s.script.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn the_login_method_follows_the_roles_that_were_read_unless_it_is_configured() {
    let group = ReadRole {
        can_login: false,
        ..role("group")
    };
    let bare = ReadRole {
        verifier: None,
        ..role("bare")
    };
    let s = stage(Script::new([
        read([bare.clone()]),
        read([bare, group, md5_role("old"), md5_role("older")]),
    ]));
    let with = |login| {
        Arc::new(Endpoint {
            login,
            ..from_postgres()
        })
    };
    s.book.refresh(&s.endpoint).await;
    assert_eq!(s.book.login_method(&s.endpoint), Login::Scram);
    assert_eq!(s.book.login_method(&with(LoginMethod::Password)), Login::Password);
    s.book.refresh(&s.endpoint).await;
    assert_eq!(s.book.login_method(&s.endpoint), Login::Password);
    assert_eq!(s.book.login_method(&with(LoginMethod::Scram)), Login::Scram);
}

/// One role that had done `ALTER ROLE … PASSWORD 'md5…'` on itself made everybody send passwords in clear.
#[tokio::test(start_paused = true)]
async fn one_role_cannot_change_how_the_others_log_in() {
    let odd = ReadRole {
        verifier: Some(Secret::new("of another time")),
        ..role("odd")
    };
    let s = stage(Script::new([
        read([md5_role("rogue"), role("app")]),
        read([md5_role("rogue"), odd]),
    ]));
    for _ in 0..2 {
        s.book.refresh(&s.endpoint).await;
        assert_eq!(s.book.login_method(&s.endpoint), Login::Scram);
    }
    // Those that the configuration lists count as well where Postgres has them.
    let mut listed = from_postgres();
    let verifier = Verifier::parse(&scram_text(5)).unwrap();
    let app = Role {
        verifier: Some(verifier),
        server_password: None,
        subjects: Vec::new(),
        certificate_names: Vec::new(),
    };
    listed.roles.insert("app".to_owned(), app);
    let s = stage(Script::new([read([md5_role("rogue"), role("app")])]));
    let listed = Arc::new(listed);
    s.book.refresh(&listed).await;
    assert_eq!(s.book.login_method(&listed), Login::Scram);
}

#[tokio::test(start_paused = true)]
async fn unknown_roles_show_the_rounds_that_most_roles_have() {
    let with = |name, iterations| ReadRole {
        verifier: Some(Secret::new(scram_text(iterations))),
        ..role(name)
    };
    let s = stage(Script::new([read([
        with("a", 600_000),
        with("b", 10_000),
        with("c", 10_000),
        md5_role("d"),
    ])]));
    assert_eq!(s.book.mock_iterations(&s.endpoint), 4096);
    s.book.refresh(&s.endpoint).await;
    assert_eq!(s.book.mock_iterations(&s.endpoint), 10_000);
}

#[test]
fn a_password_expires_when_its_second_has_passed() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let until = |valid_until| Known {
        verifier: Ok(Verifier::parse(&scram_text(1)).unwrap()),
        server_password: None,
        valid_until,
    };
    assert!(!until(None).is_expired(at(u32::MAX.into())));
    assert!(!until(Some(100)).is_expired(at(100)));
    assert!(until(Some(100)).is_expired(at(101)));
    assert!(until(Some(i64::MIN)).is_expired(at(0)));
}

/// What a database answers that has taken over the address of another one.
#[tokio::test(start_paused = true)]
async fn what_another_server_says_of_roles_is_not_believed_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = Arc::new(from_postgres());
    let own = Script::new([read_by(Some(1), [role("app")])]);
    book_in(&dir, &own).refresh(&endpoint).await;

    let taken = Script::new([
        read_by(Some(2), [role("stranger")]),
        read_by(Some(2), [role("stranger")]),
        read_by(Some(1), [role("app"), role("new")]),
    ]);
    let book = book_in(&dir, &taken);
    let other = OtherServer {
        expected: SystemIdentifier(1),
        found: SystemIdentifier(2),
    };
    for _ in 0..2 {
        assert_eq!(book.refresh(&endpoint).await, Refreshed::OtherServer(other));
        assert!(book.look_up(&endpoint, b"stranger").await.is_err());
        assert!(book.look_up(&endpoint, b"app").await.is_ok());
        assert_eq!(book.other_server(&endpoint.name), Some(other));
    }
    assert_eq!(taken.met.lock().unwrap()[..], [other], "told once");

    assert_eq!(book.refresh(&endpoint).await, Refreshed::Read);
    assert_eq!(book.other_server(&endpoint.name), None);
    assert!(book.look_up(&endpoint, b"new").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_forgotten_may_be_another_one() {
    let s = stage(Script::new([
        read_by(Some(1), [role("app")]),
        read_by(Some(2), [role("later")]),
    ]));
    s.book.refresh(&s.endpoint).await;
    s.book.forget_server(&s.endpoint).await.unwrap();
    assert!(s.book.look_up(&s.endpoint, b"later").await.is_ok());
    assert_eq!(s.book.server(&s.endpoint.name), Some(SystemIdentifier(2)));
    assert!(s.script.met.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_server_is_recognised_once_for_a_while_and_anew_after_each_wake() {
    let s = stage(Script::new([read_by(Some(1), [])]));
    let recognise = |wake| s.book.recognise(&s.endpoint, Generation(wake));
    for _ in 0..3 {
        recognise(1).await.unwrap();
    }
    assert_eq!(s.script.reads(), 1);
    advance(server::KNOWN_FOR).await;
    recognise(1).await.unwrap();
    assert_eq!(s.script.reads(), 2);
    // It is read where it was, as far as the script goes: no more than once in a while for the next wake, too.
    for _ in 0..3 {
        recognise(2).await.unwrap();
    }
    assert_eq!(s.script.reads(), 3);
    advance(server::DOUBTED_EVERY).await;
    recognise(2).await.unwrap();
    assert_eq!(s.script.reads(), 4);
}

#[tokio::test(start_paused = true)]
async fn another_server_is_refused_until_the_own_one_is_back() {
    let s = stage(Script::new([
        read_by(Some(1), [role("app")]),
        read_by(Some(2), []),
        read_by(Some(1), [role("app")]),
    ]));
    let recognise = || s.book.recognise(&s.endpoint, Generation(1));
    recognise().await.unwrap();
    advance(server::KNOWN_FOR).await;
    let other = recognise().await.unwrap_err();
    assert_eq!((other.expected.0, other.found.0), (1, 2));
    assert!(recognise().await.is_err(), "without another reading");
    assert_eq!(s.script.reads(), 2);
    advance(server::DOUBTED_EVERY).await;
    recognise().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_own_roles_verifier_is_known_only_where_its_server_is() {
    let s = stage(Script::new([
        read_by(None, [role("postgres")]),
        read_by(Some(1), [role("postgres")]),
    ]));
    let own = |expected| s.book.own_verifier(&s.endpoint, expected).is_some();
    let is = |number| ExpectedServer::Is(SystemIdentifier(number));
    s.book.refresh(&s.endpoint).await;
    assert!(!own(ExpectedServer::AsBefore), "it does not tell which one it is");
    s.book.refresh(&s.endpoint).await;
    assert!(own(ExpectedServer::AsBefore) && own(is(1)));
    assert!(!own(is(2)) && !own(ExpectedServer::Any));
}

/// Waits until so many readings have begun: what is read is written to the disk meanwhile, which takes real time.
async fn until_reads(script: &Script, wanted: usize) {
    let begun = std::time::Instant::now();
    while script.reads() < wanted && begun.elapsed() < Duration::from_secs(60) {
        tokio::task::yield_now().await;
    }
    let_others_run().await;
    assert_eq!(script.reads(), wanted);
}

/// All that run are found at once when pgwake starts, and many may be databases of one server.
#[tokio::test(start_paused = true)]
async fn first_readings_take_turns_and_none_of_them_fails_for_that() {
    let dir = tempfile::tempdir().unwrap();
    let script = Script::held([read([role("app")])]);
    let book = book_in(&dir, &script);
    let named = |number: usize| Endpoint {
        name: EndpointName::parse(&format!("ep-{number:03}")).unwrap(),
        ..from_postgres()
    };
    let all: Vec<Endpoint> = (0..2 * FIRST_AT_ONCE + 5).map(named).collect();
    all.iter().for_each(|endpoint| book.changed(endpoint));
    until_reads(&script, FIRST_AT_ONCE).await;
    for so_far in [FIRST_AT_ONCE, 2 * FIRST_AT_ONCE] {
        // Who waits for a place may wait for longer than a reading may take.
        advance(Duration::from_secs(4)).await;
        script.gate.add_permits(FIRST_AT_ONCE);
        until_reads(&script, all.len().min(so_far + FIRST_AT_ONCE)).await;
    }
    // A later one takes no place.
    let [first, last] = [&all[0], &all[all.len() - 1]];
    assert!(book.was_read(&first.name) && !book.was_read(&last.name));
    book.changed(first);
    until_reads(&script, all.len() + 1).await;
    script.gate.add_permits(6);
    book.drain().await;
    assert!(all.iter().all(|endpoint| book.was_read(&endpoint.name)));
}
