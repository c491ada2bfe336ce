//! Nobody wakes a compute without proof of who he is; whoever may log in can.

use crate::harness::{
    gateway::Setup,
    logs,
    raw::{self, Raw},
    tls_client,
    wait::until,
};

#[tokio::test]
async fn strangers_wake_nothing() {
    const ENDPOINT: &str = "strangers";
    let gateway = Setup::new().listed(ENDPOINT, "").start().await;

    // A port scan, a TLS handshake alone, a cancel request.
    drop(Raw::tcp(gateway.address()).await);
    drop(gateway.raw_to(ENDPOINT).await);
    let mut cancel = Raw::tcp(gateway.address()).await;
    cancel.send(&raw::cancel_request(1, &[1, 2, 3, 4])).await;
    cancel.closed().await;
    let mut wrong_password = gateway.config(ENDPOINT);
    wrong_password.password("not the password");
    let mut wrong_role = gateway.config(ENDPOINT);
    wrong_role.user("nobody");
    for config in [wrong_password, wrong_role] {
        let refusal = tls_client::connect(&config, &gateway.authority)
            .await
            .err()
            .unwrap();
        assert_eq!(refusal.code().unwrap().code(), "28P01");
    }

    logs::access_lines(ENDPOINT, 2).await;
    until("all of them to be gone", async || gateway.server.clients() == 0).await;
    assert_eq!(gateway.wakes(ENDPOINT), 0);
    assert!(!gateway.is_awake(ENDPOINT));
    gateway.asleep(ENDPOINT).await;
    gateway.server.stop().await;
}

#[tokio::test]
async fn role_that_was_made_just_before_a_suspend_wakes_its_compute() {
    const ENDPOINT: &str = "strangers-new-role";
    let gateway = Setup::new()
        .process(ENDPOINT, "suspend_after = \"300ms\"")
        .start()
        .await;
    let client = gateway.connect(ENDPOINT).await;
    // Hidden from whoever looks at command tags alone.
    let sql = "select set_config('app.made', 'yes', false); \
               do $$begin execute 'create role late login password ''late'''; end$$";
    client.batch_execute(sql).await.unwrap();
    drop(client);
    gateway.asleep(ENDPOINT).await;
    let wakes = gateway.wakes(ENDPOINT);

    let mut config = gateway.config(ENDPOINT);
    config.user("late").password("late");
    let late = tls_client::connect(&config, &gateway.authority).await.unwrap();

    let row = late.query_one("select current_user::text", &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "late");
    assert_eq!(gateway.wakes(ENDPOINT), wakes + 1);
    gateway.server.stop().await;
}
