//! What two pgwake say to one another when one takes the other's place: the successor asks, the predecessor hands over its
//! listening sockets, its `state_dir` and its computes, and serves its own clients to their end.
//!
//! ```text
//!  successor                              predecessor
//!     replace ──────────────────────────▶  begins nothing any more, finishes what is under way
//!             ◀────────────────── offer …  each listening socket, with its descriptor
//!             ◀──────────────────── yours  state_dir and computes are unlocked
//!  locks and opens them
//!     owned ────────────────────────────▶  from here on there is no way back
//!             ◀───────────── in use, ceded  computes that its clients use
//!  keeps those awake, lets clients in      drains
//!             ◀───────────────── released  … until it has none
//!     cancel ───────────────────────────▶
//!             ◀──────────────── cancelled
//! ```
//!
//! **Invariant:** who has the lock of `state_dir` owns it; the words only say when it may be taken. So there are never two
//! owners, wherever one of the two dies.
//!
//! Here are only the words and how they travel; `server` means them. Commands (`cli`) say `start`: the predecessor then
//! starts its successor itself.

mod channel;

use std::{fmt, net::SocketAddr, path::PathBuf};

use bytes::Bytes;

pub use channel::{Channel, Door, Peer};

use crate::config::ListenAddress;
use crate::ids::EndpointName;
use crate::wire::startup::CancelKey;

/// Which words there are. Two pgwake with different ones do not replace one another.
pub const PROTOCOL: u32 = 1;

/// Most names in one word: it stays below what a socket takes at once.
pub const NAMES_MAX: usize = 500;

/// What a listening socket is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Clients, at this address as it is written.
    Clients(ListenAddress),
    /// Operators over HTTP.
    Operators(SocketAddr),
    /// Commands, in `state_dir`.
    Commands,
}

/// One word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// I am to take your place, and know these words; my version.
    Replace(u32, String),
    /// No, or not any more; why.
    Refused(String),
    /// A listening socket: the descriptor comes with it.
    Offer(Place),
    /// Take the state and the computes.
    Yours,
    /// I have.
    Owned,
    /// My clients use these computes.
    InUse(Vec<EndpointName>),
    /// You have heard all that are in use.
    Ceded,
    /// My clients do not use this one any more.
    Released(EndpointName),
    /// A client wants this ended; the number comes back with the answer.
    Cancel(u64, CancelKey),
    /// Whether somebody has that key.
    Cancelled(u64, bool),
    /// Start your successor.
    Start,
    /// This process has taken over.
    Done(u32),
}

impl fmt::Display for Word {
    /// As it travels: a name, and in lines of their own what belongs to it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replace(protocol, version) => write!(f, "replace\n{protocol}\n{version}"),
            Self::Refused(reason) => write!(f, "refused\n{reason}"),
            Self::Offer(Place::Clients(ListenAddress::Tcp(address))) => write!(f, "offer\ntcp\n{address}"),
            Self::Offer(Place::Clients(ListenAddress::Unix(path))) => {
                write!(f, "offer\nunix\n{}", path.display())
            }
            Self::Offer(Place::Operators(address)) => write!(f, "offer\noperators\n{address}"),
            Self::Offer(Place::Commands) => write!(f, "offer\ncommands\n"),
            Self::Yours => f.write_str("yours"),
            Self::Owned => f.write_str("owned"),
            Self::InUse(names) => {
                f.write_str("in use")?;
                names.iter().try_for_each(|name| write!(f, "\n{name}"))
            }
            Self::Ceded => f.write_str("ceded"),
            Self::Released(name) => write!(f, "released\n{name}"),
            Self::Cancel(number, key) => {
                write!(f, "cancel\n{number}\n{}\n", key.pid)?;
                key.secret.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Cancelled(number, is_known) => write!(f, "cancelled\n{number}\n{is_known}"),
            Self::Start => f.write_str("start"),
            Self::Done(pid) => write!(f, "done\n{pid}"),
        }
    }
}

impl Word {
    /// Reads what [`Display`](fmt::Display) has written; `None`: it is no word.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, rest) = text.split_once('\n').unwrap_or((text, ""));
        let two = || rest.split_once('\n');
        Some(match name {
            "replace" => {
                let (protocol, version) = two()?;
                Self::Replace(protocol.parse().ok()?, version.to_owned())
            }
            "refused" => Self::Refused(rest.to_owned()),
            "offer" => {
                let (kind, at) = two()?;
                Self::Offer(match kind {
                    "tcp" => Place::Clients(ListenAddress::Tcp(at.parse().ok()?)),
                    "unix" => Place::Clients(ListenAddress::Unix(PathBuf::from(at))),
                    "operators" => Place::Operators(at.parse().ok()?),
                    "commands" => Place::Commands,
                    _ => return None,
                })
            }
            "yours" => Self::Yours,
            "owned" => Self::Owned,
            "in use" => {
                let names = rest.lines().map(|name| EndpointName::parse_any(name).ok());
                Self::InUse(names.collect::<Option<_>>()?)
            }
            "ceded" => Self::Ceded,
            "released" => Self::Released(EndpointName::parse_any(rest).ok()?),
            "cancel" => {
                let (number, key) = two()?;
                let (pid, secret) = key.split_once('\n')?;
                let pid = pid.parse().ok()?;
                let secret = Bytes::from(unhex(secret)?);
                Self::Cancel(number.parse().ok()?, CancelKey { pid, secret })
            }
            "cancelled" => {
                let (number, is_known) = two()?;
                Self::Cancelled(number.parse().ok()?, is_known.parse().ok()?)
            }
            "start" => Self::Start,
            "done" => Self::Done(rest.parse().ok()?),
            _ => return None,
        })
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| match std::str::from_utf8(pair) {
        Ok(pair) if pair.len() == 2 => u8::from_str_radix(pair, 16).ok(),
        _ => None,
    };
    digits.map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_as_it_was_said() {
        let name = |text: &str| EndpointName::parse_any(text).unwrap();
        let key = CancelKey {
            pid: -7,
            secret: Bytes::from_static(&[0, 10, 255, 16]),
        };
        let words = [
            Word::Replace(PROTOCOL, "0.1.0".to_owned()),
            Word::Refused("of two\nlines".to_owned()),
            Word::Offer(Place::Clients(ListenAddress::Tcp("[::1]:5432".parse().unwrap()))),
            Word::Offer(Place::Clients(ListenAddress::Unix(
                "/run/a b/.s.PGSQL.5432".into(),
            ))),
            Word::Offer(Place::Operators("127.0.0.1:0".parse().unwrap())),
            Word::Offer(Place::Commands),
            Word::Yours,
            Word::Owned,
            Word::InUse(vec![]),
            Word::InUse(vec![name("acme-main"), name("acme-main--agent-42")]),
            Word::Ceded,
            Word::Released(name("acme-main")),
            Word::Cancel(u64::MAX, key),
            Word::Cancelled(3, true),
            Word::Start,
            Word::Done(4_194_304),
        ];
        for word in words {
            let text = word.to_string();
            assert_eq!(Word::parse(&text), Some(word), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_word_is_told_from_one() {
        for text in [
            "",
            "replaced",
            "replace",
            "offer\ntcp\nhere",
            "offer\nudp\n127.0.0.1:1",
            "in use\n-",
            "cancel\n1\n2\n0",
            "cancel\n1\n2\nzz",
            "cancelled\n1\nperhaps",
            "done\n-1",
        ] {
            assert_eq!(Word::parse(text), None, "{text:?}");
        }
    }
}
