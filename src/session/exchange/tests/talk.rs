//! A client and a server that say messages to each other through an exchange, written out and read as short texts.
//!
//! The names that pgwake gives to statements are numbers that differ from run to run: `#1` is the first that was seen.

use bytes::Bytes;

use super::super::{Exchange, Facts, Pooled, Touched};
use crate::config;
use crate::ids::SessionId;
use crate::session::{
    carried::Carried,
    lane::{Editing, Editor, Lane},
    pins::PinLimit,
    profile::{self, Profile},
    senders::Senders,
    statements::{OWN_NAMES, Statements, Texts},
    words::FunctionWords,
};
use crate::wire::frame::Sender;
use crate::wire::reply::error_fields;
use std::sync::Arc;

/// What the clients of an endpoint share.
pub(super) struct Endpoint {
    pub(super) texts: Arc<Texts>,
    senders: Senders,
    pub(super) limits: config::Pool,
    pub(super) pins: PinLimit,
    pub(super) functions: Option<Arc<FunctionWords>>,
}

impl Default for Endpoint {
    fn default() -> Self {
        Self {
            texts: Arc::default(),
            senders: Senders::default(),
            limits: config::Pool::default(),
            pins: PinLimit::new(1),
            functions: None,
        }
    }
}

/// A client: what lasts from one turn to the next, and what a turn notes.
pub(super) struct Client {
    pub(super) statements: Statements,
    pub(super) facts: Facts,
    pub(super) application: Bytes,
    pub(super) profile: Arc<Profile>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            statements: Statements::default(),
            facts: Facts::default(),
            application: Bytes::from_static(b"own"),
            profile: Profile::of_startup(b"own"),
        }
    }
}

/// A server session that `opener` has opened.
pub(super) fn opened_as(opener: &'static str) -> Carried {
    let state = profile::Carried::fresh(Profile::of_startup(opener.as_bytes()));
    Carried::opened_by(0, Bytes::from_static(opener.as_bytes()), state)
}

/// A server session.
pub(super) fn session() -> Carried {
    opened_as("own")
}

/// A turn.
pub(super) struct Talk<'a> {
    pub(super) exchange: Exchange<'a>,
    pub(super) up: Lane,
    pub(super) down: Lane,
    /// pgwake's names, in the order in which they were seen.
    names: Vec<String>,
    /// So many bytes come at a time.
    at_once: usize,
}

/// The sizes of pieces in which a scenario is played: the outcome is to be the same.
pub(super) const PIECES: [usize; 4] = [usize::MAX, 1, 2, 7];

impl<'a> Talk<'a> {
    /// In transaction pooling.
    pub(super) fn new(
        client: &'a mut Client,
        session: &'a mut Carried,
        endpoint: &'a Endpoint,
        at_once: usize,
    ) -> Self {
        let pooled = Pooled {
            statements: &mut client.statements,
            carried: session,
            texts: &endpoint.texts,
            senders: &endpoint.senders,
            functions: endpoint.functions.as_deref(),
            is_careful: false,
            profile: &client.profile,
            limits: &endpoint.limits,
            pins: &endpoint.pins,
            application: &client.application,
            facts: &mut client.facts,
            session: SessionId::from_random(1),
        };
        Self::of(Exchange::new(&|_| (), Some(pooled)), at_once)
    }

    /// In session pooling.
    pub(super) fn plain(tell_touched: &'a (dyn Fn(Touched) + Sync), at_once: usize) -> Self {
        Self::of(Exchange::new(tell_touched, None), at_once)
    }

    fn of(exchange: Exchange<'a>, at_once: usize) -> Self {
        Self {
            exchange,
            up: Lane::new(Sender::Client),
            down: Lane::new(Sender::Server),
            names: Vec::new(),
            at_once,
        }
    }

    /// The client says these; gives how many bytes the server reads.
    pub(super) fn client_bytes(&mut self, messages: &[Vec<u8>]) -> usize {
        let (exchange, lane) = (&mut self.exchange, &mut self.up);
        play(&messages.concat(), self.at_once, lane, &mut exchange.up()).len()
    }

