//! What a client was told, made comparable between two servers: all of it is compared byte for byte but the few
//! things here that no two sessions have in common.

use crate::harness::raw::Message;

/// The first OID that a server gives to what its users make.
const USER_OIDS: u32 = 16_384;
const IN_FAILED_TRANSACTION: &str = "25P02";

/// Without keys, process numbers and OIDs of tables that the test made.
pub(crate) fn normal(mut message: Message) -> Message {
    match message.tag {
        b'K' => message.body.fill(0),
        // Who sent a notification.
        b'A' => message.body[..4].fill(0),
        b'T' => oids_of_columns(&mut message.body),
        b'E' if message.sqlstate() == IN_FAILED_TRANSACTION => without_place(&mut message),
        b'E' | b'N' => without_schema(&mut message),
        _ => (),
    }
    message
}

/// Which line of Postgres says that a transaction has failed depends on which message it read: in front of a Bind that
/// may be a Parse of pgwake's.
fn without_place(message: &mut Message) {
    let fields = message.body.split(|byte| *byte == 0);
    let kept = fields.filter(|field| !field.is_empty() && !b"FLR".contains(&field[0]));
    let mut body: Vec<u8> = kept.flat_map(|field| [field, b"\0"].concat()).collect();
    body.push(0);
    message.body = body;
}

/// Whether CONTEXT names a function with its schema depends on the search_path of whoever ran it first on the session.
fn without_schema(message: &mut Message) {
    const NAMED: [&[u8]; 2] = [b"WPL/pgSQL function kit.", b"WPL/pgSQL function "];
    let fields = message.body.split(|byte| *byte == 0);
    let shortened = fields.map(|field| match field.strip_prefix(NAMED[0]) {
        Some(rest) => [NAMED[1], rest].concat(),
        None => field.to_vec(),
    });
    message.body = shortened.collect::<Vec<_>>().join(&0);
}

/// All of them.
pub(crate) fn normals(messages: Vec<Message>) -> Vec<Message> {
    messages.into_iter().map(normal).collect()
}

/// Numbers that tables and types of users have are all alike.
fn oids_of_columns(body: &mut [u8]) {
    let columns = u16::from_be_bytes([body[0], body[1]]);
    let mut at = 2;
    for _ in 0..columns {
        at += body[at..].iter().position(|byte| *byte == 0).unwrap() + 1;
        // Table, number of the column, type, its length and modifier, format.
        for oid in [at, at + 6] {
            let number: [u8; 4] = body[oid..oid + 4].try_into().unwrap();
            if u32::from_be_bytes(number) >= USER_OIDS {
                body[oid..oid + 4].copy_from_slice(&USER_OIDS.to_be_bytes());
            }
        }
        at += 18;
    }
}

/// A greeting without its order: only what it says is promised.
pub(crate) fn greeting(messages: Vec<Message>) -> Vec<Message> {
    let mut all = normals(messages);
    all.retain(|message| message.tag != b'N');
    all.sort_by(|a, b| (a.tag, &a.body).cmp(&(b.tag, &b.body)));
    all
}

/// The letters of messages, for a look at their order.
pub(crate) fn tags(messages: &[Message]) -> String {
    messages.iter().map(|message| char::from(message.tag)).collect()
}

/// The values of all rows in text form, NULL as `∅`.
pub(crate) fn values(messages: &[Message]) -> Vec<String> {
    let rows = messages.iter().filter(|message| message.tag == b'D');
    let columns = rows.flat_map(Message::row);
    columns
        .map(|value| value.unwrap_or_else(|| "∅".to_owned()))
        .collect()
}

/// The SQLSTATEs of all errors.
pub(crate) fn errors(messages: &[Message]) -> Vec<String> {
    let errors = messages.iter().filter(|message| message.tag == b'E');
    errors.map(Message::sqlstate).collect()
}

/// As much of a message as one wants to read in a report.
pub(crate) fn brief(message: &Message) -> String {
    let text = format!("{message:?}");
    let shown: String = text.chars().take(220).collect();
    let more = if shown.len() < text.len() { "…" } else { "" };
    format!("{shown}{more}")
}
