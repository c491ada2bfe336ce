//! The console beside that of a real PgBouncer: what programs that know the one find in the other.

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::{
    admin,
    console::{cell, console, shown, with_operators},
    items,
};
use crate::harness::{
    account::Account,
    directories::Directory,
    gateway::Gateway,
    programs::{Program, Running},
    tls_client,
    wait::until,
};

/// Where Debian's package has it.
const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// One that nobody uses; it ends with this.
struct PgBouncer {
    directory: Directory,
    _running: Running,
}

impl PgBouncer {
    async fn start() -> Self {
        let directory = Directory::for_postgres();
        let file = directory.path().join("pgbouncer.ini");
        let configuration = format!(
            "[databases]\nshop = host=127.0.0.1 port=1\n\
             [pgbouncer]\nlisten_addr =\nlisten_port = 6432\nunix_socket_dir = {}\nauth_type = any\n\
             admin_users = boss\n",
            directory.path().display()
        );
        std::fs::write(&file, configuration).unwrap();
        let program = match Account::for_postgres() {
            Some(Account { uid, gid }) => Program::new("/usr/bin/setpriv").arguments(&[
                &format!("--reuid={uid}"),
                &format!("--regid={gid}"),
                "--clear-groups",
                PROGRAM,
            ]),
            None => Program::new(PROGRAM),
        };
        let running = program.argument(file).start();
        let bouncer = Self {
            directory,
            _running: running,
        };
        until("PgBouncer to listen", async || {
            bouncer.directory.path().join(".s.PGSQL.6432").exists()
        })
        .await;
        bouncer
    }

