//! The console, with psql, psycopg and tokio-postgres.

use tokio_postgres::{Client, SimpleQueryMessage, error::SqlState};

use super::{admin, verifier};
use crate::harness::{
    gate::Gate,
    gateway::{DOMAIN, Gateway, Setup},
    postgres::PASSWORD,
    psql::psql,
    python::python,
    tls_client,
    wait::until,
};

/// Operators with the superuser's password: one who looks and one who orders.
pub(super) fn with_operators(setup: Setup) -> Setup {
    let role = |name: &str, right: &str| {
        format!(
            "[admin.roles.{name}]\nverifier = \"{}\"\nright = \"{right}\"\n",
            verifier()
        )
    };
    setup.tenants(&(role("looker", "read") + &role("boss", "operate")))
}

pub(super) async fn console(gateway: &Gateway, role: &str) -> Client {
    let mut config = gateway.config("whatever");
    config.user(role).dbname("pgwake");
    tls_client::connect(&config, &gateway.authority).await.unwrap()
}

fn connection_string(gateway: &Gateway, role: &str) -> String {
    let password = PASSWORD.replace('\'', "\\'");
    format!(
        "host={DOMAIN} hostaddr=127.0.0.1 port={} user={role} password='{password}' dbname=pgwake \
         sslmode=verify-full sslrootcert={}",
        gateway.address().port(),
        gateway.path().join("ca.pem").display()
    )
}

/// The rows of a table, column by column.
pub(super) async fn shown(client: &Client, table: &str) -> Vec<Vec<(String, String)>> {
    let messages = client.simple_query(&format!("SHOW {table}")).await.unwrap();
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            let cell = |(index, column): (usize, &tokio_postgres::SimpleColumn)| {
                (column.name().to_owned(), row.get(index).unwrap_or("").to_owned())
            };
            Some(row.columns().iter().enumerate().map(cell).collect())
        }
        _ => None,
    });
    rows.collect()
}

pub(super) fn cell<'a>(row: &'a [(String, String)], name: &str) -> &'a str {
    let found = row.iter().find(|(column, _)| column == name);
    &found.unwrap_or_else(|| panic!("no {name} in {row:?}")).1
}

#[tokio::test]
async fn psql_and_psycopg_look_around() {
    let gateway = with_operators(admin())
        .listed("ops-console-drivers", "")
        .start()
        .await;
    let connection = connection_string(&gateway, "looker");

    let version = psql(&connection)
        .arguments(&["-c", "SHOW VERSION"])
        .run()
        .await
        .succeeded();
    let python = python("console", &[&connection]).run().await.succeeded();

    assert_eq!(version.trim(), format!("pgwake {}", env!("CARGO_PKG_VERSION")));
    assert!(python.contains("done"), "{python}");
    assert_eq!(gateway.wakes("ops-console-drivers"), 0);
}

#[tokio::test]
async fn every_table_is_shown_with_what_is_true() {
    const ENDPOINT: &str = "ops-console-tables";
    let setup = with_operators(admin());
    let mut gate = Gate::new(setup.path());
    gate.close();
    let gateway = setup.gated(ENDPOINT, &gate, "").start().await;
    let operator = console(&gateway, "looker").await;
    let mut held = gateway.raw_proved(ENDPOINT).await;
    until("it to be held", async || {
        shown(&operator, "WAITERS").await.len() == 1
    })
    .await;
    let pools = shown(&operator, "POOLS").await;
    let pool = pools
        .iter()
        .find(|row| cell(row, "database") == ENDPOINT)
        .unwrap();
    assert_eq!((cell(pool, "cl_waiting"), cell(pool, "sv_active")), ("1", "0"));
    let endpoints = shown(&operator, "ENDPOINTS").await;
    assert_eq!(
        (cell(&endpoints[0], "state"), cell(&endpoints[0], "held")),
        ("waking", "1")
    );

    gate.open();
    held.until(b'Z').await;
    until("it to be idle", async || {
        let pools = shown(&operator, "POOLS").await;
        let pool = pools
            .iter()
            .find(|row| cell(row, "database") == ENDPOINT)
            .unwrap();
        (cell(pool, "cl_active"), cell(pool, "sv_active")) == ("1", "1")
    })
    .await;
    assert_eq!(cell(&shown(&operator, "WAKES").await[0], "state"), "ready");
    let tables: Vec<String> = shown(&operator, "HELP")
        .await
        .iter()
        .filter_map(|row| cell(row, "command").strip_prefix("SHOW ").map(ToOwned::to_owned))
        .collect();
    assert!(tables.len() >= 17, "{tables:?}");
    for table in tables {
        let rows = shown(&operator, &table).await;
        // Nobody waits, and there are no peers.
        let has_none = ["WAITERS", "PEERS", "PEER_POOLS"].contains(&&*table);
        assert_eq!(rows.is_empty(), has_none, "{table}");
        let prepared = operator.query(&format!("SHOW {table}"), &[]).await.unwrap();
        assert_eq!(prepared.len(), shown(&operator, &table).await.len(), "{table}");
        let text = format!("{rows:?}");
        assert!(
            !text.contains("SCRAM-SHA-256$") && !text.contains(PASSWORD),
            "{text}"
        );
    }
}

