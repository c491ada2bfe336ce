//! A real server, sessions with it, and a small model of a pool: who carries what, on which session.

use std::{fs, os::unix::fs::PermissionsExt, process::Command, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::auth::Credential;
use crate::compute::process::{Creation, Places, ProcessCompute};
use crate::compute::{Address, Compute};
use crate::config::{self, Limits};
use crate::ids::{EndpointName, Secret};
use crate::pool::{Identity, ServerSession, Way, connect};
use crate::session::profile::{
    self, Pins, Profile,
    apply::{Flight, Whose},
    capture::Question,
    functions::{self, Functions},
};
use crate::session::reported::Reported;
use crate::session::statements::SqlPrepared;
use crate::session::words::{CustomNames, FunctionWords, Scan, Tags, Words, may_have_changed};
use crate::store::Store;
use crate::tls::SocketSettings;
use crate::wire::message::{Message, take_message};
use crate::wire::reply::{data_row, error_fields};
use crate::wire::say;

const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(super) type Row = Vec<Option<String>>;

/// A role that is no superuser.
pub(super) const APP: &str = "app";

/// A server of its own; it ends with this value.
pub(super) struct Server {
    folder: TempDir,
    compute: ProcessCompute,
    address: Address,
    pub(super) major: u32,
}

impl Server {
    /// Of the system's Postgres (15 on Debian 12), or of 18.
    pub(super) async fn start(major: Option<u32>) -> Self {
        let folder = tempfile::Builder::new().prefix("pgw").tempdir_in("/tmp").unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let programs = major.map(|major| {
            let tools = format!("{}/.tools/postgres{major}", env!("CARGO_MANIFEST_DIR"));
            let copy = folder.path().join("programs");
            // Where the user of Postgres can reach it.
            let copied = Command::new("cp")
                .arg("-aT")
                .args([tools.as_ref(), &*copy])
                .status();
            assert!(copied.unwrap().success(), "{tools}: run `make setup`");
            copy.join("bin")
        });
        let config = config::ProcessCompute {
            data_dir: folder.path().join("data"),
            programs,
            run_as: None,
            database: None,
            owner: None,
            bootstrap: None,
            settings: Vec::new(),
            made: config::Made::OnFirstUse,
        };
        let places = Places {
            socket_base: folder.path().join("s"),
            log_dir: folder.path().join("log"),
            store: Arc::new(Store::open(&folder.path().join("state")).unwrap()),
        };
        let creation = Creation { roles: vec![] };
        let name = EndpointName::parse("demo-main").unwrap();
        let compute = ProcessCompute::new(name, &config, creation, places, Duration::from_secs(10)).unwrap();
        let running = compute.start().await.unwrap();
        let mut server = Self {
            folder,
            compute,
            address: running.address,
            major: 0,
        };
        let mut session = server.session("postgres", "").await;
        let version = session.value("SHOW server_version_num").await;
        session
            .run(&format!(
                "CREATE ROLE {APP} LOGIN PASSWORD '{APP}'; GRANT CREATE ON SCHEMA public TO {APP}"
            ))
            .await;
        server.major = version.parse::<u32>().unwrap() / 10_000;
        server
    }

    /// A session as this role; only `postgres` needs no password.
    pub(super) async fn session(&self, role: &str, application_name: &str) -> Session {
        self.session_with(role, application_name, None).await
    }

    /// The same with one more startup parameter.
    async fn session_with(
        &self,
        role: &str,
        application_name: &str,
        parameter: Option<(&str, &str)>,
    ) -> Session {
        let text = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let mut parameters = vec![
            (text("user"), text(role)),
            (text("database"), text("postgres")),
            (text("application_name"), text(application_name)),
            (text("client_encoding"), text("UTF8")),
        ];
        parameters.extend(parameter.map(|(name, value)| (text(name), text(value))));
        let credential = (role != "postgres").then(|| Credential::Password(Secret::new(role)));
        let identity = Identity {
            role,
            credential: credential.as_ref(),
            parameters: &parameters,
        };
        let sockets = SocketSettings::from(&Limits::default());
        let session = connect(&self.address, identity, Way::fresh(&sockets))
            .await
            .unwrap();
        Session {
            session,
            read: BytesMut::new(),
        }
    }

    /// A client of this role, which has only been started.
    pub(super) fn client(&self, role: &str, application_name: &str) -> Client {
        Client {
            role: role.to_owned(),
            application: Bytes::copy_from_slice(application_name.as_bytes()),
            server_major: self.major,
            carried: Carried::of_startup(application_name),
            functions: None,
            unasked: CustomNames::default(),
            asked: String::new(),
        }
    }

    /// A server session that a pool may lend.
    pub(super) async fn lent(&self, role: &str, application_name: &str) -> Lent {
        Lent {
            session: self.session(role, application_name).await,
            carried: Carried::of_startup(application_name),
            opened_as: Bytes::copy_from_slice(application_name.as_bytes()),
        }
    }

    /// One that was started with a setting more.
    pub(super) async fn lent_with(&self, name: &str, value: &str) -> Lent {
        let mut lent = Lent {
            session: self.session_with(APP, "x", Some((name, value))).await,
            carried: Carried::of_startup("x"),
            opened_as: Bytes::from_static(b"x"),
        };
        lent.carried.names.insert(name.as_bytes());
        lent
    }

    /// Ends it; every session with it is closed before.
    pub(super) async fn stop(self) {
        self.compute.stop().await.unwrap();
    }
}

impl Drop for Server {
    /// Where a test failed, nobody has stopped it.
    fn drop(&mut self) {
        let pid_file = fs::read_to_string(self.folder.path().join("data/postmaster.pid"));
        let pid = pid_file.ok().and_then(|text| text.lines().next()?.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::QUIT);
        }
    }
}

