//! Clients that do one thing after another, on Postgres itself and through pgwake: what was told there is what must
//! be told here.
//!
//! [`record`] plays on Postgres and keeps the order and all answers; [`replay`] does the same through pgwake, one act
//! at a time; [`crowd`] lets all clients go at once, each with all it has to say in one write.

mod beside;
mod crowd;
mod difference;
mod refusal;
mod schedule;

use std::{collections::VecDeque, path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep};

pub(crate) use beside::Beside;
pub(crate) use crowd::crowd;
pub(crate) use difference::Difference;
use refusal::behind_same_refusal;
pub(crate) use schedule::{Schedule, Stand};

use super::{
    act::{Act, Batch, Step},
    awaited::Awaited,
    line::{Ear, Line, Silence, Way, Who},
    said::Said,
    told::{errors, greeting, normal, normals},
};
use crate::harness::{processes, raw::Message, wait::PATIENCE};

/// A server to play on: Postgres, or pgwake in front of one.
pub(crate) struct Side {
    pub(crate) socket: PathBuf,
    pub(crate) beside: Beside,
    /// Where the data of a Postgres is that sleeps.
    pub(crate) data_dir: Option<PathBuf>,
}

/// A step and what its client was told.
#[derive(Clone)]
pub(crate) struct Taken {
    pub(crate) step: Step,
    pub(crate) told: Vec<Message>,
    /// Postgres closed the connection after that.
    pub(crate) is_last: bool,
}

/// Which step is next.
pub(crate) enum Order {
    Given(VecDeque<Step>),
    Free(Box<Schedule>),
}

/// How an answer came out that need not be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Same,
    /// The error that was allowed.
    Spared,
    /// The client was ended as was allowed.
    Ended,
}

impl Side {
    /// Of a Postgres that is always there.
    pub(crate) fn new(socket: PathBuf, beside: Beside) -> Self {
        Self {
            socket,
            beside,
            data_dir: None,
        }
    }

    async fn does(&self, sql: &str) {
        self.beside.does("postgres", sql).await;
    }