/// It said of every limit that only a restart changes it.
#[tokio::test]
async fn what_a_reload_changes_is_shown_as_changeable() {
    let gateway = with_operators(admin()).start().await;
    let operator = console(&gateway, "looker").await;
    let rows = shown(&operator, "CONFIG").await;
    let fixed = rows.iter().filter(|row| cell(row, "changeable") == "no");
    let mut fixed: Vec<_> = fixed.map(|row| cell(row, "key")).collect();
    fixed.sort_unstable();
    assert_eq!(fixed, ["commands_at_once", "tcp_keepalive", "tcp_user_timeout"]);
    assert!(rows.len() > fixed.len());
}

#[tokio::test]
async fn commands_are_carried_out_for_those_who_may() {
    const ENDPOINT: &str = "ops-console-orders";
    let gateway = with_operators(admin()).listed(ENDPOINT, "").start().await;
    let (looker, boss) = (console(&gateway, "looker").await, console(&gateway, "boss").await);
    let code = |result: Result<Vec<SimpleQueryMessage>, tokio_postgres::Error>| {
        result.err().and_then(|error| error.code().cloned())
    };
    let refused = looker.simple_query(&format!("WAKE {ENDPOINT}")).await;
    assert_eq!(code(refused), Some(SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!(gateway.wakes(ENDPOINT), 0);

    boss.simple_query(&format!("WAKE \"{ENDPOINT}\";")).await.unwrap();
    until("it to be awake", async || gateway.is_awake(ENDPOINT)).await;
    boss.execute(&format!("SUSPEND {ENDPOINT}"), &[]).await.unwrap();
    gateway.asleep(ENDPOINT).await;

    let client = gateway.connect(ENDPOINT).await;
    boss.simple_query(&format!("KILL {ENDPOINT}")).await.unwrap();
    until("its session to end", async || client.is_closed()).await;
    boss.simple_query("PAUSE").await.unwrap();
    assert_eq!(cell(&shown(&boss, "DATABASES").await[0], "paused"), "1");
    boss.simple_query("RESUME; RECONNECT").await.unwrap();
    boss.simple_query(&format!("DISABLE {ENDPOINT}")).await.unwrap();
    let mut refused = gateway.raw_proved(ENDPOINT).await;
    assert_eq!(refused.message().await.sqlstate(), "57P03");
    boss.simple_query(&format!("ENABLE {ENDPOINT}")).await.unwrap();
    let unknown = boss.simple_query("WAKE ops-console-nobody").await;
    assert_eq!(code(unknown), Some(SqlState::INVALID_CATALOG_NAME));

    let (ordered, ()) = tokio::join!(boss.simple_query("SHUTDOWN"), gateway.server.drain_ordered());
    ordered.unwrap();
    gateway.server.drain().await;
    until("the console to end", async || boss.is_closed()).await;
}

#[tokio::test]
async fn only_operators_with_their_password_come_in_and_others_meet_their_endpoint() {
    const ENDPOINT: &str = "ops-console-doors";
    let gateway = with_operators(admin()).listed(ENDPOINT, "").start().await;
    let mut wrong = gateway.config(ENDPOINT);
    wrong.user("boss").dbname("pgwake").password("wrong");
    let refused = tls_client::connect(&wrong, &gateway.authority)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.code(), Some(&SqlState::INVALID_PASSWORD));
    let mut other = gateway.config(ENDPOINT);
    other.dbname("pgwake");
    let no_database = tls_client::connect(&other, &gateway.authority)
        .await
        .err()
        .unwrap();
    assert_eq!(
        no_database.code(),
        Some(&SqlState::INVALID_CATALOG_NAME),
        "Postgres itself says so"
    );
    let mut operator = gateway.config(ENDPOINT);
    operator.user("boss").dbname("postgres");
    let no_role = tls_client::connect(&operator, &gateway.authority)
        .await
        .err()
        .unwrap();
    assert_eq!(no_role.code(), Some(&SqlState::INVALID_PASSWORD));
}

/// What Debian's prometheus-pgbouncer-exporter asks, as it asks it: it knows no database but `pgbouncer`.
#[tokio::test]
async fn an_exporter_for_pgbouncer_finds_what_it_asks_for() {
    const ENDPOINT: &str = "ops-console-exporter";
    let gateway = with_operators(admin()).listed(ENDPOINT, "").start().await;
    let client = gateway.connect(ENDPOINT).await;
    client.batch_execute("select 1").await.unwrap();
    let connection = connection_string(&gateway, "looker").replace("dbname=pgwake", "dbname=pgbouncer");

    let said = python("exporter", &[&connection]).run().await.succeeded();

    for line in [
        format!("requests_total {ENDPOINT}"),
        format!("active_clients {ENDPOINT}"),
        format!("pool_size {ENDPOINT}"),
        "dns_names 0".to_owned(),
    ] {
        assert!(said.contains(&line), "{line}:\n{said}");
    }
}

#[tokio::test]
async fn stats_say_how_long_clients_worked_and_waited() {
    const ENDPOINT: &str = "ops-console-times";
    let gateway = with_operators(admin()).listed(ENDPOINT, "").start().await;
    let operator = console(&gateway, "looker").await;
    let stats = async || {
        let rows = shown(&operator, "STATS").await;
        let number = |name: &str| cell(&rows[0], name).parse::<u64>().unwrap();
        [
            number("total_xact_count"),
            number("total_xact_time"),
            number("total_query_time"),
            number("total_wait_time"),
        ]
    };
    assert_eq!(stats().await, [0; 4]);
    let mut worked_before = 0;
    for pooling in ["", "-pooler"] {
        let config = gateway.config(&format!("{ENDPOINT}{pooling}"));
        let client = tls_client::connect(&config, &gateway.authority).await.unwrap();
        client
            .batch_execute("begin; select pg_sleep(0.2); commit")
            .await
            .unwrap();
        until("the pause to be noted", async || {
            let [transactions, worked, queried, waited] = stats().await;
            assert_eq!(worked, queried);
            // Microseconds; the first client has waited for the compute's start.
            transactions > 0 && worked >= worked_before + 200_000 && waited > 0
        })
        .await;
        drop(client);
        worked_before = stats().await[1];
        // Of what there was of the first minute: per transaction.
        let average = shown(&operator, "STATS_AVERAGES").await;
        let average = cell(&average[0], "xact_time").parse::<u64>().unwrap();
        assert!(
            (50_000..=worked_before).contains(&average),
            "{average} of {worked_before}"
        );
        let rows = shown(&operator, "STATS").await;
        assert_eq!(cell(&rows[0], "avg_xact_time"), average.to_string());
    }
    // Nobody works any more.
    let [transactions, worked, ..] = stats().await;
    assert!(transactions >= 2, "{transactions}");
    assert_eq!(stats().await[1], worked);
    let totals = shown(&operator, "TOTALS").await;
    let total = totals.iter().find(|row| cell(row, "name") == "total_xact_time");
    assert_eq!(cell(total.unwrap(), "value"), worked.to_string());
}

#[tokio::test]
async fn server_sessions_are_shown_one_by_one() {
    const ENDPOINT: &str = "ops-console-servers";
    let gateway = with_operators(admin()).listed(ENDPOINT, "").start().await;
    let operator = console(&gateway, "looker").await;
    assert_eq!(shown(&operator, "SERVERS").await.len(), 0);
    let _own = gateway.connect(ENDPOINT).await;
    let pooled = gateway.config(&format!("{ENDPOINT}-pooler"));
    let pooled = tls_client::connect(&pooled, &gateway.authority).await.unwrap();
    pooled.batch_execute("select 1").await.unwrap();

    until("one to be linked and one to be idle", async || {
        let rows = shown(&operator, "SERVERS").await;
        let mut states: Vec<_> = rows
            .iter()
            .map(|row| (cell(row, "state"), !cell(row, "link").is_empty()))
            .collect();
        states.sort_unstable();
        states == [("active", true), ("idle", false)]
    })
    .await;
}
