//! What the program logs: lines for people, objects for machines, secrets for nobody.

use rustix::process::Signal;

use crate::harness::{
    child::{Pgwake, program},
    gateway::Setup,
    postgres::{PASSWORD, Postgres, Version},
    raw,
    wait::until,
};

#[tokio::test]
async fn everything_is_logged_but_secrets() {
    const ENDPOINT: &str = "cmd-quiet";
    let postgres = Postgres::start(Version::Debian).await;
    let setup = Setup::new().fixed(ENDPOINT, &postgres, "");
    let loud = program(&setup).arguments(&["-vv", "--log-format", "json"]);
    let pgwake = Pgwake::start_as(loud.variable("RUST_LOG", "trace"), &setup).await;
    let mut client = None;
    until("the roles are learnt", async || {
        client = pgwake.try_connect(ENDPOINT).await.ok();
        client.is_some()
    })
    .await;
    let client = client.unwrap();
    let sql = "create role quiet login password 'cmd-secret-one'; alter role quiet password 'cmd-secret-two'";
    client.batch_execute(sql).await.unwrap();
    let sql = "select rolpassword from pg_authid where rolname = 'quiet'";
    let stored: String = client.query_one(sql, &[]).await.unwrap().get(0);
    drop(client);
    let mut wrong = pgwake.raw_to(ENDPOINT).await;
    let packet = raw::startup(raw::PROTOCOL_3_0, &[("user", "quiet")]);
    wrong.send(&packet).await;
    wrong.message().await;
    wrong.send(b"p\0\0\0\x15cmd-secret-broken").await;
    wrong.message().await;
    drop(wrong);
    let direct = postgres.connect().await;
    let others = "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";
    until("the client's session to end", async || {
        direct.query_one(others, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    pgwake.signal(Signal::TERM);
    let ended = pgwake.end().await;
    assert!(ended.status.success(), "{ended:?}");

    let pieces = stored.split(['$', ':']).filter(|piece| piece.len() > 13);
    for secret in pieces.chain(["cmd-secret", PASSWORD]) {
        let line = ended.errors.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
    let lines: Vec<&str> = ended.errors.lines().collect();
    for line in &lines {
        assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    }
    let access = lines.iter().find(|line| {
        line.contains("\"target\":\"pgwake::access\"") && line.contains("\"sqlstate\":\"00000\"")
    });
    let access = access.unwrap_or_else(|| panic!("no access line:\n{}", ended.errors));
    for field in [
        "\"endpoint\":\"cmd-quiet\"",
        "\"tls\":\"TLSv1.3\"",
        "\"auth_ms\":",
    ] {
        assert!(access.contains(field), "{access}");
    }
}
