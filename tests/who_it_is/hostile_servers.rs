//! Servers that lie, break the protocol, say too much or nothing: their clients are told, and nobody else notices.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::sleep,
};

use super::verifier;
use crate::harness::{
    gateway::{DOMAIN, Setup},
    postgres::{PASSWORD, Postgres, Version},
    raw, tls_client,
};

/// What one of them does with a login.
#[derive(Debug, Clone)]
enum Lie {
    /// Says these bytes to the startup packet, and leaves.
    Says(Vec<u8>),
    /// Offers SCRAM, then answers the first message with this, the client's nonce in place of `NONCE`.
    Challenges(&'static str),
    /// Says notices for as long as anybody reads.
    Floods,
    /// One byte of a message in a while, for ever.
    Trickles,
    /// Nothing at all.
    IsSilent,
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag], &length[..], body].concat()
}

fn authentication(kind: i32, body: &[u8]) -> Vec<u8> {
    message(b'R', &[&kind.to_be_bytes(), body].concat())
}

/// Takes the client's packets as they come.
async fn tell(mut stream: TcpStream, lie: Lie) -> std::io::Result<()> {
    let length = usize::try_from(stream.read_u32().await?).unwrap();
    stream.read_exact(&mut vec![0; length - 4]).await?;
    match lie {
        Lie::Says(bytes) => stream.write_all(&bytes).await?,
        Lie::Challenges(text) => {
            stream
                .write_all(&authentication(10, b"SCRAM-SHA-256\0\0"))
                .await?;
            let mut said = vec![0; 1024];
            let count = stream.read(&mut said).await?;
            let said = String::from_utf8_lossy(&said[..count]).into_owned();
            let nonce = said.rsplit_once("r=").map_or("", |(_, nonce)| nonce);
            stream
                .write_all(&authentication(11, text.replace("NONCE", nonce).as_bytes()))
                .await?;
        }
        Lie::Floods => loop {
            stream
                .write_all(&message(b'N', b"SNOTICE\0C00000\0Mmore\0\0"))
                .await?;
        },
        Lie::Trickles => {
            for byte in message(b'R', &[0; 4000]) {
                stream.write_all(&[byte]).await?;
                sleep(Duration::from_millis(50)).await;
            }
        }
        Lie::IsSilent => (),
    }
    // Until the other side has had enough of it.
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn liar(lie: Lie) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(tell(stream, lie.clone()));
        }
    });
    (address, task)
}

