//! Versions and options of the protocol, limits of its first packet, what is no packet at all.

use postgres_protocol::message::frontend;
use tokio::net::TcpSocket;

use super::{host, libpq, nowhere, startup};
use crate::harness::{
    gateway::Setup,
    logs,
    postgres::{PASSWORD, Postgres, SUPERUSER, Version},
    python::python,
    raw::{self, Message, Raw},
    wait::until,
};

fn with_version(version: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let own = [("user", SUPERUSER), ("database", "postgres")];
    raw::startup(version, &[&own, more].concat())
}

/// Logs in; gives NegotiateProtocolVersion's body where it came, and the length of the cancel key's secret.
async fn negotiated(client: &mut Raw, startup: &[u8], is_negotiated: bool) -> (Option<Vec<u8>>, usize) {
    client.send(startup).await;
    let said = if is_negotiated {
        let first = client.message().await;
        assert_eq!(first.tag, b'v', "{first:?}");
        Some(first.body)
    } else {
        None
    };
    client.answer(PASSWORD).await;
    let greeting = client.until(b'Z').await;
    assert!(greeting.iter().all(|message| message.tag != b'v'), "said twice");
    let key = greeting.iter().find(|message| message.tag == b'K').unwrap();
    let length = key.cancel_key().1.len();
    client.send_with(frontend::terminate).await;
    (said, length)
}

#[tokio::test]
async fn newer_versions_and_options_are_negotiated_exactly_once() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("prt-minor", &postgres, "").start().await;
    const OPTION: &[(&str, &str)] = &[("_pq_.teleport", "on")];
    let none = b"\0\x03\0\x02\0\0\0\0".to_vec();
    let one_in = |minor: u8| [&[0, 3, 0, minor, 0, 0, 0, 1][..], b"_pq_.teleport\0"].concat();
    for (minor, options, said, key) in [
        (0, &[][..], None, 4),
        (2, &[], None, 32),
        (3, &[], Some(none.clone()), 32),
        (9999, &[], Some(none), 32),
        (0, OPTION, Some(one_in(0)), 4),
        (2, OPTION, Some(one_in(2)), 32),
        (9999, OPTION, Some(one_in(2)), 32),
    ] {
        let mut client = gateway.raw_to("prt-minor").await;
        let packet = with_version(raw::PROTOCOL_3_0 + minor, options);
        let found = negotiated(&mut client, &packet, said.is_some()).await;
        assert_eq!(found, (said, key), "3.{minor} with {options:?}");
    }
}

#[tokio::test]
async fn libpq_18_gets_protocol_3_2_from_any_server() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("prt-libpq", &postgres, "").start().await;
    for (versions, spoken) in [
        ("min_protocol_version=3.2 max_protocol_version=3.2", 30002),
        ("max_protocol_version=latest", 30002),
        ("max_protocol_version=3.0", 30000),
    ] {
        let connection = libpq(&gateway, &host("prt-libpq"), versions);
        let said = python("psycopg_query", &[&connection, "select 1"])
            .run()
            .await
            .succeeded();
        assert!(said.contains(&format!("\"protocol\": {spoken}")), "{said}");
    }
}

#[tokio::test]
async fn another_major_version_is_refused() {
    let gateway = Setup::new().tenants(&nowhere("prt-major")).start().await;
    for version in [2 << 16, 4 << 16] {
        let mut client = gateway.raw_to("prt-major").await;
        client.send(&with_version(version, &[])).await;
        let refusal = client.message().await.fields();
        assert_eq!((&*refusal[&'S'], &*refusal[&'C']), ("FATAL", "0A000"));
        client.closed().await;
    }
}

/// A startup packet that is exactly so long.
fn of_length(length: usize) -> Vec<u8> {
    let bare = startup(&[("application_name", "")]).len();
    startup(&[("application_name", &"x".repeat(length - bare))])
}

