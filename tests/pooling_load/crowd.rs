//! A thousand clients at once on an endpoint that sleeps: one start, and everyone is served.

use std::collections::BTreeSet;

use futures_util::future::join_all;

use super::pooled::{Lending, Pooled};
use crate::harness::raw::{Message, Raw};

const SESSIONS: usize = 20;
const CLIENTS: usize = 1000;

/// What every client asks: its session and its server.
const ASK: &str = "select pg_backend_pid(), pg_postmaster_start_time()";

/// The different values of a column.
fn values(answers: &[Vec<Message>], column: usize) -> BTreeSet<String> {
    let value = |answer: &Vec<Message>| {
        let row = answer.iter().find(|message| message.tag == b'D');
        let row = row.unwrap_or_else(|| panic!("not served: {answer:?}")).row();
        row[column].clone().unwrap()
    };
    answers.iter().map(value).collect()
}

async fn are_served_by_one_server(clients: &mut [Raw]) -> usize {
    let answers = join_all(clients.iter_mut().map(|client| client.until(b'Z'))).await;
    assert_eq!(values(&answers, 1).len(), 1, "all of them on one server");
    values(&answers, 0).len()
}

#[tokio::test]
async fn a_thousand_clients_at_once_cause_one_start_and_are_all_served() {
    let keys = "hold_timeout = \"2m\"\nsuspend_after = \"1s\"";
    let (pooled, mut gate) = Pooled::gated("load-crowd", &Lending::of(SESSIONS), keys).await;

    // Nobody has been here yet: all are held before they are greeted.
    gate.close();
    let mut clients = pooled.raw_proved(CLIENTS).await;
    pooled.gateway.stirring(pooled.endpoint).await;
    assert_eq!(pooled.processes().len(), 1);
    gate.open();
    let greeted = clients.iter_mut().map(async |client| {
        client.until(b'Z').await;
        client.query(ASK).await;
    });
    join_all(greeted).await;
    let sessions = are_served_by_one_server(&mut clients).await;
    assert!(sessions <= SESSIONS, "{sessions} sessions");
    assert_eq!(pooled.wakes(), 1);

    // All are here, and it sleeps beneath them.
    pooled.asleep().await;
    assert_eq!(pooled.gateway.server.clients(), CLIENTS);
    gate.close();
    join_all(clients.iter_mut().map(|client| client.query(ASK))).await;
    pooled.gateway.stirring(pooled.endpoint).await;
    assert_eq!(pooled.processes().len(), 1);
    gate.open();
    let sessions = are_served_by_one_server(&mut clients).await;
    assert!(sessions <= SESSIONS, "{sessions} sessions");
    assert_eq!(pooled.wakes(), 2);
    drop(clients);
    pooled.gateway.server.stop().await;
}

#[tokio::test]
async fn a_thousand_strangers_to_memory_are_greeted_while_it_sleeps() {
    let keys = "hold_timeout = \"2m\"\nsuspend_after = \"300ms\"";
    let (pooled, mut gate) = Pooled::gated("load-greeted", &Lending::of(SESSIONS), keys).await;
    let mut first = pooled.raw().await;
    first.query("select 1").await;
    first.until(b'Z').await;
    drop(first);
    pooled.asleep().await;

    gate.close();
    let mut clients = pooled.raw_proved(CLIENTS).await;
    join_all(clients.iter_mut().map(|client| client.until(b'Z'))).await;
    assert!(
        !pooled.gateway.is_awake(pooled.endpoint),
        "all are greeted while nobody can be served"
    );
    join_all(clients.iter_mut().map(|client| client.query(ASK))).await;
    gate.open();

    are_served_by_one_server(&mut clients).await;
    assert_eq!(pooled.wakes(), 2);
    drop(clients);
    pooled.gateway.server.stop().await;
}