/// A session with the server.
pub(super) struct Session {
    session: ServerSession,
    read: BytesMut,
}

impl Session {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.session.stream.write_all(bytes).await.unwrap();
        self.session.stream.flush().await.unwrap();
    }

    pub(super) async fn next(&mut self) -> Message {
        loop {
            if let Some(message) = take_message(&mut self.read, MESSAGE_BYTES_MAX).unwrap() {
                return message;
            }
            let reading = self.session.stream.read_buf(&mut self.read);
            let read = tokio::time::timeout(Duration::from_secs(30), reading).await;
            assert!(read.unwrap().unwrap() > 0, "the server closed");
        }
    }

    /// Everything up to the next ReadyForQuery.
    pub(super) async fn answer(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            let message = self.next().await;
            let is_last = message.tag == b'Z';
            messages.push(message);
            if is_last {
                return messages;
            }
        }
    }

    /// Rows, and the SQLSTATE of an error.
    pub(super) async fn try_run(&mut self, sql: &str) -> (Vec<Row>, Vec<Message>, Option<String>) {
        let mut query = BytesMut::new();
        say::query(sql, &mut query);
        self.send(&query).await;
        let messages = self.answer().await;
        let text = |value: Option<&[u8]>| value.map(|value| String::from_utf8_lossy(value).into_owned());
        let of = |tag: u8| messages.iter().filter(move |message| message.tag == tag);
        let rows = of(b'D').map(|message| data_row(&message.body).unwrap().into_iter().map(text).collect());
        let error = of(b'E')
            .next()
            .map(|message| error_fields(&message.body).sqlstate);
        (rows.collect(), messages.clone(), error)
    }

    pub(super) async fn run(&mut self, sql: &str) -> Vec<Row> {
        let (rows, messages, error) = self.try_run(sql).await;
        assert!(error.is_none(), "{sql}: {messages:?}");
        rows
    }

    /// The first value of the first row.
    pub(super) async fn value(&mut self, sql: &str) -> String {
        let rows = self.run(sql).await;
        rows[0][0].clone().unwrap_or_else(|| "NULL".into())
    }
}

