//! A lane between two real sockets, with an editor that does what a script says.

use std::{collections::VecDeque, future::poll_fn, task::Poll};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::session::buffers::{LARGE_BYTES, SMALL_BYTES};
use crate::tls::Stream;

/// What the script says about one message.
#[derive(Debug, Clone)]
enum Act {
    Pass,
    Skip,
    /// So many bytes at the front of the body give way to these.
    Replace(usize, Vec<u8>),
    /// Something of our own in front of it, twice.
    PutAndPass(Vec<u8>),
    PutAndSkip(Vec<u8>),
    /// It passes when the lane has been asked once more.
    PauseAndPass,
    /// All of it is looked at before it passes.
    SeeAndPass,
}

/// An editor that follows a script; behind its end everything passes.
#[derive(Default)]
struct Script {
    acts: VecDeque<Act>,
    has_paused: bool,
    seen: usize,
    /// The largest buffer that was in use.
    inbox_max: usize,
    outbox_max: usize,
}

impl Script {
    fn new(acts: impl IntoIterator<Item = Act>) -> Self {
        Self {
            acts: acts.into_iter().collect(),
            ..Self::default()
        }
    }

    fn wanted(&self, front: Front) -> usize {
        match self.acts.front() {
            Some(Act::Replace(replaced, _)) => *replaced,
            Some(Act::SeeAndPass) => front.body_bytes,
            _ => 0,
        }
    }
}

impl Editor for Script {
    fn edit(&mut self, lane: &mut Lane) -> Editing {
        self.inbox_max = self
            .inbox_max
            .max(lane.inbox.as_ref().map_or(0, |inbox| inbox.len()));
        while let Some(front) = lane.front(|front| self.wanted(front)) {
            if matches!(self.acts.front(), Some(Act::PauseAndPass)) && !self.has_paused {
                self.has_paused = true;
                return Editing::Paused;
            }
            self.has_paused = false;
            self.seen += 1;
            match self.acts.pop_front() {
                None | Some(Act::Pass | Act::PauseAndPass) => lane.pass(front),
                Some(Act::Skip) => lane.skip(front),
                Some(Act::Replace(replaced, with)) => {
                    let replaced = replaced.min(front.body_bytes);
                    let (one, other) = with.split_at(with.len() / 2);
                    lane.replace(front, replaced, &[one, other]);
                }
                Some(Act::PutAndPass(own)) => {
                    lane.put(&[&own]);
                    lane.put(&[&own]);
                    lane.pass(front);
                }
                Some(Act::PutAndSkip(own)) => {
                    lane.put(&[&own, &own]);
                    lane.skip(front);
                }
                Some(Act::SeeAndPass) => {
                    assert_eq!(lane.body(front).len(), front.body_bytes);
                    lane.pass(front);
                }
            }
        }
        self.outbox_max = self.outbox_max.max(lane.outbox.capacity());
        Editing::Open
    }
}

/// Lets messages of one tag pass, all that are there at once, and none of the others.
struct OnlyOf(u8);

impl Editor for OnlyOf {
    fn edit(&mut self, lane: &mut Lane) -> Editing {
        while let Some(front) = lane.front(|_| 0) {
            if front.tag == self.0 {
                lane.pass(front);
                lane.pass_all(|tag| tag == self.0);
            } else {
                lane.skip(front);
            }
        }
        Editing::Open
    }
}

/// The two sockets of a lane, and the ends that its peers hold.
struct Line {
    lane: Lane,
    from: Stream,
    to: Stream,
    feeder: Option<UnixStream>,
    taker: Option<UnixStream>,
}

impl Line {
    fn new(sender: Sender) -> Self {
        let (feeder, from) = UnixStream::pair().unwrap();
        let (to, taker) = UnixStream::pair().unwrap();
        Self {
            lane: Lane::new(sender),
            from: Stream::Unix(from),
            to: Stream::Unix(to),
            feeder: Some(feeder),
            taker: Some(taker),
        }
    }