    /// The client says these; gives what the server reads.
    pub(super) fn client(&mut self, messages: &[Vec<u8>]) -> Vec<String> {
        let (exchange, lane) = (&mut self.exchange, &mut self.up);
        let passed = play(&messages.concat(), self.at_once, lane, &mut exchange.up());
        self.shown(&passed, Sender::Client)
    }

    /// The server says these; gives what the client reads.
    pub(super) fn server(&mut self, messages: &[Vec<u8>]) -> Vec<String> {
        let (exchange, lane) = (&mut self.exchange, &mut self.down);
        let passed = play(&messages.concat(), self.at_once, lane, &mut exchange.down());
        self.shown(&passed, Sender::Server)
    }

    /// The server says these, written short: each is a tag, `C` with a command tag, `Z` with a status, `E` with a
    /// SQLSTATE.
    pub(super) fn says(&mut self, messages: &[&str]) -> Vec<String> {
        let messages: Vec<_> = messages.iter().map(|short| said(&self.renamed(short))).collect();
        self.server(&messages)
    }

    /// One more look at what the client has sent before, as after every answer of the server's.
    pub(super) fn again(&mut self) -> Vec<String> {
        self.client(&[])
    }

    /// What a turn leaves to the next one.
    pub(super) fn ends(self) -> (Lane, Vec<String>) {
        (self.up, self.names)
    }

    /// The turn behind that one.
    pub(super) fn goes_on(&mut self, (up, names): (Lane, Vec<String>)) {
        (self.up, self.names) = (up, names);
    }

    pub(super) fn is_releasable(&self) -> bool {
        self.exchange.is_releasable() && self.up.is_at_rest() && self.down.is_at_rest()
    }

    fn shown(&mut self, bytes: &[u8], sender: Sender) -> Vec<String> {
        let mut texts = Vec::new();
        let mut rest = bytes;
        while let Some((header, behind)) = rest.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let (body, behind) = behind.split_at(usize::try_from(length).unwrap() - 4);
            texts.push(match sender {
                Sender::Client => request(header[0], body),
                Sender::Server => reply(header[0], body),
            });
            rest = behind;
        }
        assert!(rest.is_empty(), "half a message: {rest:?}");
        texts.into_iter().map(|text| self.numbered(&text)).collect()
    }

    /// With `pgwake_4711` instead of `#1`.
    fn renamed(&self, short: &str) -> String {
        let names = self.names.iter().enumerate();
        names.fold(short.to_owned(), |text, (at, name)| {
            text.replace(&format!("#{}", at + 1), &format!("pgwake_{name}"))
        })
    }

    /// With `#1` instead of `pgwake_4711`, and without the secrets of pgwake's own.
    fn numbered(&mut self, text: &str) -> String {
        let own = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        let text = text
            .replace(&own(&OWN_NAMES.begin), "pgwake_begin")
            .replace(&own(&OWN_NAMES.discard), "pgwake_discard");
        let mut parts = text.split("pgwake_");
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            let (number, rest) = part.split_at(end);
            if number.is_empty() {
                shown.push_str("pgwake_");
            } else {
                let known = self.names.iter().position(|name| name == number);
                let at = known.unwrap_or_else(|| {
                    self.names.push(number.to_owned());
                    self.names.len() - 1
                });
                shown.push_str(&format!("#{}", at + 1));
            }
            shown.push_str(rest);
        }
        shown
    }
}

