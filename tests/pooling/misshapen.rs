//! Messages that are not laid out as they should be, and bytes that are none at all: what Postgres says to them, byte for
//! byte, wherever they come and whoever would have answered.

use bytes::BytesMut;

use std::path::PathBuf;

use super::{
    line::{Line, Way, Who},
    pooled::{Pooled, pool},
    said::{Kind, STRANGER, Said, encoded},
    told::{errors, normals, tags},
};
use crate::harness::{
    postgres::{Postgres, SUPERUSER, Version},
    raw::Message,
};

const TRANSACTION: &str = "misshapen";
const SESSION: &str = "misshapen-session";
const END: &str = "the end";

/// Both ways of pooling in front of one Postgres.
async fn both() -> Pooled {
    let postgres = Postgres::start(Version::Debian).await;
    Pooled::with(postgres, &[(TRANSACTION, &pool(1, "")), (SESSION, "")]).await
}

/// Postgres itself first, then both ways to it.
fn everywhere(pooled: &Pooled) -> [PathBuf; 3] {
    [
        pooled.postgres.socket(),
        pooled.socket(TRANSACTION),
        pooled.socket(SESSION),
    ]
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// Too short, too long, or about nothing that there is.
fn misshapen() -> Vec<(&'static str, Vec<u8>)> {
    let all: [(&str, u8, &[u8]); 33] = [
        ("Close with more", b'C', b"Ss\0x"),
        ("Close without an end", b'C', b"Ss"),
        ("Close of a portal with more", b'C', b"P\0x"),
        ("Close of nothing", b'C', b""),
        ("Close of something else", b'C', b"Qs\0"),
        ("Close of what is no text", b'C', b"S\xff\0"),
        ("Describe with more", b'D', b"Ss\0x"),
        ("Describe without an end", b'D', b"Ss"),
        ("Describe of a portal with more", b'D', b"P\0x"),
        ("Describe of nothing", b'D', b""),
        ("Describe of something else", b'D', b"Qs\0"),
        ("Sync with more", b'S', b"x"),
        ("Flush with more", b'H', b"x"),
        ("Execute with more", b'E', b"\0\0\0\0\0x"),
        ("Execute without its rows", b'E', b"\0\0\0"),
        ("Execute of nothing", b'E', b""),
        ("Bind with more", b'B', b"\0s\0\0\0\0\0\0\0x"),
        ("Bind that ends early", b'B', b"\0s\0\0\0\0\0"),
        ("Bind without an end", b'B', b"\0s"),
        ("Bind of nothing", b'B', b""),
        ("Parse with more", b'P', b"n\0select 1\0\0\0x"),
        ("Parse without its types", b'P', b"n\0select 1\0"),
        ("Parse without an end", b'P', b"n\0select 1"),
        ("Parse under what is no text", b'P', b"\xff\0select 1\0\0\0"),
        ("Parse of the unnamed that ends early", b'P', b"\0select 1\0\0"),
        ("Query without an end", b'Q', b"select 1"),
        ("Query with more", b'Q', b"select 1\0x"),
        ("Query of nothing", b'Q', b""),
        ("BEGIN without an end", b'Q', b"begin"),
        ("BEGIN with more", b'Q', b"begin\0\0"),
        ("Query of what is no text", b'Q', b"-- \xff\0"),
        ("FunctionCall of nothing", b'F', b""),
        ("CopyDone with more", b'c', b"x"),
    ];
    all.map(|(what, tag, body)| (what, frame(tag, body))).to_vec()
}

/// What is said before and behind; a statement `s` is there.
fn around() -> Vec<(&'static str, Vec<Said>, Vec<Said>)> {
    let bound = |name| vec![Said::bind("", name, &[]), Said::execute("", 0), Said::Sync];
    let pipeline = [
        Said::parse("p", "select 'p'"),
        Said::bind("", "p", &[]),
        Said::execute("", 0),
    ];
    vec![
        ("parked", vec![], bound("s")),
        ("a BEGIN behind it", vec![Said::query("begin")], bound("s")),
        (
            "a transaction",
            vec![Said::query("begin"), Said::query("select 2")],
            bound("s"),
        ),
        (
            "a failed one",
            vec![Said::query("begin"), Said::query("select 1 / 0")],
            bound("s"),
        ),
        ("a pipeline", pipeline.to_vec(), bound("p")),
        ("an error before", vec![Said::parse("p", "nonsense")], bound("s")),
        // A Parse or a Query that is none takes nothing away.
        (
            "unnamed",
            vec![Said::parse("", "select 'unnamed'"), Said::Sync],
            bound(""),
        ),
    ]
}

/// Says it and reads all up to the end.
async fn told(line: &mut Line, bytes: &[u8]) -> Vec<Message> {
    line.bytes(bytes).await;
    let end = format!("select '{END}'");
    line.bytes(&encoded(&[Said::Sync, Said::query("rollback"), Said::query(end)]))
        .await;
    let is_end = |message: &Message| message.tag == b'D' && message.body.ends_with(END.as_bytes());
    let mut all: Vec<Message> = Vec::new();
    while !all.iter().any(is_end) || all.last().is_none_or(|last| last.tag != b'Z') {
        match line.message().await {
            Ok(message) => all.push(message),
            Err(silence) => panic!("{silence:?} behind {all:?}"),
        }
    }
    normals(all)
}

#[tokio::test]
async fn what_is_not_laid_out_as_it_should_be_reads_what_postgres_says() {
    let pooled = both().await;
    let who = Who::new(SUPERUSER, "postgres");
    let mut differences = Vec::new();
    let mut refused = 0;
    for (place, before, behind) in around() {
        for (what, message) in misshapen() {
            // Which of these Postgres drops the unnamed statement for, only it knows.
            if place == "unnamed" && ["Query of what is no text", "BEGIN with more"].contains(&what) {
                continue;
            }
            let bytes = [&encoded(&before)[..], &message, &encoded(&behind)].concat();
            let mut expected = None;
            for socket in everywhere(&pooled) {
                let (mut line, _) = Line::open(&socket, &who).await;
                line.ask(&[Said::parse("s", "select 's'"), Said::Sync], Way::Whole)
                    .await;
                let told = told(&mut line, &bytes).await;
                line.leave().await;
                let expected = expected.get_or_insert_with(|| told.clone());
                if *expected != told {
                    differences.push(format!("{place}, {what}: {told:?} in place of {expected:?}"));
                }
                refused += usize::from(errors(&told).contains(&"08P01".to_owned()));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(refused > 100, "{refused}: this test proves little");
}

/// A Query that is no text drops no unnamed statement: what the session had was a stranger's, and was run.
#[tokio::test]
async fn a_query_that_is_no_text_leaves_no_stranger_s_statement_to_be_run() {
    let pooled = both().await;
    let mut other = pooled.line(TRANSACTION).await;
    let mut client = pooled.line(TRANSACTION).await;
    let unnamed = [Said::parse("", "select 'a secret'"), Said::Sync];
    let bound = encoded(&[Said::Sync, Said::bind("", "", &[]), Said::execute("", 0)]);
    for (bad, code) in [
        (frame(b'Q', b"select '\xff'\0"), "22021"),
        (frame(b'Q', b"select 1\0 \0"), "08P01"),
        (frame(b'Q', b"select 1"), "08P01"),
        (frame(b'P', b"\0\xff\0\0\0"), "22021"),
    ] {
        other.ask(&unnamed, Way::Whole).await;
        let told = told(&mut client, &[&bad[..], &bound].concat()).await;
        assert_eq!(errors(&told), [code, "26000"], "{told:?}");
    }
}

/// What stood in front of it in the same write was never answered.
#[tokio::test]
async fn what_comes_before_bytes_that_are_no_message_is_answered() {
    let pooled = both().await;
    let who = Who::new(SUPERUSER, "postgres");
    let run = |sql| Said::run(sql, &[]).to_vec();
    let all: [Vec<Said>; 8] = [
        vec![],
        vec![Said::query("select 1")],
        vec![Said::query("select 1"), Said::query(STRANGER), Said::Sync],
        run("select 1"),
        vec![Said::query("begin"), Said::query("select 1")],
        run("select 1 / 0"),
        vec![Said::query("select 1 from pg_sleep(0.2)")],
        vec![Said::parse("p", "select 1"), Said::describe(Kind::Statement, "p")],
    ];
    for said in all {
        let mut bytes: BytesMut = encoded(&said);
        bytes.extend_from_slice(b"!\0\0\0\x04");
        let mut expected = None;
        for socket in everywhere(&pooled) {
            let (mut line, _) = Line::open(&socket, &who).await;
            line.bytes(&bytes).await;
            let mut told = Vec::new();
            while let Ok(message) = line.message().await {
                told.push(message);
            }
            let fatal = told.pop().unwrap();
            assert_eq!(fatal.sqlstate(), "08P01", "{said:?}");
            assert!(
                fatal.fields()[&'M'].starts_with("invalid frontend message type 33"),
                "{fatal:?}"
            );
            assert_eq!(fatal.fields()[&'S'], "FATAL");
            let told = normals(told);
            let expected = expected.get_or_insert_with(|| told.clone());
            assert_eq!(*expected, told, "{said:?}: {}", tags(&told));
        }
    }
}

/// pgwake itself said what was wrong with it, and left out the COPY's own error.
#[tokio::test]
async fn bytes_that_are_no_message_fail_a_copy_as_postgres_fails_it() {
    let pooled = both().await;
    pooled
        .direct()
        .await
        .batch_execute("create table copied (i int)")
        .await
        .unwrap();
    let who = Who::new(SUPERUSER, "postgres");
    let copy = Said::query("copy copied from stdin");
    let extended = [&Said::run("copy copied from stdin", &[])[..], &[Said::Sync]].concat();
    for begins in [vec![copy], extended] {
        for junk in [&b"z\0\0\0\x04"[..], b"\x01", b"d\0\0\0\x01", b"Q\0\0\0\x04"] {
            for waits in [false, true] {
                let mut expected = None;
                for socket in everywhere(&pooled) {
                    let (mut line, _) = Line::open(&socket, &who).await;
                    let mut told = Vec::new();
                    line.say(&begins, Way::Whole).await;
                    if waits {
                        told = line.until(b'G').await.unwrap();
                    }
                    line.bytes(&[&encoded(&[Said::data("1\n")])[..], junk].concat())
                        .await;
                    while let Ok(message) = line.message().await {
                        told.push(message);
                    }
                    let told = normals(told);
                    assert_eq!(
                        errors(&told).last().map(|code| &**code),
                        Some("08P01"),
                        "{told:?}"
                    );
                    assert_eq!(errors(&told).len(), 2, "{told:?}");
                    let expected = expected.get_or_insert_with(|| told.clone());
                    assert_eq!(*expected, told, "{junk:?}");
                }
            }
        }
    }
}