#[tokio::test]
async fn a_startup_packet_has_at_most_ten_thousand_bytes() {
    let gateway = Setup::new().tenants(&nowhere("prt-length")).start().await;
    let mut client = gateway.raw_to("prt-length").await;
    client.send(&of_length(10_000)).await;
    client.message().await.authentication(10);

    let too_long = of_length(10_001);
    let huge = [0x7f, 0xff, 0xff, 0xff, 0, 3, 0, 0];
    let negative = [0xff, 0xff, 0xff, 0xff, 0, 3, 0, 0];
    for packet in [
        &too_long[..],
        &huge,
        &negative,
        &[0; 8],
        &[0, 0, 0, 4],
        &[0, 0, 0, 7, 0, 3, 0],
    ] {
        let mut client = gateway.raw_to("prt-length").await;
        client.send(packet).await;
        assert_eq!(client.message().await.sqlstate(), "08P01", "{packet:?}");
        client.closed().await;
    }
}

#[tokio::test]
async fn a_packet_that_is_not_laid_out_as_one_is_refused() {
    let gateway = Setup::new().tenants(&nowhere("prt-layout")).start().await;
    let whole = startup(&[]);
    let with_length = |body: &[u8]| {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&length.to_be_bytes()[..], body].concat()
    };
    let no_terminator = with_length(&whole[4..whole.len() - 1]);
    let something_behind = with_length(&[&whole[4..], b"more\0"].concat());
    let nobody = raw::startup(raw::PROTOCOL_3_0, &[("database", "postgres")]);
    for packet in [no_terminator, something_behind, nobody] {
        let mut client = gateway.raw_to("prt-layout").await;
        client.send(&packet).await;
        let refusal = client.message().await;
        assert!(["08P01", "28000"].contains(&&*refusal.sqlstate()), "{refusal:?}");
        client.closed().await;
    }
}

#[tokio::test]
async fn authentication_messages_have_a_limit() {
    let gateway = Setup::new().tenants(&nowhere("prt-auth")).start().await;
    for message in [
        &b"p\0\x01\0\x04"[..],
        b"p\x7f\xff\xff\xff",
        b"p\0\0\0\x03",
        b"p\xff\xff\xff\xff",
        b"Q\0\0\0\x0dselect 1\0",
    ] {
        let mut client = gateway.raw_to("prt-auth").await;
        client.send(&startup(&[])).await;
        client.message().await.authentication(10);
        client.send(message).await;
        assert_eq!(client.message().await.sqlstate(), "08P01", "{message:?}");
        client.closed().await;
    }
}

#[tokio::test]
async fn garbage_is_closed_and_probes_leave_no_line() {
    let gateway = Setup::new().tenants(&nowhere("prt-garbage")).start().await;
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: db\r\n\r\n"[..],
        b"\x16\x03\x01\0\x05hello",
        b"SSH-2.0-scanner\r\n",
        &[0xff; 64],
    ] {
        let mut client = Raw::tcp(gateway.address()).await;
        client.send(garbage).await;
        // An error in words or in TLS, but an end.
        let mut said = 0;
        while client.any().await {
            said += 1;
        }
        assert!(said < 300, "{said} bytes for garbage");
    }

    // From an address that no other client of these tests has.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.77:0".parse().unwrap()).unwrap();
    let probe = socket.connect(gateway.address()).await.unwrap();
    until("the probe is accepted", async || gateway.server.clients() == 1).await;
    drop(probe);
    until("nobody is left", async || gateway.server.clients() == 0).await;
    let told = logs::with_text("127.0.0.77");
    assert!(told.is_empty(), "a probe was logged: {told:?}");
}

#[tokio::test]
async fn what_comes_behind_a_tag_of_garbage_after_login_is_not_read_as_sql() {
    let postgres = Postgres::start(Version::Debian).await;
    let gateway = Setup::new().fixed("prt-tag", &postgres, "").start().await;
    let mut client = gateway.raw_to("prt-tag").await;
    client.log_in(&startup(&[]), PASSWORD).await;
    client
        .send(b"\x01\0\0\0\x04Q\0\0\0\x1dcreate table smuggled ()\0")
        .await;
    let refusal = client.until(b'E').await;
    assert_eq!(refusal.last().map(Message::sqlstate).unwrap(), "08P01");
    client.closed().await;
    let found = postgres
        .connect()
        .await
        .query_one("select to_regclass('smuggled')::text", &[])
        .await
        .unwrap();
    assert_eq!(found.get::<_, Option<String>>(0), None);
}