/// What a client or a server session carries.
#[derive(Debug, Clone)]
pub(super) struct Carried {
    pub(super) profile: Arc<Profile>,
    pub(super) names: CustomNames,
    pub(super) pins: Pins,
    pub(super) hides: bool,
}

impl Carried {
    fn of_startup(application_name: &str) -> Self {
        Self {
            profile: Profile::of_startup(application_name.as_bytes()),
            names: CustomNames::default(),
            pins: Pins::NONE,
            hides: false,
        }
    }

    /// Whether a server session that carries this may be lent to this client.
    pub(super) fn suits(&self, client: &Self) -> bool {
        client.names.has_all(&self.names)
    }

    fn state(&self) -> profile::Carried {
        profile::Carried {
            profile: self.profile.clone(),
            pins: self.pins,
            hides: self.hides,
        }
    }
}

/// What pgwake knows of a client.
pub(super) struct Client {
    role: String,
    application: Bytes,
    server_major: u32,
    pub(super) carried: Carried,
    pub(super) functions: Option<FunctionWords>,
    /// Names that Postgres did not tell of when it was asked.
    unasked: CustomNames,
    /// What Postgres was asked last.
    pub(super) asked: String,
}

/// A server session and what pgwake knows of it.
pub(super) struct Lent {
    pub(super) session: Session,
    pub(super) carried: Carried,
    opened_as: Bytes,
}

/// What a client's turn gave.
pub(super) struct Turn {
    pub(super) rows: Vec<Row>,
    pub(super) error: Option<String>,
    /// How often Postgres was asked for more than the client wanted.
    pub(super) applied: bool,
    pub(super) captured: bool,
}

impl Turn {
    /// The first value of the first row.
    pub(super) fn value(&self) -> &str {
        assert!(self.error.is_none(), "{:?}", self.error);
        self.rows[0][0].as_deref().unwrap_or("NULL")
    }
}

impl Client {
    /// One turn on a server session, whoever had it before. Must not be pinned elsewhere.
    pub(super) async fn turn(&mut self, lent: &mut Lent, sql: &str) -> Turn {
        let applied = self.bring(lent, Whose::Other).await.unwrap();
        self.turn_on_own(lent, sql, applied).await
    }

    /// One more turn of a client that has this server session, pinned or not.
    pub(super) async fn next_turn(&mut self, lent: &mut Lent, sql: &str) -> Turn {
        let is_pinned = !lent.carried.pins.is_empty();
        let applied = !is_pinned && self.bring(lent, Whose::Own).await.unwrap();
        self.turn_on_own(lent, sql, applied).await
    }

    /// Whether a flight was needed; else the SQLSTATE that it failed with.
    pub(super) async fn bring(&mut self, lent: &mut Lent, whose: Whose) -> Result<bool, String> {
        let (from, to) = (lent.carried.clone(), &self.carried);
        let is_same = from.pins.is_empty()
            && !(from.hides && whose == Whose::Other)
            && from.profile.is_same(&to.profile)
            && from.names.has_all(&to.names);
        if is_same {
            return Ok(false);
        }
        let mut flight = Flight::default();
        let names = to.names.iter().filter(|name| !from.names.contains(name));
        flight.carry((Some(&from.state()), whose), &to.profile, names);
        lent.session.send(&flight.bytes).await;
        let missing = lent.landed(&flight).await?;
        let mut names = to.names.clone();
        names.extend(&from.names);
        lent.carried = Carried {
            profile: Arc::new(to.profile.without_statements(&missing)),
            names,
            pins: Pins::NONE,
            hides: from.hides && whose == Whose::Own,
        };
        if missing.is_empty() {
            lent.carried.profile = self.carried.profile.clone();
        }
        Ok(true)
    }

