//! The first steps of every client.

use crate::harness::{gateway::Setup, logs, psql::psql};

#[tokio::test]
async fn psql_is_served_by_a_compute_that_slept() {
    let gateway = Setup::new()
        .process("basics-psql", "suspend_after = \"1s\"")
        .start()
        .await;
    gateway.asleep("basics-psql").await;
    let wakes = gateway.wakes("basics-psql");

    let connection = format!(
        "{} channel_binding=require",
        gateway.connection_string("basics-psql")
    );
    let output = psql(&connection)
        .arguments(&["-c", "select 40 + 2"])
        .run()
        .await
        .succeeded();

    assert_eq!(output.trim(), "42");
    assert_eq!(gateway.wakes("basics-psql"), wakes + 1);
    let access = logs::access_lines("basics-psql", 1).await;
    assert_eq!(access[0].field("sqlstate"), "00000");
    assert_eq!(access[0].field("role"), "postgres");
    gateway.asleep("basics-psql").await;
    gateway.server.stop().await;
}