fn lies() -> Vec<(&'static str, Lie)> {
    let greeted = authentication(0, b"");
    vec![
        (
            "no message",
            Lie::Says(b"\xff\xff\xff\xff\xff\xff\xff\xff".to_vec()),
        ),
        (
            "a negative length",
            Lie::Says(b"R\xff\xff\xff\xff\0\0\0\0".to_vec()),
        ),
        (
            "a length of a gigabyte",
            Lie::Says(b"R\x40\0\0\0\0\0\0\x0a".to_vec()),
        ),
        ("an error without fields", Lie::Says(message(b'E', b"\0"))),
        (
            "an error that is cut off",
            Lie::Says(message(b'E', b"SFATAL\0C57P")),
        ),
        (
            "a way to log in that nobody has",
            Lie::Says(authentication(99, b"")),
        ),
        ("half of an MD5 salt", Lie::Says(authentication(5, b"ab"))),
        ("no mechanism", Lie::Says(authentication(10, b"\0"))),
        (
            "mechanisms without an end",
            Lie::Says(authentication(10, b"SCRAM-SHA-256")),
        ),
        (
            "a welcome behind nothing, and the end",
            Lie::Says(greeted.clone()),
        ),
        (
            "a key of two bytes",
            Lie::Says([&greeted[..], &message(b'K', b"\0\0")].concat()),
        ),
        (
            "a parameter without a value",
            Lie::Says([&greeted[..], &message(b'S', b"server_version")].concat()),
        ),
        ("its final word first", Lie::Says(authentication(12, b"v=AAAA"))),
        (
            "more rounds than there is time",
            Lie::Challenges("r=NONCEabc,s=QUJDRA==,i=2147483647"),
        ),
        ("no rounds", Lie::Challenges("r=NONCEabc,s=QUJDRA==")),
        ("negative rounds", Lie::Challenges("r=NONCEabc,s=QUJDRA==,i=-1")),
        ("no salt", Lie::Challenges("r=NONCEabc,i=4096")),
        ("another nonce", Lie::Challenges("r=abc,s=QUJDRA==,i=4096")),
        (
            "an extension",
            Lie::Challenges("m=x,r=NONCEabc,s=QUJDRA==,i=4096"),
        ),
        ("notices without end", Lie::Floods),
        ("a byte now and then", Lie::Trickles),
        ("nothing", Lie::IsSilent),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_server_says_its_client_is_told_and_others_are_served() {
    let postgres = Postgres::start(Version::Debian).await;
    let mut setup = Setup::new()
        .limit("connect_timeout = \"1s\"")
        .fixed("hst-honest", &postgres, "");
    let mut liars = Vec::new();
    for (number, (what, lie)) in lies().into_iter().enumerate() {
        let (address, task) = liar(lie).await;
        let endpoint = format!("hst-liar-{number}");
        // With its key, and with a password of the server's.
        for (name, password) in [
            (endpoint.clone(), ""),
            (format!("{endpoint}-p"), "roles.app.server_password = \"x\"\n"),
        ] {
            setup = setup.tenants(&format!(
                "[tenants.liars.endpoints.{name}]\nroles.app.verifier = \"{}\"\n{password}\
                 hold_timeout = \"3s\"\n\
                 compute = {{ kind = \"fixed\", address = \"{address}\", tls = \"disable\" }}\n",
                verifier(PASSWORD)
            ));
        }
        liars.push((what, endpoint, task));
    }
    let gateway = setup.start().await;
    let honest = gateway.connect("hst-honest").await;
    let attempts = liars.iter().flat_map(|(what, endpoint, _)| {
        ["", "-p", "-pooler", "-p-pooler"].map(|suffix| (*what, format!("{endpoint}{suffix}")))
    });
    let told = attempts.map(|(what, name)| {
        let gateway = &gateway;
        async move {
            let mut client = gateway.raw(&format!("{name}.{DOMAIN}")).await;
            let startup = raw::startup(raw::PROTOCOL_3_0, &[("user", "app"), ("database", "app")]);
            client.prove(&startup, PASSWORD).await;
            let said = client.until(b'E').await;
            let fields = said.last().unwrap().fields();
            client.closed().await;
            // Nothing of it is the client's own fault, and it is told that it cannot be served.
            assert!(
                fields.contains_key(&'C') && fields[&'S'] == "FATAL",
                "{what} at {name}: {fields:?}"
            );
        }
    });
    let works = async {
        for _ in 0..20 {
            honest.batch_execute("select 1").await.unwrap();
        }
    };
    tokio::join!(futures_util::future::join_all(told), works);
    let again = tls_client::connect(&gateway.config("hst-honest"), &gateway.authority).await;
    again.unwrap().batch_execute("select 1").await.unwrap();
    liars.iter().for_each(|(_, _, task)| task.abort());
    gateway.server.stop().await;
}

/// It was logged in to twenty times more, each for as long as a login may take.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_server_is_waited_for_once_with_pooling_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let setup = Setup::new()
        .limit("connect_timeout = \"200ms\"")
        .tenants(&format!(
            "[tenants.silent.endpoints.hst-silent]\nroles.app.verifier = \"{}\"\n\
             compute = {{ kind = \"fixed\", address = \"{address}\", tls = \"disable\" }}\n",
            verifier(PASSWORD)
        ));
    let gateway = setup.start().await;
    let mut client = gateway.raw(&format!("hst-silent-pooler.{DOMAIN}")).await;
    let startup = raw::startup(raw::PROTOCOL_3_0, &[("user", "app"), ("database", "app")]);
    client.prove(&startup, PASSWORD).await;
    let mut logins = Vec::new();
    let said = {
        let mut said = std::pin::pin!(client.until(b'E'));
        loop {
            tokio::select! { biased;
                accepted = listener.accept() => logins.push(accepted.unwrap()),
                said = &mut said => break said,
            }
        }
    };
    let fields = said.last().unwrap().fields();
    assert_eq!(
        (&*fields[&'C'], &*fields[&'M']),
        ("57P03", "the server cannot be reached")
    );
    assert_eq!(logins.len(), 1);
    gateway.server.stop().await;
}