    /// Feeds these pieces and closes.
    fn feed(&mut self, pieces: Vec<Vec<u8>>) -> tokio::task::JoinHandle<()> {
        let mut feeder = self.feeder.take().unwrap();
        tokio::spawn(async move {
            for piece in pieces {
                if feeder.write_all(&piece).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        })
    }

    /// Takes everything, so many bytes at a time.
    fn take(&mut self, at_once: usize) -> tokio::task::JoinHandle<Vec<u8>> {
        let mut taker = self.taker.take().unwrap();
        tokio::spawn(async move {
            let mut taken = Vec::new();
            let mut buffer = vec![0; at_once];
            loop {
                match taker.read(&mut buffer).await {
                    Ok(0) | Err(_) => return taken,
                    Ok(count) => taken.extend_from_slice(&buffer[..count]),
                }
                tokio::task::yield_now().await;
            }
        })
    }

    async fn pass(&mut self, script: &mut Script) -> LaneEnd {
        poll_fn(|cx| {
            let passed = self.lane.poll_pass(cx, &mut self.from, &mut self.to, script);
            if script.has_paused {
                // Nobody else calls again after a pause.
                cx.waker().wake_by_ref();
            }
            passed
        })
        .await
    }

    /// One look at what can be done now.
    async fn pass_once(&mut self, script: &mut Script) -> Poll<LaneEnd> {
        poll_fn(|cx| Poll::Ready(self.lane.poll_pass(cx, &mut self.from, &mut self.to, script))).await
    }

    fn holds_nothing(&self) -> bool {
        self.lane.inbox.is_none() && self.lane.outbox.capacity() == 0
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    bytes.extend(body);
    bytes
}

fn pieces(bytes: &[u8], at_once: usize) -> Vec<Vec<u8>> {
    bytes.chunks(at_once).map(<[u8]>::to_vec).collect()
}

/// What comes out, by the script alone.
fn model(messages: &[(u8, Vec<u8>)], acts: &[Act]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, (tag, body)) in messages.iter().enumerate() {
        let whole = message(*tag, body);
        match acts.get(at) {
            None | Some(Act::Pass | Act::PauseAndPass | Act::SeeAndPass) => out.extend(whole),
            Some(Act::Skip) => (),
            Some(Act::Replace(replaced, with)) => {
                let rest = &body[(*replaced).min(body.len())..];
                out.extend(message(*tag, &[with, rest].concat()));
            }
            Some(Act::PutAndPass(own)) => out.extend([&own[..], own, &whole].concat()),
            Some(Act::PutAndSkip(own)) => out.extend([&own[..], own].concat()),
        }
    }
    out
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(future)
}

fn an_act() -> impl Strategy<Value = Act> {
    let own = || proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        4 => Just(Act::Pass),
        2 => Just(Act::Skip),
        2 => (0_usize..200, own()).prop_map(|(replaced, with)| Act::Replace(replaced, with)),
        2 => own().prop_map(Act::PutAndPass),
        1 => own().prop_map(Act::PutAndSkip),
        1 => Just(Act::PauseAndPass),
        1 => Just(Act::SeeAndPass),
    ]
}

fn a_message() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let length = prop_oneof![
        8 => 0_usize..60,
        2 => 60_usize..2_000,
        1 => Just(SMALL_BYTES - HEADER_BYTES),
        1 => 15_000_usize..40_000,
        1 => 120_000_usize..300_000,
    ];
    let tag = prop::sample::select(&b"QPBEDSCHdcf"[..]);
    (tag, length, any::<u8>()).prop_map(|(tag, length, seed)| {
        let bytes = (0..length).map(|at| (at as u8).wrapping_mul(31).wrapping_add(seed));
        (tag, bytes.collect())
    })
}

/// Pieces of a stream: one byte at a time for its beginning, or of random sizes, or everything at once.
fn a_split() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![1; 400]),
        Just(vec![usize::MAX]),
        proptest::collection::vec(1_usize..40_000, 1..50),
        proptest::collection::vec(1_usize..12, 1..300),
    ]
}