    async fn console(&self) -> Client {
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(self.directory.path())
            .port(6432)
            .user("boss")
            .dbname("pgbouncer");
        let (client, connection) = config.connect(NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// The names of a table's columns, also where it has no rows.
async fn columns(console: &Client, table: &str) -> Vec<String> {
    let said = console.simple_query(&format!("SHOW {table}")).await.unwrap();
    let described = said.iter().find_map(|message| match message {
        SimpleQueryMessage::RowDescription(columns) => Some(columns),
        _ => None,
    });
    let columns = described.unwrap_or_else(|| panic!("SHOW {table} is no table"));
    columns.iter().map(|column| column.name().to_owned()).collect()
}

#[tokio::test]
async fn what_pgbouncer_shows_stands_at_the_same_place() {
    let bouncer = PgBouncer::start().await;
    let known = bouncer.console().await;
    let gateway = with_operators(admin())
        .listed("ops-console-places", "")
        .start()
        .await;
    let operator = console(&gateway, "looker").await;

    for table in [
        "CONFIG",
        "DATABASES",
        "POOLS",
        "CLIENTS",
        "SERVERS",
        "USERS",
        "VERSION",
        "LISTS",
        "MEM",
        "STATS",
        "STATS_TOTALS",
        "STATS_AVERAGES",
        "TOTALS",
    ] {
        let (theirs, ours) = (columns(&known, table).await, columns(&operator, table).await);
        assert!(ours.starts_with(&theirs), "{table}: {theirs:?}, and not {ours:?}");
    }
    for (table, key) in [("LISTS", "list"), ("TOTALS", "name")] {
        let names = async |console: &Client| -> Vec<String> {
            let rows = shown(console, table).await;
            rows.iter().map(|row| cell(row, key).to_owned()).collect()
        };
        let (theirs, ours) = (names(&known).await, names(&operator).await);
        assert!(ours.starts_with(&theirs), "{table}: {theirs:?}, and not {ours:?}");
    }
}

#[tokio::test]
async fn what_clients_ask_is_counted_wherever_it_is_answered() {
    const ENDPOINT: &str = "ops-console-queries";
    let gateway = with_operators(admin()).listed(ENDPOINT, "").start().await;
    let operator = console(&gateway, "looker").await;
    let http = gateway.http(super::READ);

    let mut before = 0;
    for pooling in ["", "-pooler"] {
        let client = connect(&gateway, &format!("{ENDPOINT}{pooling}")).await;
        let select = client.prepare("select $1::int").await.unwrap();
        // In transaction pooling pgwake answers the first of these itself, and sends it ahead of the second.
        client.batch_execute("begin").await.unwrap();
        client.query(&select, &[&1]).await.unwrap();
        client.batch_execute("select 1; select 2").await.unwrap();
        client.batch_execute("select 1 / 0").await.unwrap_err();
        client.query(&select, &[&2]).await.unwrap_err();
        client.batch_execute("rollback").await.unwrap();
        // These need no server.
        client.batch_execute("begin").await.unwrap();
        client.batch_execute("commit").await.unwrap();
        client.batch_execute("").await.unwrap();
        let asked = 9;

        until("them to be counted", async || {
            let listed = items(&http, &format!("/api/v1/sessions?endpoint={ENDPOINT}")).await;
            listed.iter().any(|session| session["queries"] == asked)
        })
        .await;
        let counted = async || {
            let rows = shown(&operator, "STATS").await;
            cell(&rows[0], "total_query_count").parse::<u64>().unwrap()
        };
        assert_eq!(counted().await, before + asked);
        let totals = shown(&operator, "TOTALS").await;
        let total = totals.iter().find(|row| cell(row, "name") == "total_query_count");
        assert_eq!(cell(total.unwrap(), "value"), (before + asked).to_string());
        drop(client);
        until("it to have left", async || {
            items(&http, &format!("/api/v1/sessions?endpoint={ENDPOINT}"))
                .await
                .is_empty()
        })
        .await;
        assert_eq!(counted().await, before + asked, "also of those who have left");
        before += asked;
    }
    let metrics = http.get("/metrics").await.body;
    assert!(
        metrics
            .lines()
            .any(|line| line == format!("pgwake_queries_total {before}")),
        "{metrics}"
    );
}

async fn connect(gateway: &Gateway, endpoint: &str) -> Client {
    tls_client::connect(&gateway.config(endpoint), &gateway.authority)
        .await
        .unwrap()
}

/// The columns that PgBouncer has got since 1.18, at whatever places.
#[tokio::test]
async fn what_later_pgbouncers_show_and_do_is_found_by_name() {
    const ENDPOINT: &str = "ops-console-later";
    let elsewhere = format!(
        "[tenants.acme.endpoints.ops-console-tcp]\nroles.app.verifier = \"{}\"\n\
         compute = {{ kind = \"fixed\", address = \"127.0.0.1:54321\" }}\n",
        super::verifier()
    );
    let setup = with_operators(admin()).tenants(&elsewhere);
    let gateway = setup.listed(ENDPOINT, "").start().await;
    let operator = console(&gateway, "boss").await;
    for (table, later) in [
        ("POOLS", "load_balance_hosts"),
        ("CLIENTS", "replication prepared_statements id"),
        ("SERVERS", "replication prepared_statements id"),
        (
            "USERS",
            "pool_size reserve_pool_size max_user_connections current_connections \
             max_user_client_connections current_client_connections",
        ),
        (
            "DATABASES",
            "reserve_pool_size server_lifetime load_balance_hosts max_client_connections \
             current_client_connections",
        ),
        (
            "STATS",
            "total_server_assignment_count avg_server_assignment_count",
        ),
        ("STATS_TOTALS", "server_assignment_count"),
        ("STATS_AVERAGES", "server_assignment_count"),
        ("PEERS", "peer_id host port pool_size"),
        ("PEER_POOLS", "database sv_login"),
    ] {
        let columns = columns(&operator, table).await;
        for column in later.split_whitespace() {
            assert!(columns.iter().any(|one| one == column), "{column} of {table}");
        }
    }
    let client = connect(&gateway, ENDPOINT).await;
    // By the extended protocol, in binary.
    let databases = operator.query("SHOW DATABASES", &[]).await.unwrap();
    let ports = databases.iter().map(|row| {
        let (name, port, clients) = ("name", "port", "current_client_connections");
        (
            row.get::<_, String>(name),
            row.get::<_, i64>(port),
            row.get::<_, i64>(clients),
        )
    });
    let expected = [(ENDPOINT, 0, 1), ("ops-console-tcp", 54321, 0)];
    assert_eq!(
        ports.collect::<Vec<_>>(),
        expected.map(|(name, port, clients)| (name.to_owned(), port, clients))
    );

    let clients = shown(&operator, "CLIENTS").await;
    let is_it = |row: &&Vec<(String, String)>| cell(row, "database") == ENDPOINT;
    let kill = format!("KILL_CLIENT {}", cell(clients.iter().find(is_it).unwrap(), "id"));
    operator.simple_query(&kill).await.unwrap();
    until("it to have ended", async || {
        client.batch_execute("select 1").await.is_err()
    })
    .await;
    assert!(operator.simple_query("KILL_CLIENT 1").await.is_err());
}

/// Totals fell by what was done at an endpoint when that was removed: to who collects them that is a restart, and everything
/// else is counted once more.
#[tokio::test]
async fn what_is_counted_does_not_fall_when_an_endpoint_is_removed() {
    const GOES: &str = "ops-totals-goes";
    let setup = with_operators(admin()).listed("ops-totals-stays", "");
    let without = std::fs::read_to_string(setup.write()).unwrap();
    let setup = setup.listed(GOES, "");
    let file = setup.write();
    let gateway = setup.start().await;
    gateway.server.reloader().set_file(&file);
    let operator = console(&gateway, "looker").await;
    let client = connect(&gateway, &format!("{GOES}-pooler")).await;
    for _ in 0..20 {
        client.batch_execute("select 1").await.unwrap();
    }
    drop(client);
    until("it to be counted", async || counted(&operator).await[1] == 20).await;
    let before = (counted(&operator).await, seconds_awake(&gateway).await);
    assert!(before.1 > 0.0);

    std::fs::write(&file, without).unwrap();
    gateway.server.reload().await.unwrap();
    until("it to be gone", async || {
        let lines = crate::harness::logs::of_endpoint(GOES);
        lines.iter().any(|line| line.field("message") == "removed")
    })
    .await;

    let after = (counted(&operator).await, seconds_awake(&gateway).await);
    let fell = before
        .0
        .iter()
        .zip(&after.0)
        .any(|(before, after)| after < before);
    assert!(!fell && after.1 >= before.1, "{before:?}, and then {after:?}");
}

/// The values of TOTALS that are sums.
async fn counted(operator: &Client) -> Vec<u64> {
    let rows = shown(operator, "TOTALS").await;
    let sums = rows.iter().filter(|row| cell(row, "name").starts_with("total_"));
    sums.map(|row| cell(row, "value").parse().unwrap()).collect()
}

async fn seconds_awake(gateway: &Gateway) -> f64 {
    let metrics = gateway.http(super::READ).get("/metrics").await.body;
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix("pgwake_awake_seconds_total "));
    value.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
}
