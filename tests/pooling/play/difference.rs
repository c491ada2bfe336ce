//! Where pgwake parts from Postgres, told so that one sees why.

use std::{collections::BTreeMap, fmt};

use super::Taken;
use crate::{
    harness::raw::Message,
    pooling::{
        act::Step,
        line::Silence,
        told::{brief, errors},
    },
};

/// How many steps before it are told with it.
const BEFORE: usize = 8;

/// An answer that is not the expected one.
pub(crate) struct Difference {
    /// The last one is answered wrongly.
    steps: Vec<Step>,
    expected: Vec<Message>,
    pub(super) got: Vec<Message>,
    end: Option<Silence>,
    way: String,
    /// How many acts each client had done with it.
    done: BTreeMap<usize, usize>,
}

impl Difference {
    pub(super) fn new(expected: &[Message], got: Vec<Message>) -> Self {
        Self {
            steps: Vec::new(),
            expected: expected.to_vec(),
            got,
            end: None,
            way: String::new(),
            done: BTreeMap::new(),
        }
    }

    /// After that nothing came.
    pub(super) fn and_then(self, silence: Silence) -> Self {
        Self {
            end: Some(silence),
            ..self
        }
    }

    /// What was done up to it, and how.
    pub(super) fn at(self, taken: &[&Taken], way: String) -> Self {
        let last = &taken[taken.len().saturating_sub(BEFORE)..];
        let mut done = BTreeMap::new();
        for one in taken {
            *done.entry(one.step.client).or_default() += 1;
        }
        Self {
            steps: last.iter().map(|one| one.step.clone()).collect(),
            way,
            done,
            ..self
        }
    }

    /// How many acts a client had done when it came to this.
    pub(crate) fn done(&self, client: usize) -> usize {
        self.done.get(&client).copied().unwrap_or(0)
    }

    /// What it is about: while a case is made smaller, it is to fail for the same reason.
    pub(crate) fn kind(&self) -> (u8, u8, Option<String>) {
        let alike = self.expected.iter().zip(&self.got);
        let alike = alike.take_while(|(expected, got)| expected == got).count();
        let tag = |messages: &[Message]| messages.get(alike).map_or(0, |message| message.tag);
        let code = errors(&self.got[alike.min(self.got.len())..]).into_iter().next();
        (tag(&self.expected), tag(&self.got), code)
    }
}

/// How much of two different messages is shown, and how much of that stands before where they part.
const SHOWN: usize = 200;
const SHOWN_BEFORE: usize = 60;

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.way)?;
        for step in &self.steps {
            writeln!(f, "  {step:?}")?;
        }
        let alike = self.expected.iter().zip(&self.got);
        let alike = alike.take_while(|(expected, got)| expected == got).count();
        writeln!(f, "  is answered with {alike} messages as expected, then")?;
        for (what, messages) in [("Postgres", &self.expected), ("pgwake", &self.got)] {
            for message in messages.iter().skip(alike).take(8) {
                writeln!(f, "  {what}: {}", brief(message))?;
            }
        }
        if let (Some(expected), Some(got)) = (self.expected.get(alike), self.got.get(alike)) {
            let same = expected.body.iter().zip(&got.body[..]);
            let same = same.take_while(|(expected, got)| expected == got).count();
            let begin = same.saturating_sub(SHOWN_BEFORE);
            for (what, message) in [("Postgres", expected), ("pgwake", got)] {
                let end = message.body.len().min(begin + SHOWN);
                let part = message.body[begin.min(end)..end].escape_ascii();
                writeln!(f, "  {what}, from byte {begin} of the first: {part}")?;
            }
        }
        match self.end {
            Some(silence) => writeln!(f, "  pgwake: {silence:?}"),
            None => Ok(()),
        }
    }
}
