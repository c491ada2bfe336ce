//! A server that recovers from a crash is waited for, whether pgwake started it or not.

use tokio_postgres::SimpleQueryMessage;

use crate::harness::{
    gate::Gate,
    gateway::{Gateway, Setup},
    logs,
    postgres::{Postgres, Version},
    processes, tls_client,
    wait::until,
};

#[tokio::test]
async fn crash_in_the_middle_of_heavy_writes_is_recovered_while_the_client_is_held() {
    const ENDPOINT: &str = "recovering-writes";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;
    let client = gateway.connect(ENDPOINT).await;
    let sql = "create table kept as select n, repeat('x', 200) as filling from generate_series(1, 100000) n";
    client.batch_execute(sql).await.unwrap();

    processes::kill_all_in(&gateway.data_dir(ENDPOINT));
    let client = gateway.connect(ENDPOINT).await;

    let row = client.query_one("select count(*) from kept", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 100_000);
    assert_eq!(gateway.wakes(ENDPOINT), 2);
    gateway.server.stop().await;
}

/// A gateway in front of a server that has just begun a recovery which lasts until the gate is opened.
async fn in_recovery(endpoint: &str, keys: &str) -> (Gateway, Postgres, Gate) {
    let mut postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new();
    let mut gate = Gate::new(setup.path());
    let gateway = setup.fixed(endpoint, &postgres, keys).start().await;
    gate.close();
    postgres.crash_into_recovery(&gate.passing());
    until("the server to say that it is starting", async || {
        let refusal = tls_client::connect_plain(&postgres.config()).await.err();
        refusal.is_some_and(|refusal| refusal.code().is_some_and(|code| code.code() == "57P03"))
    })
    .await;
    (gateway, postgres, gate)
}

#[tokio::test]
async fn what_a_recovering_server_says_is_waited_out() {
    const ENDPOINT: &str = "recovering-waited";
    let (gateway, _postgres, mut gate) = in_recovery(ENDPOINT, "").await;
    let mut client = gateway.raw_proved(ENDPOINT).await;

    let notice = client.message().await;
    gate.open();
    client.until(b'Z').await;

    assert_eq!(notice.tag, b'N');
    let text = &notice.fields()[&'M'];
    assert!(
        text.starts_with("endpoint \"recovering-waited\": server is starting, waited 2 s"),
        "{text}"
    );
    gateway.server.stop().await;
}

#[tokio::test]
async fn recovery_that_outlasts_the_hold_is_told_in_the_servers_words() {
    const ENDPOINT: &str = "recovering-outlasts";
    let (gateway, _postgres, mut gate) = in_recovery(ENDPOINT, "hold_timeout = \"1s\"").await;
    let mut client = gateway.raw_proved(ENDPOINT).await;

    let fields = client.message().await.fields();

    client.closed().await;
    assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P03"));
    assert!(fields[&'M'].ends_with("is still starting"), "{fields:?}");
    assert!(
        fields[&'D'].starts_with("waited 1.0 s, the server says: "),
        "{fields:?}"
    );
    assert!(fields[&'D'].contains("57P03"), "{fields:?}");
    assert!(fields[&'H'].contains("connect_timeout"), "{fields:?}");
    let access = logs::access_lines(ENDPOINT, 1).await;
    assert_eq!(access[0].field("sqlstate"), "57P03");
    gate.open();
    let client = gateway.connect(ENDPOINT).await;
    let answer = client.simple_query("select 1").await.unwrap();
    assert!(
        matches!(answer.get(1), Some(SimpleQueryMessage::Row(_))),
        "{answer:?}"
    );
    gateway.server.stop().await;
}