fn split(mut bytes: &[u8], sizes: &[usize]) -> Vec<Vec<u8>> {
    let mut pieces = Vec::new();
    for size in sizes {
        let (piece, rest) = bytes.split_at((*size).min(bytes.len()));
        pieces.push(piece.to_vec());
        bytes = rest;
    }
    pieces.push(bytes.to_vec());
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_what_the_script_says(
        messages in proptest::collection::vec(a_message(), 0..30),
        acts in proptest::collection::vec(an_act(), 0..30),
        sizes in a_split(),
        at_once in prop_oneof![1_usize..50, 1_000_usize..100_000],
        pushed in 0_usize..300,
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
        let (pushed, fed) = stream.split_at(pushed.min(stream.len()));
        let expected = model(&messages, &acts);
        run(async {
            let mut line = Line::new(Sender::Client);
            let mut script = Script::new(acts.clone());
            let taking = line.take(at_once);
            line.lane.push(pushed);
            line.feed(split(fed, &sizes));
            let end = line.pass(&mut script).await;
            assert!(matches!(end, LaneEnd::ReadClosed), "{end:?}");
            assert_eq!(script.seen, messages.len());
            assert!(line.lane.is_at_rest() && line.lane.is_empty() && line.holds_nothing());
            assert_eq!(line.lane.bytes(), expected.len() as u64);
            drop(line);
            assert!(taking.await.unwrap() == expected, "another stream");
        });
    }

    #[test]
    fn those_that_pass_together_are_those_that_have_the_tag(
        messages in proptest::collection::vec(a_message(), 0..30),
        often in 0_usize..4,
        sizes in a_split(),
    ) {
        let messages: Vec<_> = messages.into_iter().flat_map(|(tag, body)| {
            std::iter::repeat_n((b'd', body.clone()), often).chain([(tag, body)])
        }).collect();
        let stream: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
        let of_tag = messages.iter().filter(|(tag, _)| *tag == b'd');
        let expected: Vec<u8> = of_tag.flat_map(|(tag, body)| message(*tag, body)).collect();
        run(async {
            let mut line = Line::new(Sender::Client);
            let taking = line.take(100_000);
            line.feed(split(&stream, &sizes));
            let (lane, from, to) = (&mut line.lane, &mut line.from, &mut line.to);
            let end = poll_fn(|cx| lane.poll_pass(cx, from, to, &mut OnlyOf(b'd'))).await;
            assert!(matches!(end, LaneEnd::ReadClosed), "{end:?}");
            assert!(line.lane.is_at_rest() && line.lane.is_empty() && line.holds_nothing());
            drop(line);
            assert!(taking.await.unwrap() == expected, "another stream");
        });
    }

    #[test]
    fn what_is_discarded_is_seen_all_the_same(
        messages in proptest::collection::vec(a_message(), 0..20),
        acts in proptest::collection::vec(an_act(), 0..20),
        sizes in a_split(),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|(tag, body)| message(*tag, body)).collect();
        let acts = acts.into_iter().filter(|act| !matches!(act, Act::PauseAndPass));
        run(async {
            let mut line = Line::new(Sender::Client);
            let mut script = Script::new(acts);
            line.feed(split(&stream, &sizes));
            let (lane, from) = (&mut line.lane, &mut line.from);
            let end = poll_fn(|cx| lane.poll_discard(cx, from, &mut script)).await;
            assert!(matches!(end, LaneEnd::ReadClosed), "{end:?}");
            assert_eq!(script.seen, messages.len());
            assert!(line.lane.is_empty() && !line.lane.is_blocked());
            assert_eq!(line.lane.bytes(), 0);
        });
    }

    #[test]
    fn arbitrary_bytes_pass_up_to_what_is_no_message(
        bytes in proptest::collection::vec(prop_oneof![Just(b'Q'), Just(b'S'), Just(0), Just(0), Just(6), any::<u8>()], 0..60),
        at_once in 1_usize..70,
    ) {
        let mut rest = &bytes[..];
        let mut whole = 0;
        let broken = loop {
            match front(rest, Sender::Client) {
                Ok(Some(front)) if rest.len() >= HEADER_BYTES + front.body_bytes => {
                    rest = &rest[HEADER_BYTES + front.body_bytes..];
                    whole = bytes.len() - rest.len();
                }
                // What has come of the last message passes.
                Ok(Some(_)) => { whole = bytes.len(); break None }
                Ok(None) => break None,
                Err(broken) => break Some(broken),
            }
        };
        run(async {
            let mut line = Line::new(Sender::Client);
            let taking = line.take(100);
            line.feed(pieces(&bytes, at_once));
            let end = line.pass(&mut Script::default()).await;
            match (end, broken) {
                (LaneEnd::Broken(one), Some(other)) => assert_eq!(one, other),
                (LaneEnd::ReadClosed, None) => (),
                other => panic!("{other:?}"),
            }
            drop(line);
            assert_eq!(taking.await.unwrap(), &bytes[..whole]);
        });
    }
}

