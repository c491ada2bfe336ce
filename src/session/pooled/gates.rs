//! What must have happened on a session before the message at the front may pass.
//!
//! What Postgres refuses here is its answer to the client's message, and nothing of the client's has been sent. Preparing
//! a statement may wait for a table's lock, as it would behind the message itself: for as long as it takes, and a cancel
//! strikes there. The turn calls.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{Pooled, bring::BringError, talk::TalkError, turn::Turn};
use crate::session::{
    error::SessionError,
    exchange::{Gate, Loss},
    profile::{
        Carried, Profile,
        apply::{self, Flight, Whose},
    },
    relay::End,
    standing::{Dismissal, Standing},
    statements::{Name, Statement},
};
use crate::shutdown::{Phase, SessionWatch};
use crate::tls::Stream;
use crate::wake::LeaseSignal;
use crate::wire::{frame::HEADER_BYTES, say};

/// How often a client is looked at that is not read meanwhile: it may have left.
const HANG_UP_CHECK: Duration = Duration::from_secs(1);

/// A statement that is to be on the session.
struct Put<'a> {
    /// What it was first prepared under, where that is another statement than what is set now would make of it.
    under: Option<&'a Arc<Profile>>,
    /// What the session is to call it.
    name: &'a [u8],
    /// What puts it there.
    words: BytesMut,
}

/// Who ends a wait before its answer.
struct Enders<'a> {
    /// `None`: it has said all that it wanted, up to its Terminate, and may have left.
    client: Option<&'a Stream>,
    shutdown: SessionWatch,
    standing: &'a mut Standing,
    lease: watch::Receiver<LeaseSignal>,
}

impl Pooled {
    /// Does what the message at the front waits for. Not cancel safe: the session is closed with it.
    pub(super) async fn pass_gate(&mut self, client: &Stream, turn: &mut Turn) -> Result<(), BringError> {
        let passed = match turn.facts.take_gate() {
            Some(Gate::Sequences) => self.discard_sequences(turn).await,
            Some(Gate::Application) => self.name_application(turn).await,
            Some(Gate::Statements) => self.close_others(turn).await,
            Some(Gate::Databases) => {
                // Postgres itself waits some seconds for those that are in use.
                self.pooling.pool.close_all_but(&mut turn.loan.session).await;
                turn.facts.databases_closed = true;
                Ok(())
            }
            Some(Gate::Pins) => {
                self.pooling.pins.settled().await;
                turn.facts.pins_awaited = true;
                Ok(())
            }
            Some(Gate::Prepare(statement)) => {
                let refused = self.prepare_under(client, turn, &statement).await?;
                turn.facts.refused = refused;
                Ok(())
            }
            Some(Gate::Alias(name, statement)) => {
                let refused = self.put_alias(client, turn, name.clone(), &statement).await?;
                if let Some(error) = refused {
                    // So will the client's statement be, and it says why.
                    turn.facts.note_unaliased(name, error);
                    turn.fails();
                }
                Ok(())
            }
            Some(Gate::Lacking(name)) => {
                let refused = self.prepare_again(client, turn, &name).await?;
                if let Some(error) = refused {
                    turn.facts.note_unaliased(name, error);
                    turn.fails();
                }
                Ok(())
            }
            None => Ok(()),
        };
        match passed {
            Err(BringError::Talk(TalkError::Refused { fields, message })) if !fields.ends_session => {
                turn.facts.refused = Some(body(&message));
                turn.fails();
                Ok(())
            }
            passed => passed,
        }
    }

    /// A stranger's numbers are gone.
    async fn discard_sequences(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        self.pooling.note_asks_sequences();
        let mut flight = Flight::default();
        flight.query("DISCARD SEQUENCES");
        self.fly(turn, &mut flight).await?;
        turn.loan.session.carried.sequences_discarded();
        Ok(())
    }