    async fn turn_on_own(&mut self, lent: &mut Lent, sql: &str, applied: bool) -> Turn {
        let functions = self.functions.as_ref();
        let mut scan = Scan::default();
        scan.feed(sql.as_bytes(), functions);
        let mut words = scan.finish(functions) | self.carried.profile.standing_words();
        if words.has(Words::EXECUTE) {
            words |= self.carried.profile.statement_words(functions);
        }
        let mut names = scan.take_names();
        names.extend(&std::mem::take(&mut self.unasked));
        let (rows, messages, error) = lent.session.try_run(sql).await;
        assert_eq!(&messages.last().unwrap().body[..], b"I", "{sql}");
        let mut tags = Tags::default();
        for message in messages.iter().filter(|message| message.tag == b'C') {
            tags |= Tags::of(&message.body);
        }
        let has_new_names = !(self.carried.names.has_all(&names) && lent.carried.names.has_all(&names));
        let captured =
            may_have_changed(words, tags) || self.carried.pins.may_have_changed(tags) || has_new_names;
        if captured {
            self.capture(lent, words, tags, names).await;
        }
        Turn {
            rows,
            error,
            applied,
            captured,
        }
    }

    /// Reads the functions of the database, as after a wake.
    pub(super) async fn read_functions(&mut self, lent: &mut Lent) -> Functions {
        let mut flight = Flight::default();
        flight.query(functions::SQL);
        lent.session.send(&flight.bytes).await;
        let messages = lent.session.answer().await;
        assert!(messages.iter().all(|message| message.tag != b'E'), "{messages:?}");
        Functions::read(&rows(&messages)).unwrap()
    }

    async fn capture(&mut self, lent: &mut Lent, words: Words, tags: Tags, names: CustomNames) {
        let mut candidates = self.carried.names.clone();
        candidates.extend(&lent.carried.names);
        candidates.extend(&names);
        let session = lent.carried.state();
        let before = self.carried.profile.clone();
        let nothing = CustomNames::default();
        let question = Question {
            login_role: &self.role,
            application: (&self.application, &lent.opened_as),
            is_told_own_application: false,
            server_major: self.server_major,
            before: &before,
            session: Some(&session),
            starts_with_role: false,
            turn: (words, tags),
            has_more_names: candidates.has_overflowed(),
            lacking: &[],
            prepared: (SqlPrepared::AsNow, &Reported::default()),
            lifts_limit: false,
            candidates: [&candidates, &nothing, &nothing],
        };
        let mut query = BytesMut::new();
        question.put(&mut query);
        self.asked = String::from_utf8(query[5..query.len() - 1].to_vec()).unwrap();
        lent.session.send(&query).await;
        let messages = lent.session.answer().await;
        assert_eq!(&messages.last().unwrap().body[..], b"I");
        if messages.iter().any(|message| message.tag == b'E') {
            let pins = lent.carried.pins;
            lent.carried.pins = pins | pins.remembered(words, tags) | Pins::UNKNOWN;
            self.carried.pins = lent.carried.pins;
            self.unasked = names;
            return;
        }
        let captured = question.read(&rows(&messages)).unwrap();
        self.carried.profile = captured.profile;
        self.carried.pins = captured.carried.pins;
        self.carried.names.extend(&captured.names);
        lent.carried.names.extend(&captured.names);
        lent.carried.profile = captured.carried.profile;
        lent.carried.pins = captured.carried.pins;
        lent.carried.hides = captured.carried.hides;
    }
}

impl Lent {
    /// The statements that are missing after a flight; else the SQLSTATE that it failed with.
    async fn landed(&mut self, flight: &Flight) -> Result<Vec<usize>, String> {
        let mut missing = Vec::new();
        let mut error = None;
        for ready in 0..flight.readies {
            let messages = self.session.answer().await;
            let Some(failed) = messages.iter().find(|message| message.tag == b'E') else {
                continue;
            };
            match flight.prepares.iter().find(|(prepare, _)| *prepare == ready) {
                Some((_, place)) => missing.push(*place),
                None => error = error.or(Some(error_fields(&failed.body).sqlstate)),
            }
        }
        error.map_or(Ok(missing), |error| Err(error.to_string()))
    }
}

fn rows(messages: &[Message]) -> Vec<Bytes> {
    let rows = messages.iter().filter(|message| message.tag == b'D');
    rows.map(|row| row.body.clone()).collect()
}