const HUGE_BYTES: usize = 100 * 1024 * 1024;

/// Feeds the header and body of one message, and a Sync.
fn feed_huge(line: &mut Line) -> tokio::task::JoinHandle<usize> {
    let mut feeder = line.feeder.take().unwrap();
    tokio::spawn(async move {
        let mut fed = 0;
        let mut header = message(b'd', b"");
        header[1..].copy_from_slice(&u32::try_from(HUGE_BYTES + 4).unwrap().to_be_bytes());
        feeder.write_all(&header).await.unwrap();
        let chunk = vec![7; 64 * 1024];
        while fed < HUGE_BYTES {
            match feeder.write_all(&chunk).await {
                Ok(()) => fed += chunk.len(),
                Err(_) => return fed,
            }
        }
        feeder.write_all(&message(b'S', b"")).await.unwrap();
        fed
    })
}

#[test]
fn a_message_of_any_size_takes_no_more_memory_than_a_small_one() {
    for act in [
        Act::Pass,
        Act::Replace(3, vec![1; 10]),
        Act::PutAndPass(vec![2; 10]),
    ] {
        run(async {
            let mut line = Line::new(Sender::Client);
            let mut script = Script::new([act.clone()]);
            let taking = line.take(300_000);
            let feeding = feed_huge(&mut line);
            let end = line.pass(&mut script).await;
            assert!(matches!(end, LaneEnd::ReadClosed), "{end:?}");
            assert!(script.inbox_max <= LARGE_BYTES && script.outbox_max <= LARGE_BYTES);
            assert!(line.holds_nothing());
            drop(line);
            assert_eq!(feeding.await.unwrap(), HUGE_BYTES);
            let taken = taking.await.unwrap();
            let added = match act {
                Act::Replace(..) => 7,
                Act::PutAndPass(_) => 20,
                _ => 0,
            };
            assert_eq!(taken.len(), HEADER_BYTES + HUGE_BYTES + added + HEADER_BYTES);
            assert!(taken.ends_with(b"\x07S\0\0\0\x04"));
        });
    }
}

#[test]
fn a_peer_that_does_not_read_stops_the_other_one() {
    run(async {
        let mut line = Line::new(Sender::Client);
        let mut script = Script::default();
        let feeding = feed_huge(&mut line);
        // As long as it gets anywhere.
        let mut before = None;
        while before != Some(line.lane.bytes()) {
            before = Some(line.lane.bytes());
            for _ in 0..100 {
                assert!(line.pass_once(&mut script).await.is_pending());
                tokio::task::yield_now().await;
            }
        }
        assert!(line.lane.is_blocked() && !line.lane.is_between_messages());
        assert!(before.unwrap() < 4 * 1024 * 1024, "{before:?} bytes went nowhere");
        assert!(script.inbox_max <= LARGE_BYTES);
        drop(line);
        assert!(feeding.await.unwrap() < 4 * 1024 * 1024);
    });
}

