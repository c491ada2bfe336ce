//! How much clients may have who have logged in: each limit at a real Postgres, in session and in transaction pooling.

mod neighbours;
mod places;
mod rates;
mod times;

use std::collections::BTreeMap;

use crate::harness::{
    gateway::Gateway,
    raw::{Message, Raw},
    tls_client,
    wait::until,
};

/// What stands behind an endpoint's name, so that its clients are pooled one way or the other.
const BOTH_WAYS: [&str; 2] = ["", "-pooler"];

/// Fields of an ErrorResponse.
type Fields = BTreeMap<char, String>;

/// What a client is told that is not let in although it has proved who it is.
pub(crate) async fn turned_away(gateway: &Gateway, endpoint: &str) -> Fields {
    let mut client = gateway.raw_proved(endpoint).await;
    let said = client.until(b'E').await;
    client.closed().await;
    let fields = said.last().unwrap().fields();
    assert_eq!(fields[&'S'], "FATAL", "{fields:?}");
    fields
}

/// The error that a statement is answered with; the client may go on.
async fn refused(client: &mut Raw, sql: &str) -> Fields {
    client.query(sql).await;
    let said = client.until(b'Z').await;
    let error = said.iter().find(|message| message.tag == b'E');
    let fields = error.unwrap_or_else(|| panic!("{sql} was answered")).fields();
    assert_eq!(fields[&'S'], "ERROR", "{fields:?}");
    fields
}

/// A statement that is answered.
async fn answered(client: &mut Raw, sql: &str) -> Vec<Message> {
    client.query(sql).await;
    let said = client.until(b'Z').await;
    let error = said.iter().find(|message| message.tag == b'E');
    assert!(error.is_none(), "{sql}: {:?}", error.map(Message::fields));
    said
}

/// SQLSTATE and the beginning of DETAIL; every refusal says what to do, too.
fn assert_told(fields: &Fields, sqlstate: &str, detail: &str) {
    assert_eq!(fields[&'C'], sqlstate, "{fields:?}");
    assert!(fields[&'D'].starts_with(detail), "{fields:?}");
    assert!(!fields[&'H'].is_empty(), "{fields:?}");
}

/// Waits until a client is let in again.
async fn let_in(gateway: &Gateway, endpoint: &str) {
    until(&format!("a place at {endpoint}"), async || {
        tls_client::connect(&gateway.config(endpoint), &gateway.authority)
            .await
            .is_ok()
    })
    .await;
}