    /// The session has its client's own application_name.
    async fn name_application(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        let opened = Carried::fresh(Profile::of_startup(&turn.loan.session.carried.opened_as));
        let own = Profile::of_startup(&self.beginning.application);
        let mut flight = Flight::default();
        flight.carry((Some(&opened), Whose::Own), &own, std::iter::empty());
        self.fly(turn, &mut flight).await?;
        turn.facts.is_told_own_application = false;
        Ok(())
    }

    /// No statement is on the session that is none of the client's.
    async fn close_others(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        let mut flight = Flight::default();
        for name in turn.loan.session.carried.prepared.take_others(&self.statements) {
            say::close_statement(&name, &mut flight.bytes);
        }
        flight.sync();
        self.fly(turn, &mut flight).await?;
        Ok(())
    }

    /// A statement is on the session as it was first prepared, whatever the client has set since; or this is what Postgres
    /// says to that.
    async fn prepare_under(
        &mut self,
        client: &Stream,
        turn: &mut Turn,
        statement: &Statement,
    ) -> Result<Option<Bytes>, BringError> {
        let server_name = statement.server_name();
        let name = server_name.as_bytes();
        let mut words = BytesMut::new();
        // Somebody's turn may have put it there under settings that are not its own.
        say::close_statement(name, &mut words);
        say::parse(name, &statement.behind_name, &mut words);
        let put = Put {
            under: self.other_settings(statement),
            name,
            words,
        };
        let refused = self.put(client, turn, put).await?;
        let prepared = &mut turn.loan.session.carried.prepared;
        match refused {
            Some(_) => prepared.lost(statement.id),
            None => prepared.put(statement.id),
        }
        Ok(refused)
    }

    /// A statement is on the session under the name that SQL calls it; or this is what Postgres says to that.
    async fn put_alias(
        &mut self,
        client: &Stream,
        turn: &mut Turn,
        name: Name,
        statement: &Statement,
    ) -> Result<Option<Bytes>, BringError> {
        let mut words = BytesMut::new();
        // Something may stand in for it.
        say::close_statement(&name, &mut words);
        say::parse(&name, &statement.behind_name, &mut words);
        let put = Put {
            under: self.other_settings(statement),
            name: &name,
            words,
        };
        let refused = self.put(client, turn, put).await?;
        let aliases = &mut turn.loan.session.carried.prepared.aliases;
        if refused.is_none() {
            self.statements.alias(&name);
            aliases.put_statement(name);
        } else {
            aliases.remove(&name);
        }
        Ok(refused)
    }

    /// A statement of SQL's is on the session, as it was first prepared; or this is what Postgres says to that.
    async fn prepare_again(
        &mut self,
        client: &Stream,
        turn: &mut Turn,
        name: &Name,
    ) -> Result<Option<Bytes>, BringError> {
        let profile = self.profile.clone();
        let Some((text, under)) = profile.prepared(name) else {
            turn.facts.lacking.retain(|lacking| lacking != name);
            return Ok(None);
        };
        let mut words = BytesMut::new();
        // Something may stand in for it.
        say::close_statement(name, &mut words);
        apply::prepare(text, &mut words);
        let put = Put {
            under: Some(under).filter(|under| !apply::is_same_under(text, under, &profile)),
            name,
            words,
        };
        let refused = self.put(client, turn, put).await?;
        let carried = &mut turn.loan.session.carried;
        carried.prepared.aliases.remove(name);
        if refused.is_none() {
            turn.facts.lacking.retain(|lacking| lacking != name);
            if let Some(state) = &mut carried.state {
                let added = std::slice::from_ref(name);
                state.profile = state.profile.with_statements_of(&profile, added);
            }
        }
        Ok(refused)
    }

