//! Where a suite runs: at Postgres itself, or through pgwake in one of its ways of pooling. The suites are told by
//! environment variables, most of them libpq's own; which places there are stands here alone.
//!
//! Each stage is a Postgres of its own. TLS is on at all of them, and every suite verifies it.

use std::{fmt, path::PathBuf, str::FromStr};

use crate::harness::{
    certificates::Authority,
    directories::Directory,
    gateway::{DOMAIN, Gateway, Setup},
    postgres::{PASSWORD, Postgres, Prepared, SUPERUSER, Version, programs},
    programs::Program,
};

/// The endpoint of every stage.
pub(crate) const ENDPOINT: &str = "drivers";

/// What stands between a suite and its Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing: what a suite finds here is true.
    Direct,
    /// pgwake in session pooling.
    Session,
    /// pgwake in transaction pooling with this many server sessions.
    Transaction(u32),
}

/// The places of the tests that run every time.
pub(crate) const SHORT: &[Place] = &[Place::Session, Place::Transaction(2)];

/// The places of `make test-drivers` and `make test-fidelity` where none is named.
pub(crate) const ALL: &[Place] = &[
    Place::Direct,
    Place::Session,
    Place::Transaction(PLENTY),
    Place::Transaction(2),
];

/// Server sessions where a stage has as many as its clients want.
const PLENTY: u32 = 80;

/// A place with a Postgres behind it.
pub(crate) struct Stage {
    place: Place,
    port: u16,
    ca: PathBuf,
    /// What a client in this process needs to trust it.
    pub(crate) tls: rustls::ClientConfig,
    // In this order: pgwake goes before the server that it uses.
    _gateway: Option<Gateway>,
    pub(crate) postgres: Postgres,
    _directory: Directory,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => write!(formatter, "direct"),
            Self::Session => write!(formatter, "session"),
            Self::Transaction(sessions) => write!(formatter, "transaction-{sessions}"),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "direct" => Ok(Self::Direct),
            "session" => Ok(Self::Session),
            "transaction" => Ok(Self::Transaction(PLENTY)),
            _ => word
                .strip_prefix("transaction-")
                .and_then(|sessions| sessions.parse().ok())
                .map(Self::Transaction)
                .ok_or(format!(
                    "{word}: neither direct, session, transaction nor transaction-<sessions>"
                )),
        }
    }
}

impl Place {
    /// How the suites are told.
    fn mode(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Session => "session",
            Self::Transaction(_) => "transaction",
        }
    }

    /// The server name that stands for it.
    fn server_name(self) -> String {
        match self {
            Self::Direct | Self::Session => format!("{ENDPOINT}.{DOMAIN}"),
            Self::Transaction(_) => format!("{ENDPOINT}-pooler.{DOMAIN}"),
        }
    }

    /// The keys of the endpoint. Two clients of a suite may be pinned at once.
    fn keys(self) -> String {
        match self {
            Self::Direct | Self::Session => String::new(),
            Self::Transaction(sessions) => {
                let pinned_max = (sessions / 2).max(2);
                format!("pool = {{ mode = \"transaction\", size = {sessions}, pinned_max = {pinned_max} }}")
            }
        }
    }
}

impl Stage {
    /// The system's Postgres at a place.
    pub(crate) async fn start(place: Place) -> Self {
        let settings = [
            ("max_prepared_transactions", "10"),
            ("max_wal_senders", "4"),
            ("wal_level", "logical"),
        ];
        Self::with(place, &settings).await
    }

    /// The same with these parameters of postgresql.conf.
    pub(crate) async fn with(place: Place, settings: &[(&str, &str)]) -> Self {
        let authority = Authority::new();
        let directory = Directory::new();
        let names = [&place.server_name(), "127.0.0.1", "localhost"];
        let prepared = Prepared::new(Version::Debian).tls(&authority.certify(&names));
        let set = |prepared: Prepared, (name, value): &(&str, &str)| prepared.setting(name, value);
        let postgres = settings.iter().fold(prepared, set).start().await;
        let (ca, tls) = (authority.write(directory.path()), authority.client_config(&[]));
        let gateway = match place {
            Place::Direct => None,
            Place::Session | Place::Transaction(_) => Some(gateway(place, &postgres, authority).await),
        };
        Self {
            place,
            port: gateway
                .as_ref()
                .map_or(postgres.port(), |gateway| gateway.address().port()),
            ca,
            tls,
            _gateway: gateway,
            postgres,
            _directory: directory,
        }
    }

    /// What a suite is told. Names of `SUITE_…` are ours, the others are libpq's.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let sessions = match self.place {
            Place::Direct | Place::Session => PLENTY,
            Place::Transaction(sessions) => sessions,
        };
        vec![
            ("PGHOST", self.place.server_name()),
            ("PGHOSTADDR", "127.0.0.1".to_owned()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", SUPERUSER.to_owned()),
            ("PGPASSWORD", PASSWORD.to_owned()),
            ("PGDATABASE", "postgres".to_owned()),
            ("PGSSLMODE", "verify-full".to_owned()),
            ("PGSSLROOTCERT", self.ca.display().to_string()),
            ("SUITE_MODE", self.place.mode().to_owned()),
            ("SUITE_SESSIONS", sessions.to_string()),
            ("SUITE_PROGRAMS", programs(Version::Debian).display().to_string()),
        ]
    }

    /// The password as it stands in a connection string of libpq's.
    pub(crate) fn quoted_password(&self) -> String {
        format!("'{}'", self.variable("PGPASSWORD").replace('\'', "\\'"))
    }

    /// Makes a database with this in it, without pgwake's knowledge.
    pub(crate) async fn make_database(&self, name: &str, prepared: &str) {
        if name != "postgres" {
            self.tell_postgres("postgres", &format!("create database {name}"))
                .await;
        }
        self.tell_postgres(name, prepared).await;
    }

    async fn tell_postgres(&self, database: &str, sql: &str) {
        let connection = self.postgres.connection_string();
        let connection = connection.replace("dbname=postgres", &format!("dbname={database}"));
        let psql = Program::new(programs(Version::Debian).join("psql"));
        psql.arguments(&["-X", "-q", "-d", &connection, "-c", sql])
            .run()
            .await
            .succeeded();
    }

    /// One of these variables.
    pub(crate) fn variable(&self, name: &str) -> String {
        let all = self.variables();
        let found = all.into_iter().find(|(known, _)| *known == name);
        found.unwrap_or_else(|| panic!("no variable {name}")).1
    }
}

async fn gateway(place: Place, postgres: &Postgres, authority: Authority) -> Gateway {
    // Plaintext is taken as by Postgres itself: some of the drivers' own tests know nothing else.
    let listen =
        format!(r#"[{{ address = "127.0.0.1:0", tls = "optional", default_endpoint = "{ENDPOINT}" }}]"#);
    let setup = Setup::new().signed_by(authority).listen(&listen);
    setup.fixed(ENDPOINT, postgres, &place.keys()).start().await
}