#[test]
fn a_message_that_is_looked_at_whole_has_a_buffer_of_its_size_and_only_so_long() {
    run(async {
        let mut line = Line::new(Sender::Client);
        let taking = line.take(10_000);
        let mut script = Script::new([Act::Pass, Act::SeeAndPass]);
        let large = message(b'P', &vec![3; 1_000_000]);
        let stream = [message(b'S', b""), large, message(b'S', b"")].concat();
        line.feed(pieces(&stream, 50_000));
        line.pass(&mut script).await;
        assert!(
            (1_000_000..1_100_000).contains(&script.inbox_max),
            "{}",
            script.inbox_max
        );
        assert!(line.holds_nothing());
        drop(line);
        assert!(taking.await.unwrap() == stream);
    });
}

#[test]
fn an_idle_lane_holds_no_buffer_while_both_sides_live() {
    run(async {
        let mut line = Line::new(Sender::Client);
        let mut script = Script::new([Act::PutAndPass(b"own".to_vec())]);
        assert!(line.pass_once(&mut script).await.is_pending() && line.holds_nothing());
        let feeder = line.feeder.as_mut().unwrap();
        feeder.write_all(&message(b'Q', b"select 1\0")).await.unwrap();
        // Its readiness may show a moment later.
        while line.lane.bytes() == 0 {
            assert!(line.pass_once(&mut script).await.is_pending());
            tokio::task::yield_now().await;
        }
        assert!(line.holds_nothing() && line.lane.is_at_rest());
        // What is not dealt with stays.
        let mut script = Script::new([Act::SeeAndPass]);
        let feeder = line.feeder.as_mut().unwrap();
        feeder.write_all(b"Q\0\0\0\x09sel").await.unwrap();
        while line.lane.is_empty() {
            assert!(line.pass_once(&mut script).await.is_pending());
            tokio::task::yield_now().await;
        }
        assert!(line.lane.is_at_rest() && !line.holds_nothing());
    });
}

#[test]
fn a_lane_is_not_between_messages_until_all_of_one_is_written() {
    run(async {
        let mut line = Line::new(Sender::Client);
        line.lane.push(b"Q\0\0\0\x09sel");
        assert!(line.pass_once(&mut Script::default()).await.is_pending());
        assert_eq!(line.lane.bytes(), 8);
        assert!(!line.lane.is_between_messages() && !line.lane.is_at_rest());
        assert!(!line.lane.is_between_seen_messages());
        line.lane.push(b"1\0");
        assert!(line.pass_once(&mut Script::default()).await.is_pending());
        assert!(line.lane.is_at_rest() && line.lane.is_empty());
    });
}

#[test]
fn half_a_message_that_is_thrown_away_is_no_half_message_for_the_other_side() {
    run(async {
        let mut line = Line::new(Sender::Client);
        let mut script = Script::new([Act::Skip]);
        line.lane.push(b"Q\0\0\0\x09sel");
        assert!(line.pass_once(&mut script).await.is_pending());
        assert!(line.lane.is_at_rest() && !line.lane.is_empty());
        // The rest of it goes the same way.
        line.lane.push(b"1\0S\0\0\0\x04");
        assert!(line.pass_once(&mut script).await.is_pending());
        assert_eq!(line.lane.bytes(), 5);
        assert!(line.lane.is_at_rest() && line.lane.is_empty());
    });
}

#[test]
fn what_breaks_the_framing_does_not_pass_and_nothing_behind_it() {
    for broken in [&b"\x01"[..], b"Q\0\0\0\x03", b"Z\0\0\0\x05I"] {
        for at_once in [1, 1000] {
            run(async {
                let mut line = Line::new(Sender::Client);
                let taking = line.take(100);
                let good = message(b'Q', b"select 1\0");
                line.feed(pieces(&[&good[..], broken, &good].concat(), at_once));
                let end = line.pass(&mut Script::default()).await;
                assert!(matches!(end, LaneEnd::Broken(_)), "{end:?}");
                assert!(line.lane.is_at_rest());
                drop(line);
                assert_eq!(taking.await.unwrap(), good);
            });
        }
    }
}

#[test]
fn a_side_that_takes_no_more_ends_the_lane() {
    run(async {
        let mut line = Line::new(Sender::Server);
        line.taker = None;
        line.lane.push(&message(b'Z', b"I"));
        let end = line.pass(&mut Script::default()).await;
        assert!(matches!(end, LaneEnd::WriteFailed), "{end:?}");
    });
}

