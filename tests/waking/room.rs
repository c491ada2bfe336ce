//! More local computes than may run at once: clients of all of them are served, and nobody's work is cut off.

use crate::harness::gateway::{Gateway, Setup};

async fn room_for_one(endpoints: [&str; 2], keys: &str) -> Gateway {
    let setup = Setup::new().limit("awake_processes_max = 1");
    let keys =
        format!("suspend_after = \"1h\"\nsuspend_veto = []\npool = {{ mode = \"transaction\" }}\n{keys}");
    let setup = endpoints
        .iter()
        .fold(setup, |setup, name| setup.process(name, &keys));
    setup.start().await
}

async fn number(client: &tokio_postgres::Client, sql: &str) -> i32 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn clients_of_more_computes_than_there_is_room_for_take_turns_and_notice_nothing() {
    let endpoints = ["room-left", "room-right"];
    let gateway = room_for_one(endpoints, "").await;
    let left = gateway.connect(endpoints[0]).await;
    left.batch_execute("create table kept (n int); set work_mem = '5MB'")
        .await
        .unwrap();
    let right = gateway.connect(endpoints[1]).await;
    for round in 0..3 {
        left.execute("insert into kept values ($1)", &[&round])
            .await
            .unwrap();
        assert_eq!(endpoints.map(|name| gateway.is_awake(name)), [true, false]);
        assert_eq!(number(&right, "select 42").await, 42);
        assert_eq!(endpoints.map(|name| gateway.is_awake(name)), [false, true]);
    }
    assert_eq!(number(&left, "select count(*)::int from kept").await, 3);
    let kept = left.query_one("show work_mem", &[]).await.unwrap();
    assert_eq!(kept.get::<_, &str>(0), "5MB", "it kept what it had set");
    gateway.server.stop().await;
}

#[tokio::test]
async fn an_open_transaction_is_not_cut_off_and_who_waits_too_long_is_told_the_limit() {
    let endpoints = ["room-busy", "room-refused"];
    let gateway = room_for_one(endpoints, "hold_timeout = \"5s\"").await;
    let busy = gateway.connect(endpoints[0]).await;
    busy.batch_execute("begin; create table kept as select 1 as n")
        .await
        .unwrap();

    let mut refused = gateway.raw_proved(endpoints[1]).await;
    let told = refused.until(b'E').await;
    let fields = told.last().unwrap().fields();
    assert_eq!((&*fields[&'S'], &*fields[&'C']), ("FATAL", "57P03"));
    let detail = &fields[&'D'];
    let is_told = detail.starts_with("waited 5.") && detail.contains("and limits.awake_processes_max is 1");
    assert!(is_told, "{detail}");

    busy.batch_execute("commit").await.unwrap();
    let again = gateway.connect(endpoints[1]).await;
    assert_eq!(number(&again, "select 7").await, 7);
    assert_eq!(number(&busy, "select n from kept").await, 1);
    gateway.server.stop().await;
}