    async fn dozes(&self) {
        if let Some(data_dir) = &self.data_dir {
            let deadline = Instant::now() + PATIENCE;
            while !processes::in_directory(data_dir).is_empty() {
                assert!(Instant::now() < deadline, "the compute is not suspended");
                sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Comes, looks around, and leaves.
    async fn visit(&self, who: &Who, database: &str) -> Vec<Message> {
        let who = Who {
            database: database.to_owned(),
            ..who.clone()
        };
        let (mut line, hello) = Line::open(&self.socket, &who).await;
        let mut told = greeting(hello);
        line.say(&[Said::query("select current_database()")], Way::Whole)
            .await;
        told.extend(normals(line.until(b'Z').await.unwrap_or_default()));
        line.leave().await;
        told
    }
}

/// A client on the side of Postgres.
struct Player {
    line: Option<Line>,
    awaited: Awaited,
    is_pinned: bool,
    has_begun_only: bool,
}

impl Player {
    fn absent() -> Self {
        Self {
            line: None,
            awaited: Awaited::default(),
            is_pinned: false,
            has_begun_only: false,
        }
    }

    fn stand(&self) -> Stand {
        Stand {
            holds: self.awaited.holds() && !self.has_begun_only,
            is_pinned: self.is_pinned,
        }
    }

    async fn take(&mut self, side: &Side, who: &Who, act: &Act) -> Result<Vec<Message>, Silence> {
        Ok(match act {
            Act::Enter => {
                let (line, hello) = Line::open(&side.socket, who).await;
                *self = Self::absent();
                self.line = hello.last().is_some_and(|last| last.tag == b'Z').then_some(line);
                greeting(hello)
            }
            Act::Leave { says_so } => {
                leave(&mut self.line, *says_so).await;
                *self = Self::absent();
                Vec::new()
            }
            Act::Beside(sql) => {
                side.does(sql).await;
                Vec::new()
            }
            Act::Visit { database } => side.visit(who, database).await,
            Act::Doze => Vec::new(),
            Act::Say(batch) => return self.say(batch).await,
        })
    }

    async fn say(&mut self, batch: &Batch) -> Result<Vec<Message>, Silence> {
        let was_free = !self.awaited.holds();
        let line = self
            .line
            .as_mut()
            .unwrap_or_else(|| panic!("a client that is not there says something"));
        let (told, end) = self.awaited.ask(line, &batch.said).await;
        if end == Err(Silence::Closed) && told.last().is_some_and(|last| last.tag == b'E') {
            *self = Self::absent();
            return Ok(normals(told));
        }
        end?;
        self.has_begun_only = was_free && batch.is_deferred_begin() && self.awaited.status() == b'T';
        self.is_pinned = (self.is_pinned || batch.pins) && !batch.unpins;
        Ok(normals(told))
    }
}

/// Leaves, and waits for the end where it said so.
async fn leave(line: &mut Option<Line>, says_so: bool) {
    match line.take() {
        Some(line) if says_so => line.leave().await,
        other => drop(other),
    }
}

/// Plays on a Postgres; gives what was done in which order, and what was told.
///
/// # Errors
/// The step at which Postgres ends the session, or is told what it does not answer.
pub(crate) async fn record(side: &Side, whos: &[Who], mut order: Order) -> Result<Vec<Taken>, Step> {
    let mut players: Vec<Player> = whos.iter().map(|_| Player::absent()).collect();
    let mut all = Vec::new();
    loop {
        let step = match &mut order {
            Order::Given(steps) => steps.pop_front(),
            Order::Free(schedule) => {
                let stands: Vec<Stand> = players.iter().map(Player::stand).collect();
                schedule.next(&stands)
            }
        };
        let Some(step) = step else {
            return Ok(all);
        };
        let is_busy = |player: &Player| player.stand().holds || player.is_pinned;
        if step.act == Act::Doze && players.iter().any(is_busy) {
            continue;
        }
        let (player, who) = (&mut players[step.client], &whos[step.client]);
        if player.line.is_none() && matches!(step.act, Act::Say(_) | Act::Leave { .. }) {
            // Postgres has closed before.
            continue;
        }
        let Ok(told) = player.take(side, who, &step.act).await else {
            return Err(step);
        };
        let is_last = player.line.is_none() && matches!(step.act, Act::Say(_));
        all.push(Taken { step, told, is_last });
    }
}

/// Does the same on the other side, one act after another.
pub(crate) async fn replay(side: &Side, whos: &[Who], taken: &[Taken], way: Way) -> Result<(), Difference> {
    let mut lines: Vec<Option<Line>> = whos.iter().map(|_| None).collect();
    let mut ended = vec![false; whos.len()];
    let parts = match way {
        Way::Together => runs(taken.iter()),
        _ => taken.iter().map(|one| vec![one]).collect(),
    };
    for (at, part) in parts.iter().enumerate() {
        let step = &part[0].step;
        if ended[step.client] && !matches!(step.act, Act::Enter | Act::Beside(_)) {
            continue;
        }
        let heard = repeat(side, &whos[step.client], &mut lines[step.client], part, way).await;
        match heard {
            Ok(heard) => ended[step.client] = heard == Heard::Ended,
            Err(difference) => {
                let parts: Vec<Vec<&Taken>> = parts[..=at].to_vec();
                return Err(difference.at(&parts.concat(), format!("{way:?}")));
            }
        }
    }
    Ok(())
}

/// One act again, or several batches in one write.
async fn repeat(
    side: &Side,
    who: &Who,
    line: &mut Option<Line>,
    taken: &[&Taken],
    way: Way,
) -> Result<Heard, Difference> {
    let expected: Vec<Message> = taken.iter().flat_map(|one| one.told.clone()).collect();
    match &taken[0].step.act {
        Act::Enter => {
            let (opened, hello) = Line::open(&side.socket, who).await;
            *line = Some(opened);
            same(&expected, greeting(hello))
        }
        Act::Leave { says_so } => {
            leave(line, *says_so).await;
            Ok(Heard::Same)
        }
        Act::Beside(sql) => {
            side.does(sql).await;
            Ok(Heard::Same)
        }
        Act::Visit { database } => same(&expected, side.visit(who, database).await),
        Act::Doze => {
            side.dozes().await;
            Ok(Heard::Same)
        }
        Act::Say(batch) => {
            let line = line.as_mut().unwrap();
            let said: Vec<Said> = taken
                .iter()
                .flat_map(|one| batch_of(&one.step))
                .cloned()
                .collect();
            let listen = async |ear: &mut Ear<'_>| listen(ear, &expected, batch).await;
            let mut heard = line.say_while(&said, way, listen).await;
            if taken[taken.len() - 1].is_last && matches!(heard, Ok(Heard::Same)) {
                let more: Vec<Message> = line.message().await.into_iter().collect();
                heard = same(&[], more);
            }
            if let Err(difference) = &mut heard {
                difference.got.extend(line.rest().await);
            }
            heard
        }
    }
}

/// What may be written in one piece; a batch that may be answered in another way stands alone.
fn runs<'a>(taken: impl Iterator<Item = &'a Taken>) -> Vec<Vec<&'a Taken>> {
    let is_plain = |step: &Step| match &step.act {
        Act::Say(batch) => batch.or_error.is_none() && batch.or_end.is_none() && !batch.or_refused,
        _ => false,
    };
    let begins = |step: &Step| matches!(&step.act, Act::Say(batch) if batch.is_deferred_begin());
    let mut all: Vec<Vec<&'a Taken>> = Vec::new();
    for one in taken {
        match all.last_mut() {
            // A BEGIN behind something else in one write may take a session.
            Some(run)
                if !begins(&one.step)
                    && is_plain(&run[0].step)
                    && is_plain(&one.step)
                    && run[0].step.client == one.step.client =>
            {
                run.push(one);
            }
            _ => all.push(vec![one]),
        }
    }
    all
}

fn batch_of(step: &Step) -> &[Said] {
    match &step.act {
        Act::Say(batch) => &batch.said,
        _ => &[],
    }
}

fn same(expected: &[Message], got: Vec<Message>) -> Result<Heard, Difference> {
    if got == expected {
        return Ok(Heard::Same);
    }
    Err(Difference::new(expected, got))
}

/// Reads until it is another answer than the expected one.
async fn listen(ear: &mut Ear<'_>, expected: &[Message], batch: &Batch) -> Result<Heard, Difference> {
    let mut got = Vec::new();
    let mut rest = expected;
    while let Some((message, behind)) = rest.split_first() {
        match not_about_waiting(ear).await {
            Ok(heard) => got.push(normal(heard)),
            Err(silence) => {
                return Err(Difference::new(expected, got).and_then(silence));
            }
        }
        rest = if got.last() == Some(message) {
            behind
        } else if let Some(behind) = got.last().and_then(|got| behind_same_refusal(rest, got)) {
            behind
        } else {
            return spared(ear, expected, batch, got).await;
        };
    }
    Ok(Heard::Same)
}

/// The next message but for pgwake's word that a client has to wait, which it may have to where others are quicker, or the
/// compute is slow to start.
async fn not_about_waiting(ear: &mut Ear<'_>) -> Result<Message, Silence> {
    loop {
        let heard = ear.message().await?;
        let waits = |heard: &Message| heard.fields()[&'M'].contains(" wait");
        if heard.tag != b'N' || !waits(&heard) {
            return Ok(heard);
        }
    }
}

/// The answer is another one: may it be?
async fn spared(
    ear: &mut Ear<'_>,
    expected: &[Message],
    batch: &Batch,
    mut got: Vec<Message>,
) -> Result<Heard, Difference> {
    // All in front of it was as expected.
    let codes = errors(&got[got.len() - 1..]);
    let is = |allowed: Option<&str>| allowed.is_some() && codes.first().map(|code| &**code) == allowed;
    if batch.or_refused && is(Some("53300")) {
        for rest in [(b'Z', &b"E"[..]), (b'C', b"ROLLBACK\0"), (b'Z', b"I")] {
            got.extend(ear.message().await.ok());
            if got.last().map(|last| (last.tag, &last.body[..])) != Some(rest) {
                return Err(Difference::new(expected, got));
            }
        }
        return Ok(Heard::Spared);
    }
    if got.len() == 1 && is(batch.or_end) {
        while let Ok(more) = ear.message().await {
            got.push(more);
        }
        if got.len() == 1 {
            return Ok(Heard::Ended);
        }
    } else if is(batch.or_error) && got[..got.len() - 1].iter().all(|before| before.tag == b'T') {
        let ready = ear.message().await.ok();
        if ready.as_ref() == expected.last() {
            return Ok(Heard::Spared);
        }
        got.extend(ready);
    }
    Err(Difference::new(expected, got))
}