    /// What a statement was prepared under, where other settings than the client's own would make something else of it.
    fn other_settings<'s>(&self, statement: &'s Statement) -> Option<&'s Arc<Profile>> {
        Some(&statement.under).filter(|_| !statement.suits(&self.profile))
    }

    /// Under the settings that a statement was first prepared under; the client's own are there again behind it, whatever
    /// becomes of it.
    async fn put(
        &mut self,
        client: &Stream,
        turn: &mut Turn,
        put: Put<'_>,
    ) -> Result<Option<Bytes>, BringError> {
        // In a transaction nothing is set: it would be the client's.
        let under = put.under.filter(|_| turn.loan.status == b'I');
        let under = under.map(|under| under.with_names_of(&self.names));
        let mut flight = Flight::default();
        if let Some(under) = &under {
            flight.switch(&self.profile, under);
        }
        flight.bytes.extend_from_slice(&put.words);
        flight.sync_that_may_fail();
        if let Some(under) = &under {
            flight.switch(under, &self.profile);
        }
        let enders = Enders {
            client: (!self.up.ends_with_terminate()).then_some(client),
            shutdown: self.shutdown.clone(),
            standing: &mut self.standing,
            lease: turn.loan.lease.signal(),
        };
        let ended = enders.ended(turn.loan.lease.weight().counts());
        let error = match Self::fly_until((turn, &self.pooling.senders), &mut flight, ended).await {
            Ok(answer) => return Ok(answer.refused.as_ref().map(body)),
            Err(BringError::Talk(TalkError::Refused { fields, message })) if !fields.ends_session => message,
            Err(error) => return Err(error),
        };
        // While settings were switched: a cancel, or a time limit. What they are, and what the statement is, nobody knows.
        if !self.is_settled(turn).await {
            let reason = "a cancel may come at any time".into();
            let loss = Loss::RolledBack;
            return Err(SessionError::ServerLost { reason, loss }.into());
        }
        let mut flight = Flight::default();
        say::close_statement(put.name, &mut flight.bytes);
        flight.sync();
        if let Some(under) = &under {
            flight.switch(under, &self.profile);
        }
        match self.fly(turn, &mut flight).await {
            Ok(_) => Ok(Some(body(&error))),
            Err(BringError::Talk(error)) => {
                let (reason, loss) = (error.to_string(), Loss::RolledBack);
                Err(SessionError::ServerLost { reason, loss }.into())
            }
            Err(error) => Err(error),
        }
    }
}

impl Turn {
    /// Something was refused within the client's transaction.
    fn fails(&mut self) {
        if self.loan.status == b'T' {
            self.loan.status = b'E';
        }
    }
}

impl Enders<'_> {
    /// Waits until the client has left, or may not be here any more, until pgwake stops, or the compute is gone; `counts`:
    /// whether the compute stays awake for the client. Cancel safe.
    async fn ended(mut self, counts: bool) -> TalkError {
        let mut check = pin!(sleep_until(Instant::now() + HANG_UP_CHECK));
        let is_over = |signal: &LeaseSignal| signal.is_over();
        let mut lost = pin!(self.lease.wait_for(is_over));
        let end = poll_fn(|cx| {
            if let Poll::Ready(lost) = lost.as_mut().poll(cx) {
                return Poll::Ready(match lost.as_deref() {
                    Ok(LeaseSignal::Lost(reason)) => End::ComputeLost(reason.clone()),
                    Ok(LeaseSignal::Suspended) if !counts => End::CutOff,
                    _ => End::ComputeLost("the compute was suspended".into()),
                });
            }
            if self.shutdown.poll_reached(cx, Phase::Stopping).is_ready() {
                return Poll::Ready(End::ShutDown);
            }
            // One whose endpoint is gone may finish.
            if let Some(lost @ (Dismissal::Address | Dismissal::Server)) = self.standing.lost() {
                return Poll::Ready(End::Dismissed(lost));
            }
            while check.as_mut().poll(cx).is_ready() {
                if self.client.is_some_and(Stream::has_hung_up) {
                    return Poll::Ready(End::ClientGone);
                }
                check.as_mut().reset(Instant::now() + HANG_UP_CHECK);
            }
            Poll::Pending
        });
        TalkError::Over(Box::new(end.await))
    }
}

/// An ErrorResponse without its header.
fn body(message: &Bytes) -> Bytes {
    message.slice(HEADER_BYTES..)
}