#[test]
fn a_pause_lets_out_what_was_seen_and_reads_no_more() {
    run(async {
        let mut line = Line::new(Sender::Client);
        let mut script = Script::new([Act::Pass, Act::PauseAndPass]);
        let sync = message(b'S', b"");
        line.lane.push(&[&sync[..], &sync].concat());
        line.feeder.as_mut().unwrap().write_all(&sync).await.unwrap();
        assert!(line.pass_once(&mut script).await.is_pending());
        assert_eq!(line.lane.bytes(), 5);
        assert!(line.lane.is_at_rest() && !line.lane.is_empty());
        assert_eq!(line.lane.unseen(), sync);
        while line.lane.bytes() < 15 {
            assert!(line.pass_once(&mut script).await.is_pending());
            tokio::task::yield_now().await;
        }
        assert_eq!(script.seen, 3);
    });
}

#[test]
fn what_was_passed_on_can_be_taken_back_and_said_again() {
    run(async {
        let mut line = Line::new(Sender::Client);
        let taking = line.take(100);
        let acts = [
            Act::Replace(3, b"another".to_vec()),
            Act::PutAndPass(b"own".to_vec()),
            Act::PutAndSkip(b"own".to_vec()),
            Act::Skip,
        ];
        let messages = [
            (b'P', b"one".to_vec()),
            (b'Q', b"two".to_vec()),
            (b'B', b"three".to_vec()),
        ];
        let messages = [&messages[..], &[(b'S', Vec::new()), (b'E', b"four".to_vec())]].concat();
        let all: Vec<u8> = messages
            .iter()
            .flat_map(|(tag, body)| message(*tag, body))
            .collect();
        let half = message(b'Q', b"half of it");
        line.lane.push(&all);
        line.lane.keep();
        // All of it is written, and half a message behind it, which comes later.
        let mut script = Script::new(acts.clone());
        assert!(line.pass_once(&mut script).await.is_pending());
        line.feeder.as_mut().unwrap().write_all(&half[..9]).await.unwrap();
        while line.lane.is_between_messages() {
            assert!(line.pass_once(&mut script).await.is_pending());
            tokio::task::yield_now().await;
        }

        assert!(line.lane.is_kept());
        line.lane.take_back();

        assert_eq!(line.lane.bytes(), 0);
        assert!(line.lane.is_between_messages() && !line.lane.is_empty());
        line.feeder.as_mut().unwrap().write_all(&half[9..]).await.unwrap();
        line.feeder = None;
        assert!(matches!(
            line.pass(&mut Script::default()).await,
            LaneEnd::ReadClosed
        ));
        assert!(!line.lane.is_kept() && line.holds_nothing());
        drop(line);
        let expected = [&model(&messages, &acts)[..], &half[..9], &all, &half].concat();
        assert_eq!(taking.await.unwrap(), expected);
    });
}

#[test]
fn what_does_not_fit_into_its_buffer_is_not_kept_and_passes_all_the_same() {
    run(async {
        let mut line = Line::new(Sender::Client);
        let taking = line.take(10_000);
        let large = message(b'd', &vec![b'x'; SMALL_BYTES * 3]);
        line.lane.push(&message(b'S', b""));
        line.lane.keep();
        assert!(line.pass_once(&mut Script::default()).await.is_pending());
        assert!(line.lane.is_kept() && !line.holds_nothing());
        line.feed(pieces(&large, 5000));
        assert!(matches!(
            line.pass(&mut Script::default()).await,
            LaneEnd::ReadClosed
        ));

        assert!(!line.lane.is_kept() && line.holds_nothing());
        drop(line);
        assert_eq!(taking.await.unwrap(), [message(b'S', b""), large].concat());
    });
}

/// For tests of editors, without sockets.
impl Lane {
    /// Takes out what is to be written.
    pub(in crate::session) fn take_cleared(&mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.outbox);
        if let Some(inbox) = &self.inbox {
            out.extend_from_slice(&inbox[self.start..self.cleared]);
        }
        self.start = self.cleared;
        out
    }
}