fn play(bytes: &[u8], at_once: usize, lane: &mut Lane, editor: &mut impl Editor) -> Vec<u8> {
    let mut passed = Vec::new();
    for piece in bytes.chunks(at_once.max(1)).chain([&b""[..]]) {
        lane.push(piece);
        let _: Editing = editor.edit(lane);
        passed.extend(lane.take_cleared());
    }
    passed
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn request(tag: u8, body: &[u8]) -> String {
    let mut texts = body.split(|byte| *byte == 0);
    let mut next = || text(texts.next().unwrap_or_default());
    match tag {
        b'Q' => format!("Q {}", next()),
        b'P' | b'B' => format!("{} {}|{}", char::from(tag), next(), next()),
        b'D' | b'C' => format!("{} {}", char::from(tag), next()),
        b'E' => format!("E {}", next()),
        tag => char::from(tag).to_string(),
    }
}

fn reply(tag: u8, body: &[u8]) -> String {
    match tag {
        b'E' => format!("E {}", error_fields(body).sqlstate),
        b'Z' => format!("Z {}", text(body)),
        b'C' => format!("C {}", text(body.strip_suffix(b"\0").unwrap_or(body))),
        b'S' => format!("S {}", text(body).trim_end_matches('\0').replace('\0', "=")),
        tag => char::from(tag).to_string(),
    }
}

/// A message of a server's, from its short text.
pub(super) fn said(short: &str) -> Vec<u8> {
    let (tag, rest) = short.split_at(1);
    let rest = rest.trim_start();
    let body = match tag {
        "E" => {
            let (code, text) = rest.split_once(' ').unwrap_or((rest, "said"));
            format!("SERROR\0VERROR\0C{code}\0M{text}\0\0")
        }
        "F" => format!("SFATAL\0VFATAL\0C{rest}\0Msaid\0\0"),
        "S" => format!("{}\0", rest.replace('=', "\0")),
        "C" => format!("{rest}\0"),
        _ => rest.to_owned(),
    };
    let tag = if tag == "F" { b'E' } else { tag.as_bytes()[0] };
    message(tag, body.as_bytes())
}

pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

pub(super) fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

pub(super) fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

pub(super) fn bind(portal: &str, statement: &str) -> Vec<u8> {
    message(b'B', format!("{portal}\0{statement}\0\0\0\0\0\0\0").as_bytes())
}

/// Of a statement (`S…`) or portal (`P…`).
pub(super) fn describe(object: &str) -> Vec<u8> {
    message(b'D', format!("{object}\0").as_bytes())
}

pub(super) fn execute(portal: &str) -> Vec<u8> {
    message(b'E', format!("{portal}\0\0\0\0\0").as_bytes())
}

/// Of a statement (`S…`) or portal (`P…`).
pub(super) fn close(object: &str) -> Vec<u8> {
    message(b'C', format!("{object}\0").as_bytes())
}

/// A message without a body.
pub(super) fn bare(tag: char) -> Vec<u8> {
    message(u8::try_from(tag).unwrap(), b"")
}

/// Bind, Execute and Sync of a statement.
pub(super) fn run(statement: &str) -> Vec<u8> {
    [bind("", statement), execute(""), bare('S')].concat()
}

/// One client, two server sessions, one endpoint: everything that a scenario needs.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) client: Client,
    pub(super) endpoint: Endpoint,
    pub(super) at_once: usize,
}

impl Stage {
    /// A turn of the client's on a session.
    pub(super) fn turn<'a>(&'a mut self, session: &'a mut Carried) -> Talk<'a> {
        Talk::new(&mut self.client, session, &self.endpoint, self.at_once)
    }

    /// A turn of another client's.
    pub(super) fn turn_of<'a>(&'a self, client: &'a mut Client, session: &'a mut Carried) -> Talk<'a> {
        Talk::new(client, session, &self.endpoint, self.at_once)
    }

    /// The client has prepared a statement on a session, in a turn of its own.
    pub(super) fn prepared(&mut self, name: &str, text: &str, session: &mut Carried) {
        let mut talk = self.turn(session);
        talk.client(&[parse(name, text), bare('S')]);
        talk.says(&["1", "Z I"]);
        assert!(talk.is_releasable());
    }
}

/// Plays a scenario with the bytes in pieces of every size.
pub(super) fn each(play: impl Fn(Stage)) {
    for at_once in PIECES {
        play(Stage {
            at_once,
            ..Stage::default()
        });
    }
}
