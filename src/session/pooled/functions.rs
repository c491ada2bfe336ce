//! What the functions of a database can do: asked once per wake, and after they have changed.
//!
//! Postgres takes longer for it than for most statements, and whoever is first has just waited for the wake: it is asked
//! behind the answer of his turn. Meanwhile what an earlier wake has told has to do, and the session is looked after as in a
//! database whose functions hide what they do. Only where nothing was ever told it is asked ahead. What to ask and what the
//! answer means is `profile`'s work; `bring` and `keeping` call.

use std::sync::Arc;

use super::{Pooled, bring::BringError, talk::TalkError, turn::Turn};
use crate::ids::Generation;
use crate::session::{
    pooling::Database,
    profile::{
        apply::Flight,
        functions::{self, Functions},
    },
    words::{FunctionWords, Words},
};

/// What a turn knows of its database.
pub(super) struct Known {
    /// `None`: nothing was ever told.
    pub(super) database: Option<Arc<Database>>,
    /// It was told in this generation, and nothing has changed since.
    pub(super) is_current: bool,
    generation: Generation,
    /// How often functions had changed when it was looked up.
    epoch: u64,
}

impl Known {
    /// Whether a function may change what no word of a statement tells.
    pub(super) fn is_careful(&self) -> bool {
        !self.is_current || self.database.as_ref().is_none_or(|database| database.is_careful)
    }

    pub(super) fn functions(&self) -> Option<&Arc<FunctionWords>> {
        self.database.as_ref().map(|database| &database.functions)
    }
}

impl Pooled {
    /// What a turn in this generation begins with: what the last one knew, unless anything has changed.
    pub(super) fn take_known(&mut self, generation: Generation) -> Known {
        let epoch = self.pooling.functions_epoch();
        match self.known.take() {
            Some(known) if known.is_current && (known.generation, known.epoch) == (generation, epoch) => {
                known
            }
            _ => self.looked_up(generation),
        }
    }

    fn looked_up(&self, generation: Generation) -> Known {
        let epoch = self.pooling.functions_epoch();
        let database = self.pooling.database(self.beginning.database(), generation);
        Known {
            is_current: database.is_some(),
            database: database.or_else(|| self.pooling.last_known(self.beginning.database())),
            generation,
            epoch,
        }
    }

    /// Behind a turn that did not know them: knows them now, and says what that turn may have done unseen.
    pub(super) async fn catch_up(&self, turn: &mut Turn) -> Result<Words, BringError> {
        let guessed = turn.known.functions().cloned();
        self.learn_functions(turn).await?;
        Ok(match (guessed, turn.known.functions()) {
            (Some(guessed), Some(told)) if guessed.is_same(told) => Words::default(),
            _ => Words::OBSCURE | Words::TRIGGER_FUNCTION,
        })
    }

    /// Whether functions have changed since the turn looked them up.
    pub(super) fn is_outdated(&self, known: &Known) -> bool {
        known.epoch != self.pooling.functions_epoch()
    }

    /// Brings up to date what the turn knows of its database, if it is not.
    pub(super) async fn learn_functions(&self, turn: &mut Turn) -> Result<(), BringError> {
        let generation = turn.loan.lease.generation();
        // Somebody else may have asked since the turn began.
        turn.known = self.looked_up(generation);
        if turn.known.is_current {
            return Ok(());
        }
        let mut flight = Flight::default();
        flight.query(functions::SQL);
        let read = match self.fly(turn, &mut flight).await {
            Ok(answer) => Functions::read(&answer.rows).map_err(TalkError::Wire)?,
            Err(BringError::Talk(error)) if error.is_of_question() => {
                tracing::warn!(endpoint = %self.endpoint.name, %error, "a database does not tell its functions");
                Functions::unknown()
            }
            Err(error) => return Err(error),
        };
        let database = Database {
            functions: Arc::new(read.words),
            names: read.names,
            is_careful: read.is_careful,
            idle_in_transaction: read.idle_in_transaction,
        };
        let since = (generation, turn.known.epoch);
        turn.known.database = Some(self.pooling.learn(self.beginning.database(), since, database));
        turn.known.is_current = true;
        Ok(())
    }
}
