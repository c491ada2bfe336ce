//! Who says nothing is ended, who is one too many is closed, and what leaves is forgotten.

use std::time::Duration;

use super::{nowhere, startup};
use crate::harness::{gateway::Setup, logs, raw::Raw, wait::until};

#[tokio::test]
async fn login_timeout_ends_whoever_is_silent() {
    let gateway = Setup::new()
        .limit("login_timeout = \"1s\"")
        .tenants(&nowhere("lim-silent"))
        .start()
        .await;
    let silent = Raw::tcp(gateway.address()).await;
    let mut half = Raw::tcp(gateway.address()).await;
    half.send(&[0, 0, 0]).await;
    let mut asked = Raw::tcp(gateway.address()).await;
    asked.send(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await;
    assert_eq!(asked.byte().await, b'S');
    let secured = gateway.raw_to("lim-silent").await;
    let mut named = gateway.raw_to("lim-silent").await;
    named.send(&startup(&[])).await;
    named.message().await.authentication(10);

    for mut client in [silent, half, asked, secured] {
        // A last word is allowed, an end is not optional.
        while client.any().await {}
    }
    let last = named.message().await.fields();
    assert_eq!(last[&'S'], "FATAL");
    assert!(last[&'M'].contains("too long"), "{last:?}");
    named.closed().await;
    let access = logs::access_lines("lim-silent", 1).await;
    assert_eq!(access[0].field("sqlstate"), last[&'C']);
    until("nobody is left", async || gateway.server.clients() == 0).await;
}

#[tokio::test]
async fn the_deadline_begins_at_accept_and_trickling_does_not_move_it() {
    let gateway = Setup::new()
        .limit("login_timeout = \"1s\"")
        .tenants(&nowhere("lim-trickle"))
        .start()
        .await;
    let mut client = gateway.raw_to("lim-trickle").await;
    let packet = startup(&[("application_name", &"x".repeat(5000))]);
    let (mut sent, mut ended) = (0, false);
    while !ended && sent < 600 {
        client.send_or_gone(&packet[sent..=sent]).await;
        sent += 1;
        // A pause between bytes is what is tried here; a second has ten of them, and it ends early.
        ended = client.ends_within(Duration::from_millis(100)).await;
    }
    assert!(ended, "{sent} bytes trickled in");
}

#[tokio::test]
async fn one_client_too_many_is_closed_without_a_word() {
    let gateway = Setup::new()
        .limit("clients_max = 2")
        .tenants(&nowhere("lim-many"))
        .start()
        .await;
    let first = gateway.raw_to("lim-many").await;
    let mut second = gateway.raw_to("lim-many").await;
    until("two are counted", async || gateway.server.clients() == 2).await;

    let mut third = Raw::tcp(gateway.address()).await;
    assert!(!third.any().await, "something was said");
    second.send(&startup(&[])).await;
    second.message().await.authentication(10);

    drop(first);
    until("a place is free", async || gateway.server.clients() == 1).await;
    let mut next = gateway.raw_to("lim-many").await;
    next.send(&startup(&[])).await;
    next.message().await.authentication(10);
}
